// The price of an order in cents, with a discount in percent from ten pieces on.
exports.total = (pieces, price, discount) => {
  const sum = pieces * price;
  return pieces > 10 ? sum - (sum * discount) / 100 : sum;
};
