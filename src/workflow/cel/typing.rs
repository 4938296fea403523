//! The type of an expression, found without running it: the `cel` crate has no checker. Reports every mistake of an
//! expression once; what follows from a reported mistake is silent. Also learns what the expression reads.

use super::functions::{FORMS, FUNCTIONS, Function, is_scalar, is_text};
use super::{Parsed, parse};
use crate::workflow::code::{self, Code};
use crate::workflow::suggest;
use crate::workflow::types::{Field, Type};
use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};
use indexmap::{IndexMap, IndexSet};
use std::collections::BTreeSet;
use std::ops::Range;

/// A step as an expression sees it.
#[derive(Clone, Debug)]
pub(crate) struct StepNames {
    /// What it calls, for messages.
    pub(crate) uses: String,
    /// Its outputs; `None` where its component is unknown, which is reported elsewhere.
    pub(crate) outputs: Option<Vec<Field>>,
    /// Why it cannot be read from here, as the end of a sentence; `None` where it can.
    pub(crate) hidden: Option<String>,
}

/// Finds a step by its name.
pub(crate) type StepLookup<'a> = dyn Fn(&str) -> Option<StepNames> + 'a;

/// The names that an expression may use.
pub(crate) struct Names<'a> {
    /// Where the expression stands, for messages: `a step`, `the default of an input`.
    pub(crate) place: &'a str,
    /// Inputs with their types; `None` where they cannot be seen.
    pub(crate) inputs: Option<&'a IndexMap<String, Option<Type>>>,
    /// Steps; `None` where they cannot be seen.
    pub(crate) steps: Option<&'a StepLookup<'a>>,
    /// Names of the steps, for suggestions.
    pub(crate) step_names: &'a [String],
    /// Names of the secrets.
    pub(crate) secrets: &'a IndexSet<String>,
    /// Whether `run.status` is known here.
    pub(crate) finished: bool,
}

/// What expressions read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Step -> whether every read of it copes with its having been skipped.
    pub(crate) steps: IndexMap<String, bool>,
    pub(crate) inputs: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    /// Whether anything but literals was read.
    pub(crate) reads: bool,
}

/// One mistake in an expression.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    /// Bytes of the expression.
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) label: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) fix: Option<String>,
}

/// What is wanted of an expression's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'t> {
    /// Anything.
    Anything,
    /// A scalar that stands inside text.
    Text,
    /// `true` or `false`, for an `if`.
    Condition,
    /// A value of this type.
    Type(&'t Type),
}

/// Checks one expression; the type is `None` where it could not be found, for a reason that is among the problems or
/// was reported elsewhere.
pub(crate) fn check(
    text: &str,
    names: &Names<'_>,
    wanted: Wanted<'_>,
    usage: &mut Usage,
) -> (Option<Type>, Vec<Problem>) {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let end = text.len();
            let start = error.offset.min(end);
            let stop = text[start..].chars().next().map_or(end, |c| start + c.len_utf8());
            let problem = Problem {
                code: code::EXPRESSION_SYNTAX,
                span: start..stop,
                message: format!("not an expression: {}", error.message),
                label: None,
                help: Some(syntax_help(text).to_owned()),
                fix: None,
            };
            return (None, vec![problem]);
        }
    };
    let mut checker = Checker {
        text,
        parsed: &parsed,
        names,
        usage,
        problems: Vec::new(),
        locals: Vec::new(),
        tolerant: 0,
        present: Vec::new(),
    };
    let root = &parsed.root;
    let ty = match wanted {
        Wanted::Anything => checker.infer(root),
        Wanted::Type(ty) => checker.expect(root, ty),
        Wanted::Condition => checker.condition(root),
        Wanted::Text => checker.scalar(root),
    };
    (ty, checker.problems)
}

