//! From a value of the file and the type it must have to a template whose holes are checked.

use super::shape::{spare, split_help};
use crate::workflow::cel::typing::{self, Names, Usage, Wanted, article};
use crate::workflow::code::{self, Code};
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::literal;
use crate::workflow::model::{Expression, Template};
use crate::workflow::suggest;
use crate::workflow::template::{self, Piece};
use crate::workflow::types::{Field, Type};
use indexmap::IndexMap;
use serde_json::Value;

/// What values are read with.
pub(super) struct Values<'a> {
    pub(super) report: &'a mut Report,
    pub(super) names: &'a Names<'a>,
    pub(super) usage: &'a mut Usage,
    /// The code of a value of the wrong type.
    pub(super) code: Code,
}

impl Values<'_> {
    /// The template of `node` as a value of `ty`; `what` names it in messages.
    pub(super) fn read(&mut self, node: &Node, ty: &Type, what: &str) -> Option<Template> {
        let inner = if let Type::Option(inner) = ty { inner } else { ty };
        match &node.kind {
            Kind::Null if matches!(ty, Type::Option(_) | Type::Any) => Some(Template::Literal(Value::Null)),
            Kind::Null => {
                self.wrong(node, format!("{what} has no value"), Some(format!("give it {}", article(ty))));
                None
            }
            Kind::Scalar { text, plain } => self.scalar(node, text, *plain, ty, what),
            Kind::List(items) => match inner {
                Type::List(item) => {
                    let items: Vec<_> =
                        items.iter().map(|node| self.read(node, item, &item_of(what))).collect();
                    items.into_iter().collect::<Option<_>>().map(fold_list)
                }
                Type::Tuple(types) if types.len() == items.len() => {
                    let items: Vec<_> = items
                        .iter()
                        .zip(types)
                        .map(|(node, ty)| self.read(node, ty, &item_of(what)))
                        .collect();
                    items.into_iter().collect::<Option<_>>().map(fold_list)
                }
                Type::Any => self.infer(node).map(|(template, _)| template),
                _ => self.shape(node, ty, what),
            },
            Kind::Map(entries) => match inner {
                Type::Record(fields) => self.record(node, entries, fields, what),
                Type::Map(value) => {
                    let mut read = |entry: &Entry| {
                        let template =
                            self.read(&entry.value, value, &format!("`{}` of {what}", entry.key))?;
                        Some((entry.key.clone(), template))
                    };
                    let fields: Vec<_> = entries.iter().map(&mut read).collect();
                    fields.into_iter().collect::<Option<_>>().map(fold_object)
                }
                Type::Variant(cases) => self.variant(node, entries, cases, what),
                Type::Any => self.infer(node).map(|(template, _)| template),
                _ => self.shape(node, ty, what),
            },
        }
    }

    /// The template of a value that may be anything, with its type.
    pub(super) fn infer(&mut self, node: &Node) -> Option<(Template, Option<Type>)> {
        match &node.kind {
            Kind::Null => Some((Template::Literal(Value::Null), Some(typing::null()))),
            Kind::Scalar { text, plain } => {
                let pieces = self.pieces(node, text)?;
                if let [Piece::Hole { text, offset }] = pieces.as_slice() {
                    let (ty, fine) = self.hole(node, text, *offset, Wanted::Anything);
                    return fine.then(|| (Template::Expression(Expression(text.clone())), ty));
                }
                if let [Piece::Text(text)] = pieces.as_slice() {
                    let ty = if *plain { Type::Any } else { Type::String };
                    let value = literal::scalar(text, &ty).unwrap_or_else(|_| text.as_str().into());
                    let ty = match &value {
                        Value::Bool(_) => Type::Bool,
                        Value::Number(number) if number.is_f64() => Type::Float,
                        Value::Number(_) => Type::Int,
                        _ => Type::String,
                    };
                    return Some((Template::Literal(value), Some(ty)));
                }
                self.text_holes(node, &pieces).then(|| (Template::of_pieces(pieces), Some(Type::String)))
            }
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.infer(item)).collect();
                let (items, types): (Vec<_>, Vec<_>) =
                    items.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
                let types = types.into_iter().collect::<Option<Vec<_>>>();
                let uniform =
                    types.as_ref().is_some_and(|types| types.windows(2).all(|pair| pair[0] == pair[1]));
                let ty = types.map(|types| match types.first() {
                    Some(first) if uniform => Type::List(Box::new(first.clone())),
                    _ => Type::Tuple(types),
                });
                Some((fold_list(items), ty))
            }
            Kind::Map(entries) => {
                let fields: Vec<_> = entries.iter().map(|entry| self.infer(&entry.value)).collect();
                let mut object = IndexMap::new();
                let mut types = Some(Vec::new());
                for (entry, field) in entries.iter().zip(fields) {
                    let (template, ty) = field?;
                    object.insert(entry.key.clone(), template);
                    types = types.zip(ty).map(|(mut types, ty)| {
                        types.push(Field { name: entry.key.clone(), ty, doc: None });
                        types
                    });
                }
                Some((fold_object(object), types.map(Type::Record)))
            }
        }
    }

    /// A bare expression that must be a bool, as in `if:`.
    pub(super) fn condition(&mut self, entry: &Entry, text: &str) -> Option<Expression> {
        if text.contains("${{") {
            let help = match only_hole(text) {
                Some((inner, _)) => format!("write `{}: {inner}`", entry.key),
                None => {
                    "write the whole condition as one expression, such as `if: inputs.level == 'high'`".into()
                }
            };
            self.braces(&entry.value, text, "a condition", help);
            return None;
        }
        self.bare(&entry.value, text, Wanted::Condition)
    }

    /// A bare expression, as the parts of a cache's key are.
    pub(super) fn bare(&mut self, node: &Node, text: &str, wanted: Wanted<'_>) -> Option<Expression> {
        if text.contains("${{") {
            let help = match only_hole(text) {
                Some((inner, _)) => format!("write `{inner}`"),
                None => "write one expression, such as `inputs.repo + '/' + inputs.branch`".into(),
            };
            self.braces(node, text, "this", help);
            return None;
        }
        let (trimmed, lead) = (text.trim(), text.len() - text.trim_start().len());
        let (_, fine) = self.hole(node, trimmed, lead, wanted);
        fine.then(|| Expression(trimmed.to_owned()))
    }

    /// An expression that may be written bare or as exactly one `${{ }}`, with its type.
    pub(super) fn expression(
        &mut self,
        node: &Node,
        text: &str,
        wanted: Wanted<'_>,
    ) -> Option<(Expression, Option<Type>)> {
        let Some((inner, offset)) = only_expression(text) else {
            let help = "write one expression, such as `${{ steps.registry.repos }}`";
            let span = node.locate(&self.report.source, text.find("${{").unwrap_or_default(), "${{");
            self.report
                .add(code::EXPRESSION_SYNTAX, span, "this is text with expressions in it, not one expression")
                .help(help);
            return None;
        };
        let (ty, fine) = self.hole(node, &inner, offset, wanted);
        fine.then_some((Expression(inner), ty))
    }

    fn braces(&mut self, node: &Node, text: &str, what: &str, help: String) {
        let at = text.find("${{").unwrap_or_default();
        let (trimmed, lead) = (text.trim(), text.len() - text.trim_start().len());
        let span = node.locate(&self.report.source, at, "${{");
        let whole =
            node.is_verbatim(&self.report.source).then(|| node.locate(&self.report.source, lead, trimmed));
        let message = format!("{what} is an expression already, without `${{{{ }}}}`");
        let diagnostic = self.report.add(code::EXPRESSION_SYNTAX, span, message).help(help);
        if let (Some((inner, _)), Some(whole)) = (only_hole(text), whole) {
            diagnostic.fix_at(whole, inner);
        }
    }

    fn wrong(&mut self, node: &Node, message: String, help: Option<String>) {
        self.report.add(self.code, node.span.clone(), message).maybe_suggest(help);
    }

    fn shape(&mut self, node: &Node, ty: &Type, what: &str) -> Option<Template> {
        let help = match ty {
            Type::String => Some("quote the text".to_owned()),
            Type::List(_) => Some("write `[a, b]`, or one item a line after `- `".to_owned()),
            _ => None,
        };
        self.wrong(node, format!("{what} must be {}, not {}", article(ty), node.describe()), help);
        None
    }

    fn pieces(&mut self, node: &Node, text: &str) -> Option<Vec<Piece>> {
        template::split(text)
            .map_err(|unclosed| {
                let span = node.locate(&self.report.source, unclosed.offset, "${{");
                self.report
                    .add(code::UNCLOSED, span, "`${{` is not closed")
                    .help("write `${{ expression }}`; `$${{` stands for the text itself");
            })
            .ok()
    }

    fn scalar(&mut self, node: &Node, text: &str, plain: bool, ty: &Type, what: &str) -> Option<Template> {
        let pieces = self.pieces(node, text)?;
        match pieces.as_slice() {
            [Piece::Hole { text, offset }] => {
                let (_, fine) = self.hole(node, text, *offset, Wanted::Type(ty));
                fine.then(|| Template::Expression(Expression(text.clone())))
            }
            [Piece::Text(text)] => {
                let ty = if *ty == Type::Any && !plain { &Type::String } else { ty };
                match literal::scalar(text, ty) {
                    Ok(value) => Some(Template::Literal(value)),
                    Err(message) => {
                        let (reason, help) = split_help(&message);
                        self.wrong(node, format!("{what}: {reason}"), help);
                        None
                    }
                }
            }
            _ => {
                let inner = if let Type::Option(inner) = ty { inner } else { ty };
                if !matches!(inner, Type::String | Type::Any) {
                    let message =
                        format!("{what} must be {}, but text with expressions in it is text", article(ty));
                    self.wrong(
                        node,
                        message,
                        Some("write one expression, `${{ ... }}`, and nothing around it".into()),
                    );
                    return None;
                }
                self.text_holes(node, &pieces).then(|| Template::of_pieces(pieces))
            }
        }
    }

    fn text_holes(&mut self, node: &Node, pieces: &[Piece]) -> bool {
        let mut fine = true;
        for piece in pieces {
            if let Piece::Hole { text, offset } = piece {
                fine &= self.hole(node, text, *offset, Wanted::Text).1;
            }
        }
        fine
    }

    /// Checks one expression; its type, and whether it is free of mistakes.
    pub(super) fn hole(
        &mut self,
        node: &Node,
        text: &str,
        offset: usize,
        wanted: Wanted<'_>,
    ) -> (Option<Type>, bool) {
        let (ty, problems) = typing::check(text, self.names, wanted, self.usage);
        let fine = problems.is_empty();
        let exact = node.is_verbatim(&self.report.source);
        for problem in problems {
            let part = &text[problem.span.clone()];
            let mut span = node.locate(&self.report.source, offset + problem.span.start, part);
            if part.is_empty() {
                let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
                span = node.locate(&self.report.source, offset + last, &text[last..]);
            }
            let diagnostic = self.report.add(problem.code, span, problem.message);
            diagnostic.label = problem.label;
            diagnostic.help = problem.help;
            // Elsewhere the place is good enough for people, not for a program that writes there.
            if let (Some(fix), true) = (problem.fix, exact) {
                diagnostic.fix(fix);
            }
        }
        (ty, fine)
    }

    fn record(&mut self, node: &Node, entries: &[Entry], fields: &[Field], what: &str) -> Option<Template> {
        let mut object = IndexMap::new();
        let mut fine = true;
        for entry in entries {
            let Some(field) = fields.iter().find(|field| field.name == entry.key) else {
                let help = suggest::help(
                    "its fields are",
                    &entry.key,
                    fields.iter().map(|field| field.name.as_str()),
                );
                let message = format!("{what} has no field `{}`", entry.key);
                let diagnostic = self.report.add(self.code, entry.key_span.clone(), message);
                spare(diagnostic.suggest(help), entries);
                fine = false;
                continue;
            };
            match self.read(&entry.value, &field.ty, &format!("`{}` of {what}", entry.key)) {
                Some(template) => _ = object.insert(entry.key.clone(), template),
                None => fine = false,
            }
        }
        for field in fields {
            let given = entries.iter().any(|entry| {
                let known = fields.iter().any(|field| field.name == entry.key);
                entry.key == field.name
                    || !known && suggest::nearest(&entry.key, [field.name.as_str()]).is_some()
            });
            if !given && !matches!(field.ty, Type::Option(_)) {
                let message = format!("{what} lacks the field `{}`", field.name);
                self.wrong(node, message, Some(format!("add `{}: ...`, {}", field.name, article(&field.ty))));
                fine = false;
            }
        }
        fine.then(|| fold_object(object))
    }

    fn variant(
        &mut self,
        node: &Node,
        entries: &[Entry],
        cases: &[(String, Option<Type>)],
        what: &str,
    ) -> Option<Template> {
        let names = cases.iter().map(|(name, _)| name.as_str());
        let [entry] = entries else {
            self.wrong(
                node,
                format!("{what} takes one case"),
                Some(format!("choose one of {}", suggest::listed(names))),
            );
            return None;
        };
        match cases.iter().find(|(name, _)| *name == entry.key) {
            Some((name, Some(ty))) => {
                let template = self.read(&entry.value, ty, &format!("`{name}` of {what}"))?;
                Some(fold_object(IndexMap::from([(name.clone(), template)])))
            }
            Some((name, None)) => {
                self.wrong(
                    node,
                    format!("the case `{name}` of {what} has no value"),
                    Some(format!("write `{name}` alone")),
                );
                None
            }
            None => {
                let help = suggest::help("the cases are", &entry.key, names);
                self.report
                    .add(self.code, entry.key_span.clone(), format!("{what} has no case `{}`", entry.key))
                    .suggest(help);
                None
            }
        }
    }
}

