//! What the place of an expression wants of its value.

use super::checker::Checker;
use super::relation::{fits, optional, present};
use super::wording::{article, bool_help, brief, conversion, stand_in};
use crate::workflow::cel::functions::{is_scalar, is_text};
use crate::workflow::code;
use crate::workflow::suggest;
use crate::workflow::types::Type;
use ::cel::common::ast::{Expr, IdedExpr, LiteralValue, operators as op};

impl Checker<'_, '_> {
    pub(super) fn condition(&mut self, node: &IdedExpr) -> Option<Type> {
        if let Expr::Call(call) = &node.expr
            && [op::LOGICAL_AND, "has"].contains(&call.func_name.as_str())
        {
            let guards = self.bool_operand(node);
            self.usage.present.extend(guards);
            return Some(Type::Bool);
        }
        let ty = self.infer(node)?;
        match &ty {
            Type::Bool | Type::Any => {}
            Type::Option(inner) if **inner == Type::Bool => {
                let span = self.extent(node);
                let text = self.text[span.clone()].to_owned();
                self.problem(code::MAY_BE_ABSENT, span, format!("`{text}` may be absent")).help =
                    Some(format!("write `{text}.orValue(false)`"));
            }
            other => {
                let (span, help) = (self.extent(node), bool_help(other, self.text));
                self.problem(
                    code::NOT_BOOL,
                    span,
                    format!("a condition must be a bool, but this is {}", article(other)),
                )
                .help = help;
            }
        }
        Some(Type::Bool)
    }

    pub(super) fn scalar(&mut self, node: &IdedExpr) -> Option<Type> {
        let ty = self.infer(node)?;
        let span = self.extent(node);
        let text = self.text[span.clone()].to_owned();
        match &ty {
            ty if is_scalar(ty) => {}
            Type::Option(inner) => {
                let help = format!("write `{text}.orValue({})`", stand_in(inner));
                self.problem(
                    code::MAY_BE_ABSENT,
                    span,
                    format!("`{text}` may be absent, and text has no place for that"),
                )
                .help = Some(help);
            }
            other => {
                let help = match other {
                    Type::List(item) if is_text(item) => format!("write `{text}.join(', ')`"),
                    Type::Duration => format!("write `int({text})` for milliseconds"),
                    Type::Size => format!("write `int({text})` for bytes"),
                    Type::Record(fields) => match fields.iter().find(|field| is_scalar(&field.ty)) {
                        Some(field) => format!(
                            "name one of its fields, such as `{text}.{}`, or write `json({text})`",
                            field.name
                        ),
                        None => format!("write `json({text})`"),
                    },
                    _ => format!("write `json({text})`"),
                };
                self.problem(
                    code::NOT_SCALAR,
                    span,
                    format!("{} cannot stand inside text", article(other)),
                )
                .help = Some(help);
            }
        }
        Some(Type::String)
    }

    /// The type of an item of what must be a list.
    pub(super) fn items(&mut self, node: &IdedExpr) -> Option<Type> {
        match self.infer(node)? {
            Type::List(item) => Some(*item),
            Type::Any => Some(Type::Any),
            other => {
                self.no_list(node, &other, "a loop");
                None
            }
        }
    }

    /// Reports something that is no list where `who` needs one.
    pub(super) fn no_list(&mut self, node: &IdedExpr, ty: &Type, who: &str) {
        let span = self.extent(node);
        let text = self.text[span.clone()].to_owned();
        let (code, message) = match ty {
            Type::Option(_) => {
                (code::MAY_BE_ABSENT, format!("`{text}` may be absent, but {who} needs a list"))
            }
            _ => (code::TYPE_MISMATCH, format!("{who} needs a list, not {}", article(ty))),
        };
        self.problem(code, span, message).help = match ty {
            Type::Option(_) => Some(format!("write `{text}.orValue([])`")),
            Type::Map(_) | Type::Record(_) => Some(format!("write `{text}.map(k, k)` for its keys")),
            Type::Tuple(_) => Some("give all its items one type".into()),
            ty if is_text(ty) => Some(format!("write `{text}.split(' ')` for the words of a text")),
            _ => None,
        };
    }

