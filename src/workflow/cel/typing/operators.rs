//! Operators, indexing, and what looks like a call but is syntax.

use super::checker::Checker;
use super::relation::{is_never, optional, present, unify};
use super::wording::{article, stand_in};
use crate::workflow::cel::functions::{is_scalar, is_text};
use crate::workflow::code;
use crate::workflow::suggest;
use crate::workflow::types::Type;
use ::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};
use std::ops::Range;

impl Checker<'_, '_> {
    pub(super) fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Option<Type> {
        if let Some(target) = &call.target {
            return self.method(node, target, call);
        }
        let token = self.parsed.span(node.id);
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::CONDITIONAL, [condition, yes, no]) => {
                let guards = self.bool_operand(condition);
                let left = self.guarded(guards, |checker| checker.infer(yes));
                let right = self.infer(no);
                let (left, right) = (left?, right?);
                let ty = unify(&left, &right);
                if ty.is_none() {
                    let message =
                        format!("the two sides of `?:` are {} and {}", article(&left), article(&right));
                    self.problem(code::TYPE_MISMATCH, token, message).help =
                        Some("give both sides one type".into());
                }
                ty
            }
            (op::LOGICAL_AND, [left, right]) => {
                let guards = self.bool_operand(left);
                self.guarded(guards, |checker| checker.bool_operand(right));
                Some(Type::Bool)
            }
            (op::LOGICAL_OR, [left, right]) => {
                self.bool_operand(left);
                self.bool_operand(right);
                Some(Type::Bool)
            }
            (op::LOGICAL_NOT, [operand]) => {
                self.bool_operand(operand);
                Some(Type::Bool)
            }
            (op::NEGATE, [operand]) => {
                let ty = self.infer(operand)?;
                if matches!(ty, Type::Int | Type::Float | Type::Any) {
                    return Some(ty);
                }
                self.problem(code::TYPE_MISMATCH, token, format!("`-` takes a number, not {}", article(&ty)));
                None
            }
            (op::INDEX, [operand, key]) => self.index(operand, key),
            (op::OPT_INDEX, [operand, key]) => {
                self.tolerantly(|checker| checker.index(operand, key)).map(optional)
            }
            (op::OPT_SELECT, [operand, key]) => match &key.expr {
                Expr::Literal(LiteralValue::String(field)) => {
                    let start = token.end + self.text[token.end..].find(field.inner()).unwrap_or(0);
                    let span = start..(start + field.inner().len()).min(self.text.len());
                    self.tolerantly(|checker| checker.field(operand, field.inner(), span)).map(optional)
                }
                _ => self.unsupported(node),
            },
            ("has", [operand]) => {
                self.has(operand);
                Some(Type::Bool)
            }
            (op::SUBSTRACT, [left, right]) if self.hyphen(left, right) => None,
            (operator, [left, right]) if operator.contains('_') || operator == op::IN => {
                let (left_type, right_type) = (self.infer(left), self.infer(right));
                self.binary(operator, (left, left_type?), (right, right_type?), token)
            }
            (name, args) => self.function(node, name, None, args),
        }
    }

    /// `a.full-name` is a subtraction to CEL; says so where the right side is no name at all.
    pub(super) fn hyphen(&mut self, left: &IdedExpr, right: &IdedExpr) -> bool {
        let mut root = right;
        while let Expr::Select(select) = &root.expr {
            root = &select.operand;
        }
        let (Expr::Select(select), Expr::Ident(tail)) = (&left.expr, &root.expr) else { return false };
        let known = |name: &str| self.names.values.iter().any(|(value, _)| value == name);
        if self.local(tail).is_some()
            || known(tail)
            || ["inputs", "steps", "run", "secrets"].contains(&tail.as_str())
        {
            return false;
        }
        let span = self.field_span(left.id, &select.field).start..self.parsed.span(root.id).end;
        let (wrong, correct) = (format!("{}-{tail}", select.field), format!("{}_{tail}", select.field));
        let problem = self.problem(
            code::UNKNOWN_FIELD,
            span,
            format!("`{wrong}` is a subtraction here; names have no hyphens"),
        );
        problem.help = Some(format!("did you mean `{correct}`?"));
        problem.fix = Some(correct);
        true
    }

    pub(super) fn has(&mut self, operand: &IdedExpr) {
        match &operand.expr {
            Expr::Select(select) if self.names.run && self.is_global(&select.operand, "secrets") => {
                self.usage.reads = true;
                if self.names.secrets.contains(&select.field) {
                    self.usage.secrets.insert(select.field.clone());
                } else {
                    let span = self.field_span(operand.id, &select.field);
                    let help = suggest::help(
                        "the secrets are",
                        &select.field,
                        self.names.secrets.iter().map(String::as_str),
                    );
                    let message = "there is no secret of this name".to_owned();
                    let problem = self.problem(code::UNKNOWN_SECRET, span, message);
                    problem.fix = suggest::proposed(&help).map(str::to_owned);
                    problem.help = Some(help);
                }
            }
            Expr::Select(_) | Expr::Call(_) => _ = self.tolerantly(|checker| checker.infer(operand)),
            _ => {
                let span = self.extent(operand);
                self.problem(
                    code::BAD_ARGUMENTS,
                    span,
                    "`has` takes a path such as `steps.commit.sha`".into(),
                );
            }
        }
    }

    pub(super) fn index(&mut self, operand: &IdedExpr, key: &IdedExpr) -> Option<Type> {
        if let Expr::Literal(LiteralValue::String(field)) = &key.expr
            && self.path(operand).is_some_and(|path| path == "steps" || path.starts_with("steps."))
            && self.path(operand).is_some_and(|path| path.matches('.').count() < 2)
        {
            let span = self.extent(key);
            return self.field(operand, field.inner(), span);
        }
        let ty = self.infer(operand)?;
        match present(&ty) {
            Type::Any => {
                self.infer(key)?;
                Some(Type::Any)
            }
            Type::List(item) => {
                self.expect(key, &Type::Int)?;
                Some((**item).clone())
            }
            Type::Map(value) => {
                self.expect(key, &Type::String)?;
                Some((**value).clone())
            }
            Type::Record(_) if let Expr::Literal(LiteralValue::String(field)) = &key.expr => {
                let span = self.extent(key);
                self.field_of(&ty, field.inner(), span)
            }
            other => {
                let (span, message) = (self.extent(operand), format!("{} cannot be indexed", article(other)));
                self.problem(code::TYPE_MISMATCH, span, message);
                None
            }
        }
    }

    pub(super) fn binary(
        &mut self,
        operator: &str,
        left: (&IdedExpr, Type),
        right: (&IdedExpr, Type),
        token: Range<usize>,
    ) -> Option<Type> {
        use Type::{Any, Bool, Duration, Enum, Float, Int, List, Map, Option, Record, Size, String};
        let sign = operator.trim_matches(['_', '@']);
        if matches!(operator, op::EQUALS | op::NOT_EQUALS) {
            for (text, ty) in [(left.0, &right.1), (right.0, &left.1)] {
                if let (Expr::Literal(LiteralValue::String(_)), Enum(_)) = (&text.expr, present(ty)) {
                    self.expect(text, present(ty));
                    return Some(Bool);
                }
            }
            let comparable = unify(present(&left.1), present(&right.1)).is_some_and(|ty| !is_never(&ty))
                || is_never(present(&left.1)) && is_never(present(&right.1));
            if !comparable {
                let message = format!("`{sign}` compares {} with {}", article(&left.1), article(&right.1));
                let help = self.bring_together(&left, &right);
                self.problem(code::TYPE_MISMATCH, token, message).help = help;
            }
            return Some(Bool);
        }
        if operator == op::IN {
            let fine = match present(&right.1) {
                Any => true,
                List(item) => unify(&left.1, item).is_some(),
                Map(_) | Record(_) => is_text(&left.1),
                _ => false,
            };
            if !fine {
                let message = format!("`in` cannot look for {} in {}", article(&left.1), article(&right.1));
                let help = is_text(&right.1).then(|| "write `text.contains(part)`".to_owned());
                self.problem(code::TYPE_MISMATCH, token, message).help = help;
            }
            return Some(Bool);
        }
        for (node, ty) in [&left, &right] {
            if let Option(inner) = ty {
                let span = self.extent(node);
                let text = self.text[span.clone()].to_owned();
                let help = format!("write `{text}.orValue({})`", stand_in(inner));
                self.problem(
                    code::MAY_BE_ABSENT,
                    span,
                    format!("`{text}` may be absent, but `{sign}` needs a value"),
                )
                .help = Some(help);
                return None;
            }
        }
        let compares = matches!(operator, op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS);
        let ty = match (operator, &left.1, &right.1) {
            (_, Any, other) | (_, other, Any) => Some(if compares { Bool } else { other.clone() }),
            (_, Int, Int) | (_, Float, Float) | (_, Duration, Duration) | (_, Size, Size) if compares => {
                Some(Bool)
            }
            (_, left, right) if compares && is_text(left) && is_text(right) => Some(Bool),
            (op::ADD, left, right) if is_text(left) && is_text(right) => Some(String),
            (op::ADD, List(left), List(right)) => unify(left, right).map(|item| List(Box::new(item))),
            (op::ADD | op::SUBSTRACT, Duration, Duration) => Some(Duration),
            (op::ADD | op::SUBSTRACT, Size, Size) => Some(Size),
            (op::MULTIPLY | op::DIVIDE, Duration, Int) => Some(Duration),
            (op::MULTIPLY | op::DIVIDE, Size, Int) => Some(Size),
            (_, Int, Int) => Some(Int),
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE, Float, Float) => Some(Float),
            _ => None,
        };
        if ty.is_none() {
            let message = format!("`{sign}` cannot join {} and {}", article(&left.1), article(&right.1));
            let help = self.bring_together(&left, &right);
            self.problem(code::TYPE_MISMATCH, token, message).help = help;
        }
        ty
    }

    /// How to make two operands one type.
    pub(super) fn bring_together(
        &self,
        left: &(&IdedExpr, Type),
        right: &(&IdedExpr, Type),
    ) -> Option<String> {
        let text = |node: &IdedExpr| self.text[self.extent(node)].to_owned();
        match (present(&left.1), present(&right.1)) {
            (Type::Int, Type::Float) => Some(format!("write `double({})`", text(left.0))),
            (Type::Float, Type::Int) => Some(format!("write `double({})`", text(right.0))),
            (Type::Duration, Type::Int | Type::String) => {
                Some("write the duration as `duration('5m')`".into())
            }
            (left_type, right_type) if is_text(left_type) && is_scalar(right_type) => {
                Some(format!("write `string({})`", text(right.0)))
            }
            (left_type, right_type) if is_text(right_type) && is_scalar(left_type) => {
                Some(format!("write `string({})`", text(left.0)))
            }
            _ => None,
        }
    }
}
