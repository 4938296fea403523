//! List prices of models. What a budget is held against, so an unknown model counts as the dearest.

use crate::step::Spent;

/// Tokens of one message, by what they are billed as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read, outside the cache.
    pub input: u64,
    /// Read and written to the cache for five minutes.
    pub cache_write: u64,
    /// Read and written to the cache for an hour.
    pub cache_write_long: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written.
    pub output: u64,
    /// Searches of the web that the model's own tool made.
    pub searches: u64,
}

/// Cents for a million tokens.
struct Price {
    /// The beginning of the model's name, without `claude-`.
    model: &'static str,
    input: u64,
    output: u64,
    cache_read: u64,
}

const fn price(model: &'static str, input: u64, output: u64, cache_read: u64) -> Price {
    Price { model, input, output, cache_read }
}

/// The first that fits counts: special names stand before general ones. As the Claude Code CLI 2.1.330 bills them;
/// of those that it does not know any more, the last list price.
const PRICES: [Price; 13] = [
    price("opus-5-5", 400, 2000, 20),
    price("opus-4-1", 1500, 7500, 150),
    price("opus-4-0", 1500, 7500, 150),
    price("opus-4-2", 1500, 7500, 150),
    price("opus-", 500, 2500, 50),
    price("sonnet-5", 200, 1000, 20),
    price("sonnet-", 300, 1500, 30),
    price("haiku-", 100, 500, 10),
    price("fable-", 1000, 5000, 100),
    price("3-5-haiku", 80, 400, 8),
    price("3-haiku", 25, 125, 3),
    price("3-opus", 1500, 7500, 150),
    price("3-", 300, 1500, 30),
];

/// For models that are not in the table.
const DEAREST: Price = price("", 1500, 7500, 150);

/// What one search of the web costs, in the unit of the sum below: a cent.
const SEARCH: u64 = 10_000 * 10_000;

/// What a message of a model costs. Rounded up to a millionth of a dollar.
pub fn spent(model: &str, usage: Usage) -> Spent {
    let name = model.find("claude-").map_or(model, |at| &model[at + "claude-".len()..]);
    let price = PRICES.iter().find(|price| name.starts_with(price.model)).unwrap_or(&DEAREST);
    // A cent for a million tokens is a hundredth of a millionth of a dollar for one. Writing to the cache costs a
    // quarter more than reading, for an hour twice as much.
    let parts = [
        (usage.input, price.input * 100),
        (usage.cache_write, price.input * 125),
        (usage.cache_write_long, price.input * 200),
        (usage.cache_read, price.cache_read * 100),
        (usage.output, price.output * 100),
        (usage.searches, SEARCH),
    ];
    let sum: u128 = parts.iter().map(|(tokens, each)| u128::from(*tokens) * u128::from(*each)).sum();
    let read = [usage.input, usage.cache_write, usage.cache_write_long, usage.cache_read];
    Spent {
        micro_usd: u64::try_from(sum.div_ceil(10_000)).unwrap_or(u64::MAX),
        input_tokens: read.into_iter().fold(0, u64::saturating_add),
        output_tokens: usage.output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_cost_what_the_cli_bills() {
        const MILLION: u64 = 1_000_000;
        let usd = |model, usage| spent(model, usage).usd();
        let input = Usage { input: MILLION, ..Usage::default() };
        let output = Usage { output: MILLION, ..Usage::default() };
        let written = Usage { cache_write: MILLION, ..Usage::default() };
        let read = Usage { cache_read: MILLION, ..Usage::default() };
        for (model, expected) in [
            ("claude-opus-5-5", [4.0, 20.0, 5.0, 0.2]),
            ("claude-opus-4-8", [5.0, 25.0, 6.25, 0.5]),
            ("claude-opus-4-1-20250805", [15.0, 75.0, 18.75, 1.5]),
            ("claude-opus-4-20250514", [15.0, 75.0, 18.75, 1.5]),
            ("claude-sonnet-5", [2.0, 10.0, 2.5, 0.2]),
            ("claude-sonnet-4-5", [3.0, 15.0, 3.75, 0.3]),
            ("us.anthropic.claude-haiku-4-5", [1.0, 5.0, 1.25, 0.1]),
            ("claude-3-5-haiku-20241022", [0.8, 4.0, 1.0, 0.08]),
            ("claude-fable-5", [10.0, 50.0, 12.5, 1.0]),
            ("a-model-of-the-future", [15.0, 75.0, 18.75, 1.5]),
        ] {
            assert_eq!([input, output, written, read].map(|usage| usd(model, usage)), expected, "{model}");
        }
    }

    #[test]
    fn a_fraction_is_a_whole_millionth() {
        let usage = Usage { cache_read: 1, ..Usage::default() };
        assert_eq!(
            spent("claude-haiku-4-5", usage),
            Spent { micro_usd: 1, input_tokens: 1, output_tokens: 0 }
        );
        assert_eq!(spent("claude-haiku-4-5", Usage::default()), Spent::default());
    }
}
