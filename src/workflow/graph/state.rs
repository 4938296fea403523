//! Where a step of a run stands, as pictures show it: always as a word and a sign, and where there are colours, in one.

use super::What;

/// A state with its sign and colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// As in JSON and expressions.
    pub(super) word: &'static str,
    /// For pictures that can show any character.
    pub(super) sign: &'static str,
    /// For those that cannot.
    pub(super) plain: &'static str,
    /// Light enough for dark text.
    pub(super) fill: &'static str,
    /// Dark enough for a line on white, light enough for one on black.
    pub(super) line: &'static str,
}

/// What a step of no run looks like, by what it does.
pub(super) fn none(what: What) -> State {
    let (sign, plain) = match what {
        What::Call => (NONE.sign, NONE.plain),
        What::Workflow => ("▣", "#"),
        What::Approve => ("◇", "?"),
        What::ForEach => ("↻", "@"),
    };
    State { sign, plain, ..NONE }
}

const NONE: State = state("", "○", "o", "#f4f6f8", "#7b8794");

/// A state without a picture of its own.
const OTHER: State = state("other", "?", "?", "#f4f6f8", "#7b8794");

const ALL: [State; 8] = [
    state("pending", "○", "o", "#f4f6f8", "#7b8794"),
    state("queued", "◌", "=", "#fff3d1", "#c08a00"),
    state("running", "▶", ">", "#dcebff", "#2f7de1"),
    state("waiting", "…", "~", "#fff3d1", "#c08a00"),
    state("succeeded", "✓", "*", "#dcf5e3", "#2e9e52"),
    state("failed", "✗", "x", "#ffe1df", "#e0453a"),
    state("skipped", "–", "-", "#eceff1", "#8a8f98"),
    state("cancelled", "⊘", "!", "#f3e3f7", "#a45bb5"),
];

const fn state(
    word: &'static str,
    sign: &'static str,
    plain: &'static str,
    fill: &'static str,
    line: &'static str,
) -> State {
    State { word, sign, plain, fill, line }
}

/// Where a step of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub(super) state: State,
    /// Of a loop that has begun: how many of its items are over, and how many there are.
    items: Option<(usize, usize)>,
}

/// Of the states that one step has for several items, the one that is told: what needs a look comes first.
const TELLING: [&str; 8] =
    ["failed", "waiting", "running", "queued", "cancelled", "pending", "succeeded", "skipped"];

impl Standing {
    /// A step in one of the states that expressions see.
    pub fn step(state: &str) -> Self {
        Self { state: State::of(state), items: None }
    }

    /// A loop that has begun, with how many of its items are over.
    pub fn each(state: &str, over: usize, items: usize) -> Self {
        Self { state: State::of(state), items: Some((over, items)) }
    }

    /// A step of a loop, from where it stands for each item: the most telling of all.
    pub fn of_items<'s>(states: impl IntoIterator<Item = &'s str>) -> Self {
        let rank = |state: &str| TELLING.iter().position(|known| *known == state).unwrap_or(TELLING.len());
        let found = states.into_iter().map(|state| (rank(state), state)).min();
        Self::step(found.map_or("pending", |(_, state)| state))
    }

    /// `running, 3/10 items`.
    pub(super) fn words(self) -> String {
        match self.items {
            Some((over, items)) => format!("{}, {over}/{items} items", self.state.word),
            None => self.state.word.to_owned(),
        }
    }

    /// `✓ succeeded`.
    pub(super) fn told(self) -> String {
        format!("{} {}", self.state.sign, self.words())
    }
}

impl State {
    /// The state of this word.
    pub(super) fn of(word: &str) -> Self {
        ALL.into_iter().find(|state| state.word == word).unwrap_or(OTHER)
    }
}