/// Mistakes that people bring from other languages.
fn syntax_help(text: &str) -> &'static str {
    let has = |part: &str| text.contains(part);
    if has("${{") {
        "write the expression without `${{ }}` here"
    } else if has(" and ") || has(" or ") || text.starts_with("not ") {
        "write `&&`, `||` and `!`"
    } else if has("|") && !has("||") {
        "there are no pipes; call functions as `x.trim()`"
    } else if has("=") && !has("==") && !has("!=") && !has("<=") && !has(">=") {
        "write `==` to compare"
    } else {
        "expressions are CEL, such as `steps.clone.path`, `inputs.n > 3` or `'a' + inputs.name`"
    }
}

/// The type without values: of an empty list's items.
fn never() -> Type {
    Type::Variant(Vec::new())
}

fn is_never(ty: &Type) -> bool {
    matches!(ty, Type::Variant(cases) if cases.is_empty())
}

fn optional(ty: Type) -> Type {
    if matches!(ty, Type::Option(_) | Type::Any) { ty } else { Type::Option(Box::new(ty)) }
}

fn present(ty: &Type) -> &Type {
    if let Type::Option(inner) = ty { present(inner) } else { ty }
}

/// The least type that both fit into.
fn unify(left: &Type, right: &Type) -> Option<Type> {
    Some(match (left, right) {
        (left, right) if left == right => left.clone(),
        (never, other) | (other, never) if is_never(never) => other.clone(),
        (Type::Any, _) | (_, Type::Any) => Type::Any,
        (Type::Option(left), right) | (right, Type::Option(left)) => optional(unify(left, present(right))?),
        (Type::String | Type::Enum(_), Type::String | Type::Enum(_)) => Type::String,
        (Type::List(left), Type::List(right)) => Type::List(Box::new(unify(left, right)?)),
        (Type::Map(left), Type::Map(right)) => Type::Map(Box::new(unify(left, right)?)),
        (Type::Record(left), Type::Record(right)) => {
            let mut fields = Vec::new();
            for field in left {
                let ty = match right.iter().find(|other| other.name == field.name) {
                    Some(other) => unify(&field.ty, &other.ty)?,
                    None => optional(field.ty.clone()),
                };
                fields.push(Field { ty, ..field.clone() });
            }
            for field in right.iter().filter(|field| !left.iter().any(|other| other.name == field.name)) {
                fields.push(Field { ty: optional(field.ty.clone()), ..field.clone() });
            }
            Type::Record(fields)
        }
        _ => return None,
    })
}

/// Whether every value of `from` is one of `to`.
pub(crate) fn fits(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (_, Type::Any) | (Type::Any, _) => true,
        (from, _) if is_never(from) => true,
        (Type::Option(from), Type::Option(to)) => fits(from, to),
        (Type::Option(_), _) => false,
        (from, Type::Option(to)) => fits(from, to),
        (Type::Enum(_), Type::String) => true,
        (Type::Enum(from), Type::Enum(to)) => from.iter().all(|case| to.contains(case)),
        (Type::List(from), Type::List(to)) | (Type::Map(from), Type::Map(to)) => fits(from, to),
        (Type::Tuple(from), Type::Tuple(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| fits(from, to))
        }
        (Type::Record(from), Type::Map(to)) => from.iter().all(|field| fits(&field.ty, to)),
        (Type::Record(from), Type::Record(to)) => {
            to.iter().all(|field| match from.iter().find(|other| other.name == field.name) {
                Some(other) => fits(&other.ty, &field.ty),
                None => matches!(field.ty, Type::Option(_)),
            }) && from.iter().all(|field| to.iter().any(|other| other.name == field.name))
        }
        (from, to) => from == to,
    }
}

/// Something that stands for an absent value of the type, for suggestions.
fn stand_in(ty: &Type) -> &'static str {
    match present(ty) {
        Type::Bool => "false",
        Type::Int => "0",
        Type::Float => "0.0",
        Type::List(_) | Type::Tuple(_) => "[]",
        Type::Map(_) | Type::Record(_) => "{}",
        _ => "''",
    }
}

struct Checker<'c, 'n> {
    text: &'c str,
    parsed: &'c Parsed,
    names: &'c Names<'n>,
    usage: &'c mut Usage,
    problems: Vec<Problem>,
    locals: Vec<(String, Option<Type>)>,
    /// How many constructs around this place cope with a skipped step.
    tolerant: usize,
    /// Paths that a `has(...)` around this place has found present.
    present: Vec<String>,
}

