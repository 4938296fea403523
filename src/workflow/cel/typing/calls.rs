//! Calls: functions of the table, what binds a name, and what copes with absent values.

use super::checker::Checker;
use super::relation::{never, optional, present, present_items, unify};
use super::wording::{brief, stand_in};
use crate::workflow::cel::functions::{FORMS, FUNCTIONS, Function};
use crate::workflow::code;
use crate::workflow::suggest;
use crate::workflow::types::Type;
use ::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use std::ops::Range;

impl Checker<'_, '_> {
    pub(super) fn method(&mut self, node: &IdedExpr, target: &IdedExpr, call: &CallExpr) -> Option<Type> {
        let name = call.func_name.as_str();
        if self.is_global(target, "optional") {
            return match (name, call.args.as_slice()) {
                ("none", []) => Some(optional(never())),
                ("of", [value]) => self.infer(value).map(optional),
                _ => self.function(node, name, None, &call.args),
            };
        }
        match (name, call.args.as_slice()) {
            ("orValue", [other]) => {
                let ty = self.tolerantly(|checker| checker.infer(target));
                let Some(ty) = ty else {
                    self.infer(other);
                    return None;
                };
                let other_type = self.infer(other)?;
                let joined = unify(present(&ty), &other_type);
                if joined.is_none() {
                    self.mismatch(other, &other_type, present(&ty));
                }
                joined
            }
            ("or", [other]) => {
                let ty = self.tolerantly(|checker| checker.infer(target))?;
                let other = self.infer(other)?;
                unify(&ty, &other).map(optional)
            }
            ("hasValue", []) => {
                self.tolerantly(|checker| checker.infer(target));
                Some(Type::Bool)
            }
            ("value", []) => self.infer(target).map(|ty| present(&ty).clone()),
            ("map" | "filter" | "exists" | "exists_one" | "all", [item, rest @ ..])
                if (1..=2).contains(&rest.len()) =>
            {
                self.comprehension(name, target, item, rest)
            }
            _ => self.function(node, name, Some(target), &call.args),
        }
    }

    pub(super) fn comprehension(
        &mut self,
        name: &str,
        target: &IdedExpr,
        item: &IdedExpr,
        rest: &[IdedExpr],
    ) -> Option<Type> {
        let ty = self.infer(target);
        let item_type = match &ty {
            None => None,
            Some(Type::List(item)) => Some((**item).clone()),
            Some(Type::Map(_) | Type::Record(_)) => Some(Type::String),
            Some(Type::Any) => Some(Type::Any),
            Some(other) => {
                self.no_list(target, other, &format!("`{name}`"));
                None
            }
        };
        let Expr::Ident(item_name) = &item.expr else {
            let span = self.extent(item);
            self.problem(
                code::BAD_ARGUMENTS,
                span,
                format!("the first argument of `{name}` names the item, as in `list.{name}(x, ...)`"),
            );
            return None;
        };
        self.locals.push((item_name.clone(), item_type.clone()));
        let (filter, body) = match rest {
            [filter, body] => (Some(filter), body),
            [body, ..] => (None, body),
            [] => return None,
        };
        if let Some(filter) = filter {
            self.predicate(filter);
        }
        let result = if name == "map" {
            self.infer(body).map(|ty| Type::List(Box::new(ty)))
        } else {
            self.predicate(body);
            Some(Type::Bool)
        };
        self.locals.pop();
        match name {
            "map" => result,
            "filter" => item_type.map(|ty| Type::List(Box::new(ty))),
            _ => Some(Type::Bool),
        }
    }

