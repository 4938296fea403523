//! One call of one step function: a fresh store, the inert WASI base, the handles, the call itself. Nothing of it
//! outlives the call.

use super::attempt::Attempt;
use super::bindings::harvest;
use super::budget::{Limits, Memory, OutOfMemory, OutOfTime, metered};
use super::component::LoadError;
use super::handle::SandboxHandle;
use super::{stdio, value};
use crate::capability::secret::RunSecret;
use crate::step::{ErrorKind, StepError, StepResult};
use serde_json::{Map, Value};
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, HasSelf, InstancePre, Linker, Resource, ResourceTable, ResourceType, Type, Val,
};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

/// Bytes of a step's outputs as JSON. Larger things belong into artifacts, volumes or sandboxes.
const OUTPUTS_LIMIT: usize = 1 << 20;

/// What host functions see.
pub(super) struct State {
    pub(super) table: ResourceTable,
    pub(super) attempt: Arc<Attempt>,
    /// Sandboxes that the step created, by number of them; see `sandboxes.rs`.
    pub(super) created: usize,
    wasi: WasiCtx,
    memory: Memory,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Links a component with the interfaces it imports. Whether they are granted is asked before each call.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<InstancePre<State>, LoadError> {
    let incompatible = |error: wasmtime::Error| LoadError::Malformed(format!("{error:#}"));
    let mut linker = Linker::<State>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(incompatible)?;
    add_interfaces(&mut linker).map_err(incompatible)?;
    refuse_http(&mut linker, engine, component).map_err(incompatible)?;
    linker.instantiate_pre(component).map_err(incompatible)
}

fn add_interfaces(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Own = HasSelf<State>;
    harvest::run::run::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::run::ledger::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::streams::streams::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::types::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::store::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::sandboxes::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::images::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::volumes::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::sandbox::reveal::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::git::repositories::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::git::signing::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::repos::registry::add_to_linker::<_, Own>(linker, |state| state)?;
    harvest::http::outgoing::add_to_linker::<_, Own>(linker, |state| state)
}

/// Interpreters import `wasi:http` whether their program uses it or not, so it is linked and refuses when called.
fn refuse_http(linker: &mut Linker<State>, engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    let ty = component.component_type();
    for (name, import) in ty.imports(engine).filter(|(name, _)| name.starts_with("wasi:http/")) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{name}#{item}");
                    instance.func_new(item, move |_, _, _, _| Err(HttpRefused(called.clone()).into()))?;
                }
                ComponentItem::Resource(_) => {
                    instance.resource(item, ResourceType::host::<()>(), |_, _| Ok(()))?
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the component called {0}: a step has no network of its own; it works in a sandbox, whose `network:` says what it reaches"
)]
struct HttpRefused(String);

/// Calls the attempt's function, to its end or its trap.
pub(super) fn call(
    engine: &Engine,
    component: InstancePre<State>,
    attempt: Arc<Attempt>,
    limits: Limits,
) -> impl Future<Output = StepResult> + use<> {
    let wasi = WasiCtx::builder()
        .stdout(stdio::Log(attempt.output.clone()))
        .stderr(stdio::Log(attempt.output.clone()))
        .build();
    let state =
        State { table: ResourceTable::new(), attempt, created: 0, wasi, memory: Memory::new(&limits) };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    metered(store, limits.cpu, async move |mut store| match run(&mut store, &component).await {
        Ok(result) => result,
        Err(error) => Err(trapped(&error)),
    })
}

async fn run(store: &mut Store<State>, component: &InstancePre<State>) -> wasmtime::Result<StepResult> {
    let instance = component.instantiate_async(&mut *store).await?;
    let name = store.data().attempt.call.function.replace('_', "-");
    let Some(function) = instance.get_func(&mut *store, name.as_str()) else {
        let message = format!("the component has no function {}", store.data().attempt.call.function);
        return Ok(Err(StepError::new(ErrorKind::INVALID, message)));
    };
    let ty = function.ty(&*store);
    let mut arguments = Vec::new();
    for (name, ty) in ty.params() {
        match argument(store, &super::types::snake(name), &ty) {
            Ok(argument) => arguments.push(argument),
            Err(error) => return Ok(Err(error)),
        }
    }
    let Some(Type::Result(ty)) = ty.results().next() else {
        return Ok(Err(StepError::new(
            ErrorKind::INVALID,
            format!("{name} is no step: it returns no result"),
        )));
    };
    let mut results = [Val::Bool(false)];
    function.call_async(&mut *store, &arguments, &mut results).await?;
    let [Val::Result(result)] = results else {
        return Err(wasmtime::format_err!("the component returned something else than its type says"));
    };
    Ok(match result {
        Ok(value) => outputs(value.as_deref(), ty.ok()),
        Err(value) => Err(failed(value.as_deref())),
    })
}

