//! The checker of one expression: what it knows, where things stand in the text, and what holds around a place.

use super::{Names, Problem, Usage};
use crate::workflow::cel::Parsed;
use crate::workflow::code::Code;
use crate::workflow::types::Type;
use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators as op};
use std::ops::Range;

pub(super) struct Checker<'c, 'n> {
    pub(super) text: &'c str,
    pub(super) parsed: &'c Parsed,
    pub(super) names: &'c Names<'n>,
    pub(super) usage: &'c mut Usage,
    pub(super) problems: Vec<Problem>,
    pub(super) locals: Vec<(String, Option<Type>)>,
    /// How many constructs around this place cope with a skipped step.
    pub(super) tolerant: usize,
    /// Paths that a `has(...)` around this place has found present.
    pub(super) present: Vec<String>,
}

impl<'c, 'n> Checker<'c, 'n> {
    pub(super) fn new(text: &'c str, parsed: &'c Parsed, names: &'c Names<'n>, usage: &'c mut Usage) -> Self {
        let present = names.present.to_vec();
        Self { text, parsed, names, usage, problems: Vec::new(), locals: Vec::new(), tolerant: 0, present }
    }
}

impl Checker<'_, '_> {
    pub(super) fn problem(&mut self, code: Code, span: Range<usize>, message: String) -> &mut Problem {
        self.problems.push(Problem { code, span, message, label: None, help: None, fix: None });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// The bytes of a whole node.
    pub(super) fn extent(&self, node: &IdedExpr) -> Range<usize> {
        let mut range = self.parsed.span(node.id);
        let mut cover = |other: Range<usize>| range = range.start.min(other.start)..range.end.max(other.end);
        match &node.expr {
            Expr::Select(select) => {
                cover(self.extent(&select.operand));
                cover(self.field_span(node.id, &select.field));
            }
            Expr::Call(call) => {
                let children = call.target.iter().map(|target| &**target).chain(&call.args);
                children.for_each(|child| cover(self.extent(child)));
                if !call.func_name.contains(['_', '@']) {
                    cover(self.name_span(node.id));
                    let close = self.text[range.end..].find(')').map_or(range.end, |at| range.end + at + 1);
                    range.end = close;
                } else if call.func_name == op::INDEX || call.func_name == op::OPT_INDEX {
                    range.end = self.text[range.end..].find(']').map_or(range.end, |at| range.end + at + 1);
                }
            }
            Expr::List(list) => {
                list.elements.iter().for_each(|element| cover(self.extent(element)));
                range.end = self.text[range.end..].find(']').map_or(range.end, |at| range.end + at + 1);
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        cover(self.extent(&entry.value));
                    }
                }
                range.end = self.text[range.end..].find('}').map_or(range.end, |at| range.end + at + 1);
            }
            _ => {}
        }
        range
    }

    /// The field's name behind the point that is a selection's own token.
    pub(super) fn field_span(&self, id: u64, field: &str) -> Range<usize> {
        let dot = self.parsed.span(id);
        let found = self.text[dot.end..].find(field).map(|at| dot.end + at);
        found.map_or(dot, |start| start..start + field.len())
    }

    /// The function's name before the bracket that is a call's own token.
    pub(super) fn name_span(&self, id: u64) -> Range<usize> {
        let bracket = self.parsed.span(id);
        let before = self.text[..bracket.start].trim_end();
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        start..before.len().max(start)
    }

    pub(super) fn local(&self, name: &str) -> Option<&(String, Option<Type>)> {
        self.locals.iter().rev().find(|(local, _)| local == name)
    }

    pub(super) fn is_global(&self, node: &IdedExpr, name: &str) -> bool {
        matches!(&node.expr, Expr::Ident(ident) if ident == name) && self.local(name).is_none()
    }

    /// `steps.commit.sha` of a node that is such a path from a global name.
    pub(super) fn path(&self, node: &IdedExpr) -> Option<String> {
        match &node.expr {
            Expr::Ident(name) => self.local(name).is_none().then(|| name.clone()),
            Expr::Select(select) => Some(format!("{}.{}", self.path(&select.operand)?, select.field)),
            Expr::Call(call) if call.func_name == op::OPT_SELECT => match call.args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                    Some(format!("{}.{}", self.path(operand)?, field.inner()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn guarded<T>(&mut self, guards: Vec<String>, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.present.len();
        self.present.extend(guards);
        let result = check(self);
        self.present.truncate(before);
        result
    }

    pub(super) fn tolerantly<T>(&mut self, check: impl FnOnce(&mut Self) -> T) -> T {
        self.tolerant += 1;
        let result = check(self);
        self.tolerant -= 1;
        result
    }
}