    pub(super) fn function(
        &mut self,
        node: &IdedExpr,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Option<Type> {
        let span = self.name_span(node.id);
        if name == "hash" && target.is_none() {
            return self.hash(span, args);
        }
        let Some(function) = Function::find(name, target.is_some()) else {
            // What its arguments mean depends on what it is; a misspelled `filter` binds a name, for instance.
            target.map(|target| self.infer(target));
            let other_way = Function::find(name, target.is_none());
            let help = match other_way {
                Some(function) => format!("write `{}`", function.form),
                None => match suggest::nearest(name, names_of_functions()) {
                    Some(found) => {
                        let form = forms().find(|(name, _)| *name == found).map_or(found, |(_, form)| form);
                        format!("did you mean `{found}`? It is written `{form}`")
                    }
                    None => format!("the functions are {}", suggest::listed(names_of_functions())),
                },
            };
            self.problem(code::UNKNOWN_FUNCTION, span, format!("there is no function `{name}`")).help =
                Some(help);
            return None;
        };
        let types: Vec<_> = target.into_iter().chain(args).map(|node| self.infer(node)).collect();
        let types = types.into_iter().collect::<Option<Vec<_>>>()?;
        if let Some(ty) = (function.ty)(&types) {
            return Some(ty);
        }
        let nodes: Vec<_> = target.into_iter().chain(args).collect();
        let bare: Vec<_> = types.iter().map(|ty| present(ty).clone()).collect();
        if (function.ty)(&bare).is_some()
            && let Some((at, Type::Option(inner))) =
                types.iter().enumerate().find(|(_, ty)| matches!(ty, Type::Option(_)))
        {
            let span = self.extent(nodes[at]);
            let text = self.text[span.clone()].to_owned();
            let help = format!("write `{text}.orValue({})`", stand_in(inner));
            self.problem(
                code::MAY_BE_ABSENT,
                span,
                format!("`{text}` may be absent, but `{name}` needs a value"),
            )
            .help = Some(help);
            return None;
        }
        let items: Vec<_> = types.iter().map(present_items).collect();
        if (function.ty)(&items).is_some() {
            let message = format!("items of the list may be absent, but `{name}` needs each of them");
            self.problem(code::MAY_BE_ABSENT, span, message).help =
                Some("give each a value, as in `list.map(x, x.orValue(''))`".into());
            return None;
        }
        let given = types.iter().map(brief).collect::<Vec<_>>().join(", ");
        let given = if given.is_empty() { "nothing".to_owned() } else { given };
        self.problem(code::BAD_ARGUMENTS, span, format!("`{name}` does not take {given}")).help =
            Some(format!("write `{}`", function.form));
        None
    }

    /// `hash('path/*')`: what it is asked for is computed before the run begins, so it must stand in the file.
    pub(super) fn hash(&mut self, span: Range<usize>, args: &[IdedExpr]) -> Option<Type> {
        if !self.names.hashes {
            let message = format!("{} cannot use `hash`", self.names.place);
            self.problem(code::BAD_ARGUMENTS, span, message).help =
                Some("files are hashed when a run begins; call it in a step".into());
            return None;
        }
        let literal = |node: &IdedExpr| match &node.expr {
            Expr::Literal(LiteralValue::String(text)) if !text.inner().is_empty() => {
                Some(text.inner().to_owned())
            }
            _ => None,
        };
        let globs = match args {
            [IdedExpr { expr: Expr::List(list), .. }] if !list.elements.is_empty() => {
                list.elements.iter().map(literal).collect::<Option<Vec<_>>>()
            }
            [one] => literal(one).map(|glob| vec![glob]),
            _ => None,
        };
        self.usage.reads = true;
        if let Some(globs) = globs {
            self.usage.hashes.extend(globs);
            return Some(Type::String);
        }
        let span = match args {
            [one] => self.extent(one),
            _ => span,
        };
        let message = "`hash` takes the names of files as they stand in the workflow file";
        self.problem(code::BAD_ARGUMENTS, span, message.into()).help = Some(
            "write them in quotes, as in `hash('images/*.lock')` or `hash(['a.lock', 'b.lock'])`".into(),
        );
        None
    }
}

/// Everything that is called: name and form.
fn forms() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    let functions = FUNCTIONS.iter().map(|function| (function.name, function.form));
    functions.chain(FORMS.iter().map(|form| (form.name, form.form)))
}

/// Names of everything that is called.
fn names_of_functions() -> impl Iterator<Item = &'static str> + Clone {
    forms().map(|(name, _)| name)
}