/// The value for a parameter: a handle by its type, anything else from the arguments.
fn argument(store: &mut Store<State>, name: &str, ty: &Type) -> Result<Val, StepError> {
    let attempt = store.data().attempt.clone();
    let sandbox = ResourceType::host::<SandboxHandle>();
    let secret = ResourceType::host::<RunSecret>();
    match ty {
        Type::Borrow(resource) if *resource == sandbox => {
            let bound = attempt.call.sandboxes.get(name).ok_or_else(|| unbound(name, "sandbox"))?;
            let slot = attempt.context.sandbox(bound)?;
            resource_argument(store, SandboxHandle::OfRun(slot))
        }
        Type::Borrow(resource) if *resource == secret => {
            let secret = bound_secret(&attempt, name).ok_or_else(|| unbound(name, "secret"))?;
            resource_argument(store, secret)
        }
        Type::Option(inner) if inner.ty() == Type::Borrow(secret) => {
            let handle =
                bound_secret(&attempt, name).map(|secret| resource_argument(store, secret)).transpose()?;
            Ok(Val::Option(handle.map(Box::new)))
        }
        Type::List(list) if is_named_secret(&list.ty(), secret) => {
            let mut pairs = Vec::new();
            for slot in attempt.further_slots() {
                let secret = bound_secret(&attempt, slot).ok_or_else(|| unbound(slot, "secret"))?;
                pairs.push(Val::Tuple(vec![Val::String(slot.to_owned()), resource_argument(store, secret)?]));
            }
            Ok(Val::List(pairs))
        }
        ty => match (attempt.call.arguments.get(name), ty) {
            (Some(json), ty) => value::to_component(json, ty, name)
                .map_err(|error| StepError::new(ErrorKind::INVALID, error.to_string())),
            (None, Type::Option(_)) => Ok(Val::Option(None)),
            (None, _) => Err(StepError::new(ErrorKind::INVALID, format!("with.{name} is missing"))),
        },
    }
}

fn bound_secret(attempt: &Attempt, slot: &str) -> Option<RunSecret> {
    attempt.context.secret(attempt.call.secrets.get(slot)?)
}

fn unbound(name: &str, what: &str) -> StepError {
    StepError::new(
        ErrorKind::INVALID,
        format!("no {what} is bound to {name}; write it under `{what}s:` of the step"),
    )
}

fn is_named_secret(ty: &Type, secret: ResourceType) -> bool {
    match ty {
        Type::Tuple(pair) => {
            pair.types().eq([Type::String, Type::Borrow(secret)])
                || pair.types().eq([Type::String, Type::Own(secret)])
        }
        _ => false,
    }
}

fn resource_argument<T: Send + 'static>(store: &mut Store<State>, object: T) -> Result<Val, StepError> {
    let bug = |error: &dyn std::fmt::Display| {
        StepError::new(ErrorKind::OTHER, format!("cannot make a handle: {error}"))
    };
    let resource = store.data_mut().table.push(object).map_err(|error| bug(&error))?;
    // An owned handle of the host's side, lent to the guest for the call.
    let any = Resource::<T>::new_own(resource.rep()).try_into_resource_any(&mut *store);
    Ok(Val::Resource(any.map_err(|error| bug(&error))?))
}

fn outputs(value: Option<&Val>, ty: Option<Type>) -> StepResult {
    let invalid = |error: value::Mismatch| {
        StepError::new(ErrorKind::INVALID, format!("the component returned {error}"))
    };
    let outputs = match (value, ty) {
        (Some(value), Some(ty)) => match value::to_json(value, &ty, "outputs").map_err(invalid)? {
            Value::Object(outputs) if matches!(ty, Type::Record(_)) => outputs,
            value => Map::from_iter([("value".to_owned(), value)]),
        },
        _ => Map::new(),
    };
    let size = serde_json::to_vec(&outputs).map_or(usize::MAX, |json| json.len());
    match size > OUTPUTS_LIMIT {
        true => Err(StepError::new(
            ErrorKind::TOO_LARGE,
            format!(
                "the outputs have {size} bytes; at most {OUTPUTS_LIMIT} are kept: use an artifact or a volume"
            ),
        )),
        false => Ok(outputs),
    }
}

/// The error a guest returned: its case is the kind, the text in it the message.
fn failed(value: Option<&Val>) -> StepError {
    match value {
        Some(Val::Variant(case, payload)) => {
            let message = match payload.as_deref() {
                Some(Val::String(message)) => message.clone(),
                Some(Val::Record(fields)) => fields
                    .iter()
                    .find_map(|(name, value)| match value {
                        Val::String(text) if name == "message" => Some(text.clone()),
                        _ => None,
                    })
                    .unwrap_or_else(|| case.clone()),
                _ => case.clone(),
            };
            StepError::new(ErrorKind::new(case.clone()), message)
        }
        Some(Val::Enum(case)) => StepError::new(ErrorKind::new(case.clone()), case.clone()),
        Some(Val::String(message)) => StepError::new(ErrorKind::OTHER, message.clone()),
        _ => StepError::new(ErrorKind::OTHER, "the component failed and did not say why"),
    }
}

/// Why a guest did not return.
fn trapped(error: &wasmtime::Error) -> StepError {
    if let Some(error) = error.downcast_ref::<OutOfMemory>() {
        return StepError::new(ErrorKind::OUT_OF_MEMORY, error.to_string());
    }
    if let Some(error) = error.downcast_ref::<OutOfTime>() {
        return StepError::new(ErrorKind::TRAPPED, error.to_string());
    }
    if let Some(error) = error.downcast_ref::<HttpRefused>() {
        return StepError::new(ErrorKind::DENIED, error.to_string());
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return StepError::new(ErrorKind::TRAPPED, format!("the component exited with code {code}"));
    }
    let cause = match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    StepError::new(
        ErrorKind::TRAPPED,
        format!("the component trapped: {cause}; what it said is in the step's log"),
    )
}