impl Checker<'_, '_> {
    fn problem(&mut self, code: Code, span: Range<usize>, message: String) -> &mut Problem {
        self.problems.push(Problem { code, span, message, label: None, help: None, fix: None });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// The bytes of a whole node.
    fn extent(&self, node: &IdedExpr) -> Range<usize> {
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
    fn field_span(&self, id: u64, field: &str) -> Range<usize> {
        let dot = self.parsed.span(id);
        let found = self.text[dot.end..].find(field).map(|at| dot.end + at);
        found.map_or(dot, |start| start..start + field.len())
    }

    /// The function's name before the bracket that is a call's own token.
    fn name_span(&self, id: u64) -> Range<usize> {
        let bracket = self.parsed.span(id);
        let before = self.text[..bracket.start].trim_end();
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        start..before.len().max(start)
    }

    fn local(&self, name: &str) -> Option<&(String, Option<Type>)> {
        self.locals.iter().rev().find(|(local, _)| local == name)
    }

    fn is_global(&self, node: &IdedExpr, name: &str) -> bool {
        matches!(&node.expr, Expr::Ident(ident) if ident == name) && self.local(name).is_none()
    }

    /// `steps.commit.sha` of a node that is such a path from a global name.
    fn path(&self, node: &IdedExpr) -> Option<String> {
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

    // ---- what is wanted ----

    fn condition(&mut self, node: &IdedExpr) -> Option<Type> {
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

    fn scalar(&mut self, node: &IdedExpr) -> Option<Type> {
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

    /// Checks against a type, into the parts of literals, so that the place is exact.
    fn expect(&mut self, node: &IdedExpr, wanted: &Type) -> Option<Type> {
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

    fn mismatch(&mut self, node: &IdedExpr, found: &Type, wanted: &Type) {
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
        problem.label = Some(found.to_string());
        problem.help = help;
    }

    /// A bool operand; returns the paths that are present where it is true.
    fn bool_operand(&mut self, node: &IdedExpr) -> Vec<String> {
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

    fn guarded<T>(&mut self, guards: Vec<String>, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.present.len();
        self.present.extend(guards);
        let result = check(self);
        self.present.truncate(before);
        result
    }

    fn tolerantly<T>(&mut self, check: impl FnOnce(&mut Self) -> T) -> T {
        self.tolerant += 1;
        let result = check(self);
        self.tolerant -= 1;
        result
    }

    // ---- what is found ----

    fn infer(&mut self, node: &IdedExpr) -> Option<Type> {
        match &node.expr {
            Expr::Literal(literal) => self.literal(node, literal),
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => {
                let ty = self.select(node.id, select)?;
                let narrowed = matches!(ty, Type::Option(_))
                    && self.path(node).is_some_and(|path| self.present.contains(&path));
                Some(if narrowed { present(&ty).clone() } else { ty })
            }
            Expr::List(list) => {
                let mut types = Vec::new();
                let mut known = true;
                for (at, element) in list.elements.iter().enumerate() {
                    let ty = if list.optional_indices.contains(&at) {
                        self.tolerantly(|checker| checker.infer(element)).map(|ty| present(&ty).clone())
                    } else {
                        self.infer(element)
                    };
                    match ty {
                        Some(ty) => types.push(ty),
                        None => known = false,
                    }
                }
                if !known {
                    return None;
                }
                let item = types.iter().try_fold(never(), |all, ty| unify(&all, ty));
                Some(item.map_or(Type::Tuple(types), |item| Type::List(Box::new(item))))
            }
            Expr::Map(map) => {
                let mut fields = Vec::new();
                let mut values = never();
                let mut record = true;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return self.unsupported(node) };
                    let ty = if entry.optional {
                        optional(self.tolerantly(|checker| checker.infer(&entry.value))?)
                    } else {
                        self.infer(&entry.value)?
                    };
                    match &entry.key.expr {
                        Expr::Literal(LiteralValue::String(name)) => {
                            fields.push(Field { name: name.inner().to_owned(), ty: ty.clone(), doc: None });
                        }
                        _ => {
                            self.expect(&entry.key, &Type::String)?;
                            record = false;
                        }
                    }
                    values = unify(&values, &ty).unwrap_or(Type::Any);
                }
                Some(if record { Type::Record(fields) } else { Type::Map(Box::new(values)) })
            }
            Expr::Call(call) => self.call(node, call),
            Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => self.unsupported(node),
        }
    }

    fn unsupported(&mut self, node: &IdedExpr) -> Option<Type> {
        let span = self.parsed.span(node.id);
        self.problem(
            code::EXPRESSION_SYNTAX,
            span,
            "this part of CEL is not in the workflow language".into(),
        );
        None
    }

    fn literal(&mut self, node: &IdedExpr, literal: &LiteralValue) -> Option<Type> {
        Some(match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Double(_) => Type::Float,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::Null => optional(never()),
            LiteralValue::String(_) => Type::String,
            LiteralValue::Bytes(_) | LiteralValue::UInt(_) => return self.unsupported(node),
        })
    }

    fn globals(&self) -> Vec<&str> {
        let mut globals: Vec<&str> = self.locals.iter().map(|(name, _)| name.as_str()).collect();
        globals.extend(self.names.inputs.map(|_| "inputs"));
        globals.extend(self.names.steps.map(|_| "steps"));
        globals.push("run");
        globals
    }

    fn name(&mut self, node: &IdedExpr, name: &str) -> Option<Type> {
        self.usage.reads = true;
        if let Some((_, ty)) = self.local(name) {
            return ty.clone();
        }
        let span = self.parsed.span(node.id);
        match name {
            "run" => Some(run_type(self.names.finished)),
            "inputs" if self.names.inputs.is_some() => {
                let inputs = self.names.inputs?;
                self.usage.inputs.extend(inputs.keys().cloned());
                let field = |(name, ty): (&String, &Option<Type>)| {
                    ty.clone().map(|ty| Field { name: name.clone(), ty, doc: None })
                };
                inputs.iter().map(field).collect::<Option<Vec<_>>>().map(Type::Record)
            }
            "steps" if self.names.steps.is_some() => {
                self.problem(code::UNKNOWN_NAME, span, "`steps` is no value by itself".into()).help =
                    Some("name a step and its output: `steps.clone.path`".into());
                None
            }
            "secrets" => self.secret(span),
            "inputs" | "steps" => {
                let help = suggest::listed(self.globals());
                let message = format!("{} cannot see `{name}`", self.names.place);
                self.problem(code::UNKNOWN_NAME, span, message).help = Some(format!("it can use {help}"));
                None
            }
            _ => {
                let inputs = self.names.inputs.into_iter().flat_map(IndexMap::keys).map(String::as_str);
                let steps =
                    self.names.step_names.iter().map(String::as_str).filter(|_| self.names.steps.is_some());
                let help = if inputs.clone().any(|input| input == name) {
                    format!("write `inputs.{name}`")
                } else if steps.clone().any(|step| step == name) {
                    format!("write `steps.{name}`")
                } else {
                    suggest::help("names that can be used here", name, self.globals())
                };
                self.problem(code::UNKNOWN_NAME, span, format!("nothing is called `{name}`")).help =
                    Some(help);
                None
            }
        }
    }

    fn secret(&mut self, span: Range<usize>) -> Option<Type> {
        self.problem(code::SECRET_VALUE, span, "expressions cannot read secrets".into()).help =
            Some("bind the secret to a slot of the step, `secrets: { slot: name }`; `has(secrets.name)` asks whether it is there".into());
        None
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Option<Type> {
        let span = self.field_span(id, &select.field);
        self.field(&select.operand, &select.field, span)
    }

    fn field(&mut self, operand: &IdedExpr, field: &str, span: Range<usize>) -> Option<Type> {
        if let (true, Some(inputs)) = (self.is_global(operand, "inputs"), self.names.inputs) {
            self.usage.reads = true;
            if let Some(ty) = inputs.get(field) {
                self.usage.inputs.insert(field.to_owned());
                return ty.clone();
            }
            let help = if inputs.is_empty() {
                format!("declare it: `inputs: {{ {field}: {{ type: string }} }}`")
            } else {
                suggest::help("the inputs are", field, inputs.keys().map(String::as_str))
            };
            return self.unknown_field(span, format!("there is no input `{field}`"), field, help);
        }
        if self.is_global(operand, "secrets") {
            let whole = self.extent(operand).start..span.end;
            return self.secret(whole);
        }
        if let (true, Some(steps)) = (self.is_global(operand, "steps"), self.names.steps) {
            return match steps(field) {
                Some(_) => {
                    self.problem(
                        code::UNKNOWN_NAME,
                        span,
                        format!("`steps.{field}` is no value by itself"),
                    )
                    .help = Some(format!("name an output: `steps.{field}.OUTPUT`"));
                    None
                }
                None => self.unknown_step(field, span),
            };
        }
        if let Expr::Select(step) = &operand.expr
            && let (true, Some(steps)) = (self.is_global(&step.operand, "steps"), self.names.steps)
        {
            let Some(names) = steps(&step.field) else {
                let span = self.field_span(operand.id, &step.field);
                return self.unknown_step(&step.field, span);
            };
            return self.output(&step.field, &names, field, span, operand);
        }
        let ty = self.infer(operand)?;
        self.field_of(&ty, field, span)
    }

    fn unknown_field(
        &mut self,
        span: Range<usize>,
        message: String,
        field: &str,
        help: String,
    ) -> Option<Type> {
        let fix =
            help.strip_prefix("did you mean `").and_then(|rest| rest.strip_suffix("`?")).map(str::to_owned);
        let problem = self.problem(code::UNKNOWN_FIELD, span, message);
        problem.help = Some(help);
        problem.fix = fix.filter(|fix| fix != field);
        None
    }

    fn unknown_step(&mut self, step: &str, span: Range<usize>) -> Option<Type> {
        let help = suggest::help("the steps are", step, self.names.step_names.iter().map(String::as_str));
        self.problem(code::UNKNOWN_STEP, span, format!("there is no step `{step}`")).help = Some(help);
        None
    }

    fn output(
        &mut self,
        step: &str,
        names: &StepNames,
        field: &str,
        span: Range<usize>,
        operand: &IdedExpr,
    ) -> Option<Type> {
        self.usage.reads = true;
        if let Some(hidden) = &names.hidden {
            let whole = self.extent(operand);
            let help = if hidden.contains("itself") {
                "remove the reference; a step's own arguments come from other steps"
            } else {
                "move the step out of `finally`"
            };
            let message = format!("{} cannot read step `{step}`, {hidden}", self.names.place);
            self.problem(code::ORDER, whole, message).help = Some(help.to_owned());
            return None;
        }
        let about = matches!(field, "state" | "error" | "attempts");
        let path = format!("steps.{step}.");
        let tolerant =
            about || self.tolerant > 0 || self.present.iter().any(|present| present.starts_with(&path));
        *self.usage.steps.entry(step.to_owned()).or_insert(true) &= tolerant;
        let outputs = names.outputs.as_ref()?;
        if let Some(output) = outputs.iter().find(|output| output.name == field) {
            return Some(output.ty.clone());
        }
        if let Some(field) = about_step().into_iter().find(|about| about.name == field) {
            return Some(field.ty);
        }
        let record = Type::Record(outputs.clone());
        let known = outputs.iter().map(|output| output.name.as_str()).chain(["state", "error", "attempts"]);
        let help = suggest::help("its outputs are", field, known);
        self.unknown_field(span, format!("step `{step}` has no output `{field}`"), field, help);
        if let Some(problem) = self.problems.last_mut() {
            problem.label = Some(format!("not a field of {record} ({})", names.uses));
        }
        None
    }

    fn field_of(&mut self, ty: &Type, field: &str, span: Range<usize>) -> Option<Type> {
        match ty {
            Type::Any => Some(Type::Any),
            Type::Option(inner) => self.field_of(inner, field, span).map(optional),
            Type::Map(value) => Some(optional((**value).clone())),
            Type::Record(fields) => {
                if let Some(found) = fields.iter().find(|other| other.name == field) {
                    return Some(found.ty.clone());
                }
                let help = if field == "status"
                    && !self.names.finished
                    && fields.iter().any(|field| field.name == "trigger")
                {
                    "`run.status` is known in `finally` only".to_owned()
                } else {
                    suggest::help("its fields are", field, fields.iter().map(|field| field.name.as_str()))
                };
                self.unknown_field(span, format!("there is no field `{field}`"), field, help);
                if let Some(problem) = self.problems.last_mut() {
                    problem.label = Some(format!("not a field of {ty}"));
                }
                None
            }
            other => {
                let method = Function::find(field, true);
                let problem =
                    self.problem(code::UNKNOWN_FIELD, span, format!("{} has no fields", article(other)));
                problem.help =
                    method.map(|function| format!("a function is called with brackets: `{}`", function.form));
                None
            }
        }
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Option<Type> {
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
    fn hyphen(&mut self, left: &IdedExpr, right: &IdedExpr) -> bool {
        let mut root = right;
        while let Expr::Select(select) = &root.expr {
            root = &select.operand;
        }
        let (Expr::Select(select), Expr::Ident(tail)) = (&left.expr, &root.expr) else { return false };
        if self.local(tail).is_some() || ["inputs", "steps", "run", "secrets"].contains(&tail.as_str()) {
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

    fn has(&mut self, operand: &IdedExpr) {
        match &operand.expr {
            Expr::Select(select) if self.is_global(&select.operand, "secrets") => {
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
                    self.problem(
                        code::UNKNOWN_SECRET,
                        span,
                        format!("there is no secret `{}`", select.field),
                    )
                    .help = Some(help);
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

    fn index(&mut self, operand: &IdedExpr, key: &IdedExpr) -> Option<Type> {
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

    fn binary(
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
    fn bring_together(&self, left: &(&IdedExpr, Type), right: &(&IdedExpr, Type)) -> Option<String> {
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

    fn method(&mut self, node: &IdedExpr, target: &IdedExpr, call: &CallExpr) -> Option<Type> {
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

    fn comprehension(
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
                let span = self.extent(target);
                let text = self.text[span.clone()].to_owned();
                let absent = matches!(other, Type::Option(_));
                let (code, message) = if absent {
                    (code::MAY_BE_ABSENT, format!("`{text}` may be absent, but `{name}` needs a list"))
                } else {
                    (code::TYPE_MISMATCH, format!("`{name}` needs a list, not {}", article(other)))
                };
                self.problem(code, span, message).help = match other {
                    Type::Option(_) => Some(format!("write `{text}.orValue([])`")),
                    ty if is_text(ty) => Some(format!("write `{text}.split(' ')` for the words of a text")),
                    _ => None,
                };
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
            self.bool_operand(filter);
        }
        let result = if name == "map" {
            self.infer(body).map(|ty| Type::List(Box::new(ty)))
        } else {
            self.bool_operand(body);
            Some(Type::Bool)
        };
        self.locals.pop();
        match name {
            "map" => result,
            "filter" => item_type.map(|ty| Type::List(Box::new(ty))),
            _ => Some(Type::Bool),
        }
    }

    fn function(
        &mut self,
        node: &IdedExpr,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Option<Type> {
        let span = self.name_span(node.id);
        let types: Vec<_> = target.into_iter().chain(args).map(|node| self.infer(node)).collect();
        let Some(function) = Function::find(name, target.is_some()) else {
            let other_way = Function::find(name, target.is_none());
            let help = match other_way {
                Some(function) => format!("write `{}`", function.form),
                None => match suggest::nearest(name, names_of_functions()) {
                    Some(found) => {
                        let form = FUNCTIONS
                            .iter()
                            .find(|function| function.name == found)
                            .map_or(found, |function| function.form);
                        format!("did you mean `{found}`? It is written `{form}`")
                    }
                    None => format!("the functions are {}", suggest::listed(names_of_functions())),
                },
            };
            self.problem(code::UNKNOWN_FUNCTION, span, format!("there is no function `{name}`")).help =
                Some(help);
            return None;
        };
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
        let given = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let given = if given.is_empty() { "nothing".to_owned() } else { given };
        self.problem(code::BAD_ARGUMENTS, span, format!("`{name}` does not take {given}")).help =
            Some(format!("write `{}`", function.form));
        None
    }
}

/// Names of everything that is called.
fn names_of_functions() -> impl Iterator<Item = &'static str> + Clone {
    FUNCTIONS.iter().map(|function| function.name).chain(FORMS.iter().map(|form| form.name))
}

/// What every step has besides its outputs.
pub(crate) fn about_step() -> [Field; 3] {
    let field = |name: &str, ty: Type, doc: &str| Field { name: name.into(), ty, doc: Some(doc.into()) };
    let text = |name: &str| Field { name: name.into(), ty: Type::String, doc: None };
    let states = ["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"];
    let error = Type::Record(vec![text("kind"), text("message")]);
    [
        field("state", Type::Enum(states.map(str::to_owned).to_vec()), "How it ended, or where it stands."),
        field("error", optional(error), "Why its last attempt failed, where it did."),
        field("attempts", Type::Int, "How many attempts there were."),
    ]
}

/// The type of `run`.
pub(crate) fn run_type(finished: bool) -> Type {
    let text = |name: &str| Field { name: name.into(), ty: Type::String, doc: None };
    let author = Type::Record(vec![text("name"), text("email")]);
    let mut fields = vec![
        text("id"),
        text("workflow"),
        text("trigger"),
        Field { name: "author".into(), ty: author, doc: None },
    ];
    if finished {
        let states = ["succeeded", "failed", "cancelled", "timed_out"].map(str::to_owned).to_vec();
        fields.push(Field { name: "status".into(), ty: Type::Enum(states), doc: None });
    }
    Type::Record(fields)
}

/// The type with its article: `a string`, `an int`, `a list<string>`.
pub(crate) fn article(ty: &Type) -> String {
    match ty {
        Type::Option(inner) if !is_never(inner) && **inner != Type::Any => article(inner),
        Type::Record(_) => format!("a record {ty}"),
        Type::Tuple(_) => format!("a list {ty}"),
        Type::List(item) if is_never(item) => "an empty list".into(),
        Type::Option(inner) if is_never(inner) => "null".into(),
        Type::Bytes => "bytes".into(),
        Type::Any => "any value".into(),
        Type::Int | Type::Enum(_) => format!("an {ty}"),
        _ => format!("a {ty}"),
    }
}

/// How to turn a value of one type into another.
fn conversion(text: &str, found: &Type, wanted: &Type) -> Option<String> {
    let write = |function: &str| Some(format!("write `{function}({text})`"));
    match (found, wanted) {
        (Type::Int | Type::Float | Type::Bool, Type::String) => write("string"),
        (Type::String | Type::Float | Type::Duration | Type::Size, Type::Int) => write("int"),
        (Type::String | Type::Int, Type::Float) => write("double"),
        (Type::String, Type::Bool) => write("bool"),
        (Type::List(item), Type::String) if is_text(item) => Some(format!("write `{text}.join(' ')`")),
        (_, Type::String) => write("json"),
        (Type::String, Type::List(_)) => Some(format!("write `[{text}]`, or `{text}.split(' ')`")),
        (found, Type::List(item)) if fits(found, item) => Some(format!("write `[{text}]`")),
        (Type::String, Type::Enum(cases)) => {
            Some(format!("declare the input as `{{ type: enum, values: [{}] }}`", cases.join(", ")))
        }
        (Type::String, Type::Duration) => write("duration"),
        _ => None,
    }
}

fn bool_help(ty: &Type, text: &str) -> Option<String> {
    match ty {
        Type::String => Some(format!("compare it: `{text} != ''`")),
        Type::Int => Some(format!("compare it: `{text} > 0`")),
        Type::List(_) | Type::Map(_) => Some(format!("compare its size: `{text}.size() > 0`")),
        Type::Option(_) => Some(format!("ask whether it is there: `has({text})`")),
        _ => None,
    }
}
