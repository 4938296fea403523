//! The commands of a Dockerfile, as far as sandboxes need them.

use std::collections::BTreeMap;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    From(String),
    Run(Words),
    Env(Vec<(String, String)>),
    Arg(String, Option<String>),
    Workdir(String),
    Copy {
        sources: Vec<String>,
        target: String,
    },
    User(String),
    Cmd(Words),
    Shell(Vec<String>),
    /// What changes no file system.
    Nothing,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// For a shell.
    Shell(String),
    /// The words themselves.
    Exec(Vec<String>),
}

/// Reads commands. The error says which one is not understood.
pub(super) fn parse(commands: &[String]) -> Result<Vec<Instruction>, String> {
    let text = commands.join("\n");
    let mut instructions = Vec::new();
    let mut whole = String::new();
    for line in text.lines() {
        let begun = !whole.is_empty();
        if line.trim_start().starts_with('#') || (line.trim().is_empty() && !begun) {
            continue;
        }
        match line.trim_end().strip_suffix('\\') {
            Some(part) => whole.push_str(part),
            None => {
                whole.push_str(line);
                instructions.push(instruction(whole.trim())?);
                whole.clear();
            }
        }
    }
    if !whole.is_empty() {
        instructions.push(instruction(whole.trim())?);
    }
    Ok(instructions)
}

fn instruction(line: &str) -> Result<Instruction, String> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let unknown = || format!("this server does not understand `{line}`");
    if rest.starts_with("--") {
        return Err(unknown());
    }
    Ok(match &*name.to_ascii_uppercase() {
        "FROM" if !rest.contains(char::is_whitespace) => Instruction::From(rest.into()),
        "RUN" if !rest.is_empty() => Instruction::Run(words(rest)),
        "ENV" => Instruction::Env(pairs(rest).ok_or_else(unknown)?),
        "ARG" => match rest.split_once('=') {
            Some((name, value)) => {
                Instruction::Arg(name.into(), Some(unquoted(value).ok_or_else(unknown)?.concat()))
            }
            None => Instruction::Arg(rest.into(), None),
        },
        "WORKDIR" if !rest.is_empty() => Instruction::Workdir(rest.into()),
        "COPY" | "ADD" => {
            let mut all = match words(rest) {
                Words::Exec(words) => words,
                Words::Shell(line) => unquoted(&line).ok_or_else(unknown)?,
            };
            let target = all.pop().filter(|_| !all.is_empty()).ok_or_else(unknown)?;
            Instruction::Copy { sources: all, target }
        }
        "USER" => Instruction::User(rest.into()),
        "CMD" => Instruction::Cmd(words(rest)),
        // Modal wraps entrypoints in its own; sandboxes run what they are given.
        "ENTRYPOINT" | "LABEL" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "MAINTAINER" => {
            Instruction::Nothing
        }
        "SHELL" => match words(rest) {
            Words::Exec(words) => Instruction::Shell(words),
            Words::Shell(_) => return Err(unknown()),
        },
        _ => return Err(unknown()),
    })
}

fn words(text: &str) -> Words {
    match serde_json::from_str(text) {
        Ok(words) if text.starts_with('[') => Words::Exec(words),
        _ => Words::Shell(text.into()),
    }
}

/// `A=1 B="2 3"`, or `A 1` for one.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split(char::is_whitespace).next()?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.into(), value.trim().into())]);
    }
    unquoted(text)?
        .iter()
        .map(|word| word.split_once('=').map(|(name, value)| (name.into(), value.into())))
        .collect()
}

/// Words without their quotes. What single quotes hold is marked, so that no variable is looked for in it. `None` where
/// a quote does not end.
fn unquoted(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        '$' => word.push(LITERAL_DOLLAR),
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => escaped(letters.next()?, word),
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => escaped(letters.next()?, word.get_or_insert_default()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

/// Stands for a `$` that begins no variable.
const LITERAL_DOLLAR: char = '\u{f0024}';

fn escaped(letter: char, word: &mut String) {
    word.push(if letter == '$' { LITERAL_DOLLAR } else { letter });
}

/// Puts the values of variables in: `$NAME`, `${NAME}`, `${NAME:-default}`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, default, tail) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((inner, tail)) => {
                let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
                (name, default, tail)
            }
            None => {
                let end = after.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                let (name, tail) = after.split_at(end.unwrap_or(after.len()));
                (name, "", tail)
            }
        };
        match name {
            "" => expanded.push('$'),
            _ => expanded.push_str(variables.get(name).map_or(default, String::as_str)),
        }
        rest = tail;
    }
    expanded.push_str(rest);
    expanded.replace(LITERAL_DOLLAR, "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_docker_reads_them() {
        let read = |text: &str| parse(&[text.to_owned()]).unwrap();
        assert_eq!(read("FROM debian:bookworm-slim")[0], Instruction::From("debian:bookworm-slim".into()));
        assert_eq!(read("RUN a && \\\n  b")[0], Instruction::Run(Words::Shell("a &&   b".into())));
        assert_eq!(
            read(r#"CMD ["sleep", "1"]"#)[0],
            Instruction::Cmd(Words::Exec(vec!["sleep".into(), "1".into()]))
        );
        assert_eq!(
            read("# nothing\nENV A=1 B='2 3' C=\"4 5\""),
            [Instruction::Env(vec![
                ("A".into(), "1".into()),
                ("B".into(), "2 3".into()),
                ("C".into(), "4 5".into()),
            ])]
        );
        assert_eq!(read("ENV A b c")[0], Instruction::Env(vec![("A".into(), "b c".into())]));
        assert!(parse(&["COPY --from=other /a /b".into()]).unwrap_err().contains("--from=other"));
        assert!(parse(&["FLY /a".into()]).unwrap_err().contains("FLY /a"));
    }

    #[test]
    fn variables_are_put_in_but_not_where_single_quotes_are() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("$A-${A}-${B:-2}-$B-$", &variables), "1-1-2--$");
        let Instruction::Env(pairs) = instruction("ENV X='$A' Y=$A Z=\"\\$A\"").unwrap() else { panic!() };
        let values: Vec<_> = pairs.iter().map(|(_, value)| expand(value, &variables)).collect();
        assert_eq!(values, ["$A", "1", "$A"]);
    }
}
