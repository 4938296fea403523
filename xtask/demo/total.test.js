const test = require("node:test");
const assert = require("node:assert");
const { total } = require("./total.js");

test("nine pieces cost their price", () => assert.strictEqual(total(9, 100, 5), 900));
test("ten pieces have the discount", () => assert.strictEqual(total(10, 100, 5), 950));
