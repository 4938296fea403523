//! Runs attempts: finds the component, checks grants, calls, and stops what takes too long. Leaves nothing running.

use super::attempt::Attempt;
use super::budget::Limits;
use super::component::{Library, LoadError};
use super::context::{Providers, RunContext, RunSetup};
use super::instance::{self, State};
use super::output::Output;
use super::process::{Ask, Processes};
use super::refusals::Refusals;
use super::types::Declared;
use crate::capability::Result;
use crate::capability::meter::Account;
use crate::id::{Digest, RunId};
use crate::step::{ErrorKind, Executor, Permission, StepCall, StepError, StepResult};
use async_trait::async_trait;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::InstancePre;

/// The executor that runs components on this machine.
pub struct HostExecutor {
    library: Library,
    providers: Providers,
    limits: Limits,
    runs: Mutex<HashMap<RunId, Arc<RunContext>>>,
    linked: Mutex<HashMap<Digest, Arc<Linked>>>,
}

/// A component that is ready to be instantiated.
struct Linked {
    component: InstancePre<State>,
    declared: Declared,
}

impl HostExecutor {
    /// An executor over the components of a library.
    pub fn new(library: Library, providers: Providers) -> Self {
        Self::with_limits(library, providers, Limits::default())
    }

    /// An executor with limits of its own.
    pub fn with_limits(library: Library, providers: Providers, limits: Limits) -> Self {
        Self { library, providers, limits, runs: Mutex::default(), linked: Mutex::default() }
    }

    /// Makes a run known, before the first of its attempts. `invalid` where a secret cannot be masked. A run that is
    /// known already keeps its sandboxes and gets nothing new.
    pub fn register(&self, run: &RunId, setup: RunSetup) -> Result<()> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if !runs.contains_key(run) {
            let context = RunContext::new(run.clone(), setup, self.providers.clone())?;
            runs.insert(run.clone(), Arc::new(context));
        }
        Ok(())
    }

    /// Makes a run known, or known anew after its file has changed: attempts from now on get what is in this setup.
    /// `invalid` where a secret cannot be masked.
    pub async fn revise(&self, run: &RunId, setup: RunSetup) -> Result<()> {
        let known = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned();
        let Some(old) = known else { return self.register(run, setup) };
        let new = Arc::new(old.revised(setup).await?);
        old.give_way(&new).await;
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), new);
        Ok(())
    }

    async fn linked(&self, digest: Digest) -> std::result::Result<Arc<Linked>, StepError> {
        let known = |linked: &Mutex<HashMap<Digest, Arc<Linked>>>| {
            linked.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
        };
        if let Some(linked) = known(&self.linked) {
            return Ok(linked);
        }
        let library = self.library.clone();
        // Compiling takes long where the cache has been emptied.
        let linked = tokio::task::spawn_blocking(move || {
            let component = library.load(&digest)?;
            let component = instance::link(library.engine(), &component)?;
            Ok::<_, LoadError>(Linked { component, declared: library.declared(&digest)? })
        })
        .await
        .map_err(|error| StepError::new(ErrorKind::OTHER, format!("cannot load the component: {error}")))?
        .map_err(|error| {
            let kind = match error {
                LoadError::Missing(_) => ErrorKind::NOT_FOUND,
                LoadError::Io(_) => ErrorKind::UNAVAILABLE,
                _ => ErrorKind::INVALID,
            };
            StepError::new(kind, format!("cannot load the component: {error}"))
        })?;
        let linked = Arc::new(linked);
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, linked.clone());
        Ok(linked)
    }
}

