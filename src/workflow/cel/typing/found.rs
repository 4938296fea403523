//! The type that is found for an expression: literals, names, and fields of what has them.

use super::checker::Checker;
use super::relation::{ABOUT_STEP, about_step, never, null, optional, present, run_type, unify};
use super::wording::{article, brief};
use super::{StepLookup, StepNames};
use crate::workflow::cel::functions::Function;
use crate::workflow::code;
use crate::workflow::suggest;
use crate::workflow::types::{Field, Type};
use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use indexmap::IndexMap;
use std::ops::Range;

impl Checker<'_, '_> {
    pub(super) fn infer(&mut self, node: &IdedExpr) -> Option<Type> {
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
                let mut mixed = None;
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
                    match unify(&values, &ty) {
                        Some(ty) => values = ty,
                        None => mixed = Some((&entry.value, ty)),
                    }
                }
                match mixed {
                    _ if record => Some(Type::Record(fields)),
                    None => Some(Type::Map(Box::new(values))),
                    Some((value, ty)) => {
                        let span = self.extent(value);
                        let message = format!(
                            "the values of a map with computed keys are of one type, but this is {}",
                            article(&ty)
                        );
                        self.problem(code::TYPE_MISMATCH, span, message).help =
                            Some("give all values one type, or write the keys in quotes".into());
                        None
                    }
                }
            }
            Expr::Call(call) => self.call(node, call),
            Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => self.unsupported(node),
        }
    }

    pub(super) fn unsupported(&mut self, node: &IdedExpr) -> Option<Type> {
        let span = self.parsed.span(node.id);
        self.problem(
            code::EXPRESSION_SYNTAX,
            span,
            "this part of CEL is not in the workflow language".into(),
        );
        None
    }

    pub(super) fn literal(&mut self, node: &IdedExpr, literal: &LiteralValue) -> Option<Type> {
        Some(match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Double(_) => Type::Float,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::Null => null(),
            LiteralValue::String(_) => Type::String,
            LiteralValue::Bytes(_) | LiteralValue::UInt(_) => return self.unsupported(node),
        })
    }

    pub(super) fn globals(&self) -> Vec<&str> {
        let mut globals: Vec<&str> = self.locals.iter().map(|(name, _)| name.as_str()).collect();
        globals.extend(self.names.inputs.map(|_| "inputs"));
        globals.extend(self.names.values.iter().map(|(name, _)| name.as_str()));
        globals.extend(self.names.steps.map(|_| "steps"));
        globals.extend(self.names.run.then_some("run"));
        globals
    }

    pub(super) fn name(&mut self, node: &IdedExpr, name: &str) -> Option<Type> {
        self.usage.reads = true;
        if let Some((_, ty)) = self.local(name) {
            return ty.clone();
        }
        if let Some((name, ty)) = self.names.values.iter().find(|(value, _)| value == name) {
            self.usage.values.insert(name.clone());
            return ty.clone();
        }
        let span = self.parsed.span(node.id);
        match name {
            "run" if self.names.run => Some(run_type(self.names.finished)),
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
            "secrets" if self.names.run => self.secret(span),
            "inputs" | "steps" | "run" | "secrets" | "event" => self.unseen(name, span),
            _ => {
                let inputs = self.names.inputs.into_iter().flat_map(IndexMap::keys).map(String::as_str);
                let fix = if inputs.clone().any(|input| input == name) {
                    Some(format!("inputs.{name}"))
                } else if self.names.steps.is_some_and(|steps| steps.find(name).is_some()) {
                    Some(format!("steps.{name}"))
                } else {
                    None
                };
                let help = match &fix {
                    Some(fix) => format!("write `{fix}`"),
                    None => suggest::help("names that can be used here", name, self.globals()),
                };
                let proposed = suggest::proposed(&help).map(str::to_owned);
                let problem = self.problem(code::UNKNOWN_NAME, span, format!("nothing is called `{name}`"));
                problem.help = Some(help);
                problem.fix = fix.or(proposed);
                None
            }
        }
    }

    /// Reports a name of the language that this place does not see.
    pub(super) fn unseen(&mut self, name: &str, span: Range<usize>) -> Option<Type> {
        let globals = self.globals();
        let help = match (name, globals.as_slice()) {
            ("event", _) => "`event` is what a webhook received; its own `if` and `inputs` see it".into(),
            (_, []) => "write a value without expressions".into(),
            (_, globals) => format!("it can use {}", suggest::listed(globals.iter().copied())),
        };
        let message = format!("{} cannot see `{name}`", self.names.place);
        self.problem(code::UNKNOWN_NAME, span, message).help = Some(help);
        None
    }

    pub(super) fn secret(&mut self, span: Range<usize>) -> Option<Type> {
        self.problem(code::SECRET_VALUE, span, "expressions cannot read secrets".into()).help =
            Some("bind the secret to a slot of the step, `secrets: { slot: name }`; `has(secrets.name)` asks whether it is there".into());
        None
    }

    pub(super) fn select(&mut self, id: u64, select: &SelectExpr) -> Option<Type> {
        let span = self.field_span(id, &select.field);
        self.field(&select.operand, &select.field, span)
    }

    pub(super) fn field(&mut self, operand: &IdedExpr, field: &str, span: Range<usize>) -> Option<Type> {
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
        if self.names.run && self.is_global(operand, "secrets") {
            let whole = self.extent(operand).start..span.end;
            return self.secret(whole);
        }
        if let (true, Some(steps)) = (self.is_global(operand, "steps"), self.names.steps) {
            return match steps.find(field) {
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
            let Some(names) = steps.find(&step.field) else {
                let span = self.field_span(operand.id, &step.field);
                return self.unknown_step(&step.field, span);
            };
            return self.output(&step.field, &names, field, span, operand);
        }
        let ty = self.infer(operand)?;
        self.field_of(&ty, field, span)
    }

    pub(super) fn unknown_field(
        &mut self,
        span: Range<usize>,
        message: String,
        field: &str,
        help: String,
    ) -> Option<Type> {
        let fix = suggest::proposed(&help).filter(|fix| *fix != field).map(str::to_owned);
        let problem = self.problem(code::UNKNOWN_FIELD, span, message);
        problem.help = Some(help);
        problem.fix = fix;
        None
    }

    pub(super) fn unknown_step(&mut self, step: &str, span: Range<usize>) -> Option<Type> {
        let steps = self.names.steps.map(StepLookup::names).unwrap_or_default();
        let help = suggest::help("the steps are", step, steps);
        let problem = self.problem(code::UNKNOWN_STEP, span, format!("there is no step `{step}`"));
        problem.fix = suggest::proposed(&help).map(str::to_owned);
        problem.help = Some(help);
        None
    }

    pub(super) fn output(
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
            let message = format!("{} cannot read step `{step}`, {}", self.names.place, hidden.why);
            self.problem(hidden.code, whole, message).help = Some(hidden.help.clone());
            return None;
        }
        let about = ABOUT_STEP.contains(&field);
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
        let record = brief(&Type::Record(outputs.to_vec()));
        let known = outputs.iter().map(|output| output.name.as_str()).chain(ABOUT_STEP);
        let help = suggest::help("its outputs are", field, known);
        self.unknown_field(span, format!("step `{step}` has no output `{field}`"), field, help);
        if let Some(problem) = self.problems.last_mut() {
            problem.label = Some(format!("not a field of {record} ({})", names.uses));
        }
        None
    }

    pub(super) fn field_of(&mut self, ty: &Type, field: &str, span: Range<usize>) -> Option<Type> {
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
                    problem.label = Some(format!("not a field of {}", brief(ty)));
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
}