    pub(super) fn key(&mut self, node: &IdedExpr) -> Option<Type> {
        let ty = self.infer(node)?;
        if is_text(&ty) || ty == Type::Int {
            return Some(ty);
        }
        let span = self.extent(node);
        let text = self.text[span.clone()].to_owned();
        match &ty {
            Type::Option(inner) => {
                let help = format!("write `{text}.orValue({})`", stand_in(inner));
                self.problem(
                    code::MAY_BE_ABSENT,
                    span,
                    format!("`{text}` may be absent, but every item needs a key"),
                )
                .help = Some(help);
            }
            other => {
                let help = match other {
                    Type::Record(fields) => fields
                        .iter()
                        .find(|field| is_text(&field.ty))
                        .map(|field| format!("name one of its fields, such as `{text}.{}`", field.name)),
                    other if is_scalar(other) => Some(format!("write `string({text})`")),
                    _ => None,
                };
                let message = format!("a key must be text or an int, but this is {}", article(other));
                self.problem(code::TYPE_MISMATCH, span, message).help = help;
            }
        }
        None
    }

    /// Checks against a type, into the parts of literals, so that the place is exact.
    pub(super) fn expect(&mut self, node: &IdedExpr, wanted: &Type) -> Option<Type> {
        let inner = present(wanted);
        match (&node.expr, inner) {
            (Expr::Call(call), _) if call.func_name == op::CONDITIONAL && call.args.len() == 3 => {
                let guards = self.bool_operand(&call.args[0]);
                self.guarded(guards, |checker| checker.expect(&call.args[1], wanted));
                self.expect(&call.args[2], wanted);
                return Some(wanted.clone());
            }
            (Expr::List(list), Type::List(item)) if list.optional_indices.is_empty() => {
                list.elements.iter().for_each(|element| _ = self.expect(element, item));
                return Some(wanted.clone());
            }
            (Expr::List(list), Type::Tuple(items)) if list.elements.len() == items.len() => {
                list.elements.iter().zip(items).for_each(|(element, item)| _ = self.expect(element, item));
                return Some(wanted.clone());
            }
            (Expr::Literal(LiteralValue::String(text)), Type::Enum(cases)) => {
                if !cases.iter().any(|case| case == text.inner()) {
                    let help = suggest::help("it is one of", text.inner(), cases.iter().map(String::as_str));
                    let span = self.extent(node);
                    self.problem(
                        code::TYPE_MISMATCH,
                        span,
                        format!("'{}' is none of the values of {inner}", text.inner()),
                    )
                    .help = Some(help);
                }
                return Some(wanted.clone());
            }
            _ => {}
        }
        let found = self.infer(node)?;
        if !fits(&found, wanted) {
            self.mismatch(node, &found, wanted);
        }
        Some(found)
    }

    pub(super) fn mismatch(&mut self, node: &IdedExpr, found: &Type, wanted: &Type) {
        let span = self.extent(node);
        let text = self.text[span.clone()].to_owned();
        if let Type::Option(inner) = found
            && fits(inner, wanted)
        {
            let help = format!("write `{text}.orValue({})`", stand_in(inner));
            self.problem(
                code::MAY_BE_ABSENT,
                span,
                format!("`{text}` may be absent, but {} is needed", article(wanted)),
            )
            .help = Some(help);
            return;
        }
        let help = conversion(&text, present(found), present(wanted));
        let problem = self.problem(
            code::TYPE_MISMATCH,
            span,
            format!("expected {}, found {}", article(wanted), article(found)),
        );
        problem.label = Some(brief(found));
        problem.help = help;
    }

    /// A bool operand; returns the paths that are present where it is true.
    pub(super) fn bool_operand(&mut self, node: &IdedExpr) -> Vec<String> {
        match &node.expr {
            Expr::Call(call) if call.func_name == op::LOGICAL_AND && call.args.len() == 2 => {
                let mut guards = self.bool_operand(&call.args[0]);
                guards.extend(self.guarded(guards.clone(), |checker| checker.bool_operand(&call.args[1])));
                guards
            }
            Expr::Call(call) if call.func_name == "has" && call.target.is_none() && call.args.len() == 1 => {
                self.infer(node);
                self.path(&call.args[0]).into_iter().collect()
            }
            _ => {
                self.expect(node, &Type::Bool);
                Vec::new()
            }
        }
    }

    /// What `filter` and the like ask of an item: a bool, where absent counts as false.
    pub(super) fn predicate(&mut self, node: &IdedExpr) {
        let compound = matches!(&node.expr, Expr::Call(call)
            if [op::LOGICAL_AND, op::LOGICAL_OR, op::LOGICAL_NOT].contains(&call.func_name.as_str()));
        if compound {
            self.bool_operand(node);
        } else {
            self.expect(node, &optional(Type::Bool));
        }
    }
}