#[async_trait]
impl Executor for HostExecutor {
    async fn execute(&self, call: StepCall, cancel: CancellationToken) -> StepResult {
        let started = Instant::now();
        let context = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&call.run).cloned();
        let Some(context) = context else {
            return Err(StepError::new(ErrorKind::OTHER, format!("run {} is not registered here", call.run)));
        };
        let linked = self.linked(call.component).await?;
        granted(&linked.declared, &call.permissions)?;
        let named_slots =
            match linked.declared.functions.iter().find(|function| function.name == call.function) {
                Some(function) => function.secrets.iter().map(|slot| slot.name.clone()).collect(),
                None => {
                    let message = format!("the component has no step function {}", call.function);
                    return Err(StepError::new(ErrorKind::INVALID, message));
                }
            };
        let output =
            Arc::new(Output::new(call.run.clone(), call.at.clone(), call.attempt, context.masker.clone()));
        let refusals = Arc::new(Refusals::new(output.clone(), call.network.clone()));
        // Left only once the attempt has ended, with everything that it ran.
        let _visits = call
            .sandboxes
            .values()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|name| context.sandbox(name)?.enter(call.network.as_ref(), refusals.clone()))
            .collect::<Result<Vec<_>>>()
            .map_err(|error| StepError::new(error.kind, error.message))?;
        context.meter.catch_up(call.spent_before);
        let (at, number, expenses) = (call.at.clone(), call.attempt, call.expenses.clone());
        let account = Account::new(context.meter.clone(), move |spent| expenses.tell(&at, number, spent));
        let attempt = Arc::new(Attempt {
            account: Arc::new(account),
            deadline: call.timeout.map(|timeout| started + timeout),
            output,
            refusals: refusals.clone(),
            processes: Processes::default(),
            named_slots,
            created: Mutex::default(),
            context,
            call,
        });
        let storing = tokio::spawn(attempt.output.clone().store(self.providers.streams.clone()));
        let closing = CloseOnDrop(attempt.output.clone());
        let guest =
            instance::call(self.library.engine(), linked.component.clone(), attempt.clone(), self.limits);
        // A task of its own: a guest that computes must not hold up whoever drives the run.
        let mut guest = AbortOnDrop(tokio::spawn(guest));
        let result = if attempt.call.lose_sandboxes {
            lose(&mut guest, &attempt, cancel, self.limits.grace).await
        } else {
            supervise(&mut guest, &attempt, cancel, self.limits.grace).await
        };
        if !guest.0.is_finished() {
            guest.0.abort();
            // Only once it is gone are its commands nobody's. It was aborted: there is nothing to learn from how.
            let _ = (&mut guest.0).await;
        }
        attempt.end().await;
        drop(closing);
        if let Err(error) = storing.await {
            tracing::warn!("output was lost: {error}");
        }
        match result {
            Ok(outputs) => match attempt.output.mask_json(outputs.into()) {
                serde_json::Value::Object(outputs) => Ok(outputs),
                _ => Err(StepError::new(ErrorKind::OTHER, "masking changed the shape of the outputs")),
            },
            Err(error) => {
                let message = format!("{}{}", error.message, refusals.hint());
                Err(StepError::new(error.kind, attempt.output.mask(&message)))
            }
        }
    }

    async fn release(&self, run: &RunId, keep_files: bool) {
        let context = self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        if let Some(context) = context {
            context.end(keep_files).await;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<StepResult>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct CloseOnDrop(Arc<Output>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Waits for the guest, or for a reason to stop it.
async fn supervise(
    guest: &mut AbortOnDrop,
    attempt: &Attempt,
    cancel: CancellationToken,
    grace: Duration,
) -> StepResult {
    let cancelled = || StepError::new(ErrorKind::CANCELLED, "the attempt was cancelled");
    tokio::select! {
        biased;
        () = cancel.cancelled() => {
            // What the guest makes of the interruption no longer matters, but its commands may put things in order.
            stop(guest, attempt, grace).await;
            Err(cancelled())
        }
        sentence = attempt.account.overdrawn() => {
            stop(guest, attempt, grace).await;
            Err(StepError::new(ErrorKind::BUDGET_EXCEEDED, sentence))
        }
        result = &mut guest.0 => match result {
            Ok(result) => result,
            Err(error) => Err(StepError::new(ErrorKind::OTHER, format!("the host failed in this step: {error}"))),
        },
        () = past(attempt.deadline) => {
            let limit = attempt.call.timeout.unwrap_or_default();
            Err(StepError::new(ErrorKind::TIMED_OUT, format!("the attempt took longer than {}", shown(limit))))
        }
        () = silent(attempt) => {
            let limit = attempt.call.idle_timeout.unwrap_or_default();
            Err(StepError::new(ErrorKind::IDLE_TIMED_OUT, format!("the attempt said nothing for {}", shown(limit))))
        }
    }
}

/// Asks the commands of an attempt to stop, and waits until it is over, or for its grace at most.
async fn stop(guest: &mut AbortOnDrop, attempt: &Attempt, grace: Duration) {
    for (ask, patience) in [(Ask::Interrupt, grace / 3), (Ask::Terminate, grace - grace / 3)] {
        attempt.processes.ask(ask).await;
        if attempt.processes.count() == 0 || tokio::time::timeout(patience, &mut guest.0).await.is_ok() {
            return;
        }
    }
}

/// Ends the sandboxes of the attempt under it: as soon as it runs a command, or once it is over if it runs none.
async fn lose(
    guest: &mut AbortOnDrop,
    attempt: &Attempt,
    cancel: CancellationToken,
    grace: Duration,
) -> StepResult {
    tokio::select! {
        () = attempt.processes.begun() => {}
        result = supervise(guest, attempt, cancel, grace) => match result {
            Err(error) if ErrorKind::HOST.contains(&error.kind) => return Err(error),
            _ => {}
        },
    }
    for name in attempt.call.sandboxes.values() {
        let ended = match attempt.context.sandbox(name) {
            Ok(slot) => slot.terminate().await,
            Err(error) => Err(error),
        };
        ended.map_err(|error| StepError::new(error.kind, error.message))?;
    }
    Err(StepError::new(ErrorKind::SANDBOX_LOST, "injected: the sandbox was ended while the step used it"))
}

async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn silent(attempt: &Attempt) {
    let Some(limit) = attempt.call.idle_timeout else { return std::future::pending().await };
    loop {
        let until = attempt.output.last() + limit;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

fn shown(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{millis:03} s"),
    }
}

/// Refuses a component whose imports need more than was granted.
fn granted(declared: &Declared, permissions: &[Permission]) -> std::result::Result<(), StepError> {
    let held = |need: &str| {
        permissions.iter().any(|permission| match permission {
            Permission::Sandboxes => need == "sandboxes",
            Permission::Images => need == "images",
            Permission::Volumes => need == "volumes",
            Permission::Repos => need == "repos",
            Permission::Scratch => need == "scratch",
            Permission::Http(_) => need == "http",
            Permission::Reveal(_) => need == "reveal",
        })
    };
    match declared.needs.iter().find(|need| !held(need)) {
        None => Ok(()),
        Some(need) => {
            let line = match need.as_str() {
                "reveal" => "{reveal: [SECRET]}",
                "http" => "{http: [HOST]}",
                need => need,
            };
            Err(StepError::new(
                ErrorKind::DENIED,
                format!(
                    "the component needs the permission {need}: write `permissions: [{line}]` in the step"
                ),
            ))
        }
    }
}
