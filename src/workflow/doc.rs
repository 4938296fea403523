//! What the comments of a component's WIT say. WIT keeps a comment for a function but none for a parameter, so what
//! the function's comment says of a parameter is taken from it: "`ref` a branch, tag or commit (`main` where absent)".

use crate::workflow::literal;
use crate::workflow::types::{Field, FunctionType, Type};
use serde_json::Value;

/// The documentation of a parameter.
#[derive(Debug, PartialEq)]
pub(crate) struct Parameter {
    /// What it is, and its type.
    pub(crate) text: String,
    /// The value that stands in for it, where the comment says which.
    pub(crate) default: Option<Value>,
}

/// The comment of a function as one line.
pub(crate) fn whole(function: &FunctionType) -> Option<String> {
    let doc = function.doc.as_ref()?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!doc.is_empty()).then_some(doc)
}

/// Its first sentence.
pub(crate) fn summary(function: &FunctionType) -> Option<String> {
    let doc = whole(function)?;
    sentences(&doc).next().map(str::to_owned)
}

/// The part of a function's comment that is about one of its parameters.
pub(crate) fn told(function: &FunctionType, parameter: &str) -> Option<String> {
    Some(Mention::of(&whole(function)?, function, parameter)?.text())
}

/// What the comment of a function says of one of its parameters, with its type.
pub(crate) fn parameter(function: &FunctionType, parameter: &Field) -> Parameter {
    let doc = whole(function).unwrap_or_default();
    let told = Mention::of(&doc, function, &parameter.name);
    let ty = match &parameter.ty {
        Type::Option(inner) => format!("{inner}, optional"),
        ty => ty.to_string(),
    };
    let text = match &told {
        Some(mention) => format!("{} Type: {ty}.", mention.text()),
        None => format!("The argument `{}`. Type: {ty}.", parameter.name),
    };
    let inner = if let Type::Option(inner) = &parameter.ty {
        inner
    } else {
        return Parameter { text, default: None };
    };
    let default = told.and_then(|mention| literal::scalar(mention.default()?, inner).ok());
    Parameter { text, default }
}

fn sentences(doc: &str) -> impl Iterator<Item = &str> {
    doc.split_inclusive(". ").map(str::trim)
}

/// Where a sentence names a parameter.
struct Mention<'d> {
    sentence: &'d str,
    /// From the name up to the next parameter, or to the end.
    part: &'d str,
    /// Whether the part stands by itself, as one of a list of parameters.
    alone: bool,
    /// The parameter, in snake_case.
    name: &'d str,
}

impl<'d> Mention<'d> {
    fn of(doc: &'d str, function: &FunctionType, name: &'d str) -> Option<Self> {
        sentences(doc).find_map(|sentence| Self::find(sentence, function, name))
    }

    fn find(sentence: &'d str, function: &FunctionType, name: &'d str) -> Option<Self> {
        let quoted = |name: &str| [format!("`{name}`"), format!("`{}`", name.replace('_', "-"))];
        let place = |name: &str| quoted(name).iter().filter_map(|quoted| sentence.find(quoted)).min();
        let start = place(name)?;
        let others = function.parameters.iter().filter_map(|other| place(&other.name));
        let end = others.filter(|other| *other > start).min().unwrap_or(sentence.len());
        let before = sentence[..start].trim_end();
        let alone = before.is_empty() || before.ends_with([',', ';', ':']);
        Some(Self { sentence, part: &sentence[start..end], alone, name })
    }

    /// The part where it says something, and else the sentence.
    fn text(&self) -> String {
        const LEAST_WORDS: usize = 3;
        const SEPARATORS: [char; 3] = [',', ';', ':'];
        let mut part = self.part.trim_end();
        let ends = self.sentence.ends_with(part) || part.ends_with(SEPARATORS);
        if let (false, Some(end)) = (ends, part.rfind(SEPARATORS)) {
            // The next parameter is named in the midst of what is said of it.
            part = &part[..end];
        }
        let part = part.trim_end_matches([' ', ',', ';', ':', '.']);
        let text = match self.alone && part.split(' ').count() >= LEAST_WORDS {
            true => format!("{part}."),
            false => self.sentence.to_owned(),
        };
        text.replace(&format!("`{}`", self.name.replace('_', "-")), &format!("`{}`", self.name))
    }

    /// `x` of "(`x` where absent)".
    fn default(&self) -> Option<&'d str> {
        let (before, _) = self.part.split_once("` where absent)")?;
        before.rsplit_once("(`").map(|(_, default)| default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clone() -> FunctionType {
        let optional = || Type::Option(Box::new(Type::String));
        let field = |name: &str, ty| Field { name: name.into(), ty, doc: None };
        FunctionType {
            name: "clone".into(),
            doc: Some(
                "Clones a repository: `repo` is owner/name,\na URL or a path, `ref` a branch, `into` the parent \
                 (`/workspace` where absent). `no-verify` skips hooks; everything in `place` is kept. Done."
                    .into(),
            ),
            parameters: vec![
                field("repo", Type::String),
                field("ref", optional()),
                field("into", optional()),
                field("no_verify", Type::Option(Box::new(Type::Bool))),
                field("place", Type::String),
                field("other", Type::List(Box::new(Type::String))),
            ],
            sandboxes: Vec::new(),
            secrets: Vec::new(),
            any_secrets: None,
            outputs: Vec::new(),
            errors: None,
        }
    }

    #[test]
    fn parameters_are_documented_by_their_part_of_the_comment() {
        let function = clone();
        let told = |at: usize| parameter(&function, &function.parameters[at]);
        assert_eq!(told(0).text, "`repo` is owner/name, a URL or a path. Type: string.");
        assert_eq!(told(1).text, "`ref` a branch. Type: string, optional.");
        assert_eq!(told(2).text, "`into` the parent (`/workspace` where absent). Type: string, optional.");
        assert_eq!(told(2).default, Some(json!("/workspace")));
        assert_eq!(told(3).text, "`no_verify` skips hooks. Type: bool, optional.");
        assert_eq!(told(4).text, "`no-verify` skips hooks; everything in `place` is kept. Type: string.");
        assert_eq!(told(5).text, "The argument `other`. Type: list<string>.");
        assert_eq!(
            summary(&function).unwrap(),
            "Clones a repository: `repo` is owner/name, a URL or a path, `ref` a branch, `into` the parent (`/workspace` where absent)."
        );
    }
}
