//! Text that arrives a few characters at a time, told in pieces that a terminal shows well: whole lines, or whole words of
//! a long one. The pieces joined are the text.

/// Bytes of an unfinished line that are held back.
const HELD_MAX: usize = 400;

/// Text on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pieces(String);

impl Pieces {
    /// Takes in what has arrived; returns what can be told.
    pub fn push(&mut self, text: &str) -> Option<String> {
        self.0.push_str(text);
        let mut end = self.0.rfind('\n').map_or(0, |at| at + 1);
        if end == 0 && self.0.len() > HELD_MAX {
            end = self.0.rfind(' ').map_or(self.0.len(), |at| at + 1);
        }
        (end > 0).then(|| {
            let rest = self.0.split_off(end);
            std::mem::replace(&mut self.0, rest)
        })
    }

    /// What is left.
    pub fn finish(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.0)).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_lines_and_join_to_the_text() {
        let mut pieces = Pieces::default();
        let told: Vec<_> =
            ["I lo", "ok.\nThen", " I\nact", ""].iter().filter_map(|text| pieces.push(text)).collect();
        assert_eq!(told, ["I look.\n", "Then I\n"]);
        assert_eq!((pieces.finish().as_deref(), pieces.finish()), (Some("act"), None));
        let long = "word ".repeat(100);
        let first = pieces.push(&long).unwrap();
        assert_eq!(first.clone() + &pieces.finish().unwrap_or_default(), long);
        assert!(first.ends_with(' '));
    }
}
