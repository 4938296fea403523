//! Where a step of a run stands, as pictures show it: always as a word and a sign, and where there are colours, in one.

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

/// What a step of no run looks like.
pub(super) const NONE: State = state("", "○", "o", "#f4f6f8", "#7b8794");

/// A state without a picture of its own.
const OTHER: State = state("other", "?", "?", "#f4f6f8", "#7b8794");

const ALL: [State; 7] = [
    state("pending", "○", "o", "#f4f6f8", "#7b8794"),
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

impl State {
    /// The state of this word.
    pub(super) fn of(word: &str) -> Self {
        ALL.into_iter().find(|state| state.word == word).unwrap_or(OTHER)
    }

    /// `✓ succeeded`.
    pub(super) fn told(self) -> String {
        format!("{} {}", self.sign, self.word)
    }
}