/// The expression of a text that is exactly one `${{ }}`, and where it stands.
fn only_hole(text: &str) -> Option<(String, usize)> {
    let lead = text.len() - text.trim_start().len();
    match template::split(text.trim()).as_deref() {
        Ok([Piece::Hole { text, offset }]) => Some((text.clone(), lead + offset)),
        _ => None,
    }
}

/// The expression of a text that is exactly one `${{ }}`, or an expression without them.
pub(super) fn only_expression(text: &str) -> Option<(String, usize)> {
    if text.contains("${{") {
        return only_hole(text);
    }
    Some((text.trim().to_owned(), text.len() - text.trim_start().len()))
}

fn item_of(what: &str) -> String {
    if what.starts_with("an item of ") { what.to_owned() } else { format!("an item of {what}") }
}

/// A list without holes is a literal.
fn fold_list(items: Vec<Template>) -> Template {
    if items.iter().all(|item| matches!(item, Template::Literal(_))) {
        let value = |item| if let Template::Literal(value) = item { value } else { Value::Null };
        return Template::Literal(items.into_iter().map(value).collect());
    }
    Template::List(items)
}

/// An object without holes is a literal.
fn fold_object(fields: IndexMap<String, Template>) -> Template {
    if fields.values().all(|field| matches!(field, Template::Literal(_))) {
        let value = |item| if let Template::Literal(value) = item { value } else { Value::Null };
        return Template::Literal(Value::Object(
            fields.into_iter().map(|(key, field)| (key, value(field))).collect(),
        ));
    }
    Template::Object(fields)
}
