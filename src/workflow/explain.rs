//! What each diagnostic means: a paragraph, a file that has the mistake, and one that does not. The texts are data, a
//! file `explain/CODE.md` each, and every example is checked by a test. Nothing here knows how a mistake is found.

use super::code::Code;
use std::fmt;

/// The explanation of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which code.
    pub code: Code,
    /// What is wrong, and why it is refused or warned of: one paragraph.
    pub text: &'static str,
    /// A whole workflow file that gets this diagnostic and no other.
    pub bad: &'static str,
    /// The same file as it should be: it gets none.
    pub good: &'static str,
    /// All of it as Markdown.
    pub markdown: &'static str,
}

macro_rules! explained {
    ($($id:literal)*) => {
        /// Every code that has an explanation, with its text.
        const TEXTS: &[(&str, &str)] = &[$(($id, include_str!(concat!("explain/", $id, ".md")))),*];
    };
}

// A new code goes here, and its text into a file of that name.
explained! {
    "E0101" "E0102" "E0103" "E0104" "E0105" "E0106" "E0107" "E0108" "E0109"
    "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0207" "E0208"
    "E0301" "E0302" "E0310" "E0311" "E0312" "E0313" "E0314" "E0315" "E0316" "E0317" "E0318" "E0319"
    "E0401" "E0402" "E0403" "E0404" "E0405" "E0406" "E0407" "E0408" "E0409" "E0410"
    "E0501" "E0502" "E0503" "E0504" "E0505" "E0506" "E0507" "E0508" "E0509"
    "E0601" "E0602" "E0603" "E0604" "E0605" "E0606"
    "E0701"
    "E0801"
    "E0901" "E0902" "E0903"
    "W0101" "W0102" "W0103" "W0104"
}

impl Explanation {
    /// The explanation of a code.
    pub fn of(code: Code) -> Option<Self> {
        let (_, markdown) = TEXTS.iter().find(|(id, _)| *id == code.id)?;
        read(code, markdown)
    }
}

/// Takes a file of `explain/` apart: a paragraph, then a fenced example after `Bad:` and one after `Good:`.
fn read(code: Code, markdown: &'static str) -> Option<Explanation> {
    const END: &str = "```\n";
    let (text, rest) = markdown.split_once("\n\nBad:\n\n```yaml\n")?;
    let (bad, rest) = rest.split_once(END)?;
    let good = rest.strip_prefix("\nGood:\n\n```yaml\n")?.strip_suffix(END)?;
    Some(Explanation { code, text: text.trim(), bad, good, markdown })
}

impl fmt::Display for Explanation {
    /// As a terminal shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |f: &mut fmt::Formatter<'_>, example: &str| {
            example.lines().try_for_each(|line| writeln!(f, "    {line}"))
        };
        writeln!(f, "{}: {}\n\n{}\n\nBad:\n", self.code.id, self.code.title, self.text)?;
        indented(f, self.bad)?;
        writeln!(f, "\nGood:\n")?;
        indented(f, self.good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::check::check;
    use crate::workflow::code;
    use crate::workflow::fixture;

    #[test]
    fn every_code_has_an_explanation() {
        let without: Vec<_> = code::ALL.iter().filter(|code| Explanation::of(**code).is_none()).collect();
        assert!(
            without.is_empty(),
            "these codes have no explanation that can be read: {without:#?}\nwrite src/workflow/explain/CODE.md \
             in the form of its neighbours, and list the code in src/workflow/explain.rs"
        );
        let unknown: Vec<_> = TEXTS.iter().map(|(id, _)| id).filter(|id| Code::find(id).is_none()).collect();
        assert!(unknown.is_empty(), "explained, but no codes: {unknown:?}");
    }

    #[test]
    fn examples_have_the_mistake_and_only_that() {
        let mut faults = Vec::new();
        for explanation in code::ALL.iter().filter_map(|code| Explanation::of(*code)) {
            let found = |text: &str| check("w.yaml", text, &fixture::catalog()).diagnostics;
            let shown = |text: &str| found(text).iter().map(|found| found.render(false)).collect::<String>();
            let id = explanation.code.id;
            if found(explanation.bad).iter().map(|found| found.code.id).collect::<Vec<_>>() != [id] {
                faults.push(format!("{id}.md, bad: want this one alone\n{}", shown(explanation.bad)));
            }
            if !found(explanation.good).is_empty() {
                faults.push(format!("{id}.md, good: want none\n{}", shown(explanation.good)));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_terminal_shows_it_all() {
        insta::assert_snapshot!(Explanation::of(code::UNKNOWN_FUNCTION_OF_COMPONENT).unwrap().to_string(), @r"
        E0403: an unknown function of a component

        The component exists, but has no function of that name. Its step functions are the exported ones that return a `result`.

        Bad:

            harvest: 1
            name: hello
            steps:
              hello:
                uses: exec/execute
                with: { command: [echo, hello] }

        Good:

            harvest: 1
            name: hello
            steps:
              hello:
                uses: exec/run
                with: { command: [echo, hello] }
        ");
    }
}
