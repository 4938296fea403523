//! Whether a step of a new version is what it was: what it does, with what values, after what. Texts that say the same
//! in other words are the same; limits, retries and groups are no part of what a step has done.

use super::super::phase::Phase;
use super::super::state::Run;
use super::super::verdict::Verdict;
use super::Terms;
use crate::id::{StepId, StepRef};
use crate::step::Permission;
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Call, SandboxTemplate, Step};
use serde_json::{Value, json};

/// Two versions of a run: as it is, and as it becomes while the steps before the one in question are decided.
pub(super) struct Versions<'a> {
    pub(super) old: &'a Run,
    pub(super) new: &'a Run,
}

impl Versions<'_> {
    /// What has changed about a step that both versions have, as the end of a sentence; nothing where it is the same.
    pub(super) fn change(&self, at: &StepRef) -> Option<String> {
        let (Some(old), Some(new)) = (self.old.definition(&at.step), self.new.definition(&at.step)) else {
            return Some("it is new".into());
        };
        match (self.old.is_of_finally(&at.step), self.new.is_of_finally(&at.step)) {
            (false, true) => return Some("it has moved to `finally`".into()),
            (true, false) => return Some("it has moved out of `finally`".into()),
            _ => {}
        }
        match self.new.verdict(at) {
            Verdict::NotYet => return Some(self.unsettled(at, new)),
            Verdict::Skip(reason) => return Some(format!("it would be skipped now: {reason}")),
            Verdict::Start => {}
        }
        match (&old.action, &new.action) {
            (Action::Call(old), Action::Call(new)) => {
                self.called(old, new).or_else(|| self.arguments(at)).or_else(|| self.sandboxes(at, new))
            }
            (Action::Workflow(old), Action::Workflow(new)) if old.definition != new.definition => {
                Some(format!("its workflow {} has changed", new.uses))
            }
            (Action::Workflow(_), Action::Workflow(_)) => self.arguments(at),
            (Action::Approve(before), Action::Approve(now)) => {
                let asked = match self.old.state(at).map(|state| &state.phase) {
                    Some(Phase::Asking { message, .. }) => Ok(message.clone()),
                    _ => self.old.question(at, &before.message),
                };
                (asked != self.new.question(at, &now.message)).then(|| "it asks something else".into())
            }
            (Action::ForEach(before), Action::ForEach(now)) => {
                let same = self.old.loop_items(at, before) == self.new.loop_items(at, now);
                (!same).then(|| "its list has changed".into())
            }
            _ => Some("it does something else".into()),
        }
    }

    /// Which step it waits for that is to be done.
    fn unsettled(&self, at: &StepRef, step: &Step) -> String {
        let open = |id: &&StepId| self.new.beside(at, id).is_none_or(|phase| !phase.is_settled());
        let read = step.reads.iter().map(|read| &read.step).find(open).map(|id| ("reads", id));
        let need = || step.needs.iter().find(open).map(|id| ("needs", id));
        match read.or_else(need) {
            Some((how, id)) => format!("it {how} `{id}`, which is to be done"),
            None => "what it depends on is to be done".into(),
        }
    }

    fn called(&self, old: &Call, new: &Call) -> Option<String> {
        let what = if (&old.component, &old.function) != (&new.component, &new.function) {
            format!("it calls {}, not {}", new.uses, old.uses)
        } else if old.digest != new.digest {
            format!("the component {} has other content", new.component)
        } else if old.sandboxes != new.sandboxes {
            "it works in another sandbox".into()
        } else if old.network != new.network {
            "it may reach something else".into()
        } else if old.secrets != new.secrets {
            "it is handed other secrets".into()
        } else if old.permissions != new.permissions {
            "it has other permissions".into()
        } else {
            return None;
        };
        Some(what)
    }

    fn arguments(&self, at: &StepRef) -> Option<String> {
        match (self.old.arguments(at), self.new.arguments(at)) {
            (Ok(old), Ok(new)) => {
                let differs = |name: &&String| old.get(*name) != new.get(*name);
                let name = old.keys().chain(new.keys()).find(differs)?;
                Some(match (old.get(name), new.get(name)) {
                    (None, _) => format!("`with.{name}` is new"),
                    (_, None) => format!("`with.{name}` is gone"),
                    _ => format!("`with.{name}` has another value"),
                })
            }
            (Err(old), Err(new)) if old == new => None,
            (_, Err(new)) => Some(new.message),
            (Err(_), Ok(_)) => Some("its arguments can be computed now".into()),
        }
    }

    /// An attempt at work has its sandbox as it was when it was opened.
    fn sandboxes(&self, at: &StepRef, call: &Call) -> Option<String> {
        let running = matches!(self.old.state(at)?.phase, Phase::Running { .. });
        let differs = |name: &&String| {
            let sandbox =
                |run: &Run| run.workflow().sandboxes.get(*name).map(|it| (files(run, it), settings(run, it)));
            sandbox(self.old) != sandbox(self.new)
        };
        let name = call.sandboxes.values().find(differs).filter(|_| running)?;
        Some(format!("its sandbox `{name}` has other settings"))
    }

    /// Whether the file only says in other words what it said of a step.
    pub(super) fn is_reworded(&self, at: &StepRef) -> bool {
        self.old.definition(&at.step) != self.new.definition(&at.step)
    }

    /// A sandbox whose files were made from something else than the new version says, and steps have worked in it.
    pub(super) fn stale_sandbox(&self) -> Option<String> {
        let old = &self.old.workflow().sandboxes;
        let mut both =
            old.iter().filter_map(|(name, old)| Some((name, old, self.new.workflow().sandboxes.get(name)?)));
        let used = |name: &String| {
            self.old.all_states().into_iter().any(|(at, state)| {
                let call = self.old.definition(&at.step).and_then(Step::call);
                !state.attempts.is_empty()
                    && call.is_some_and(|call| call.sandboxes.values().any(|used| used == name))
            })
        };
        let stale = both.find(|(name, old, new)| files(self.old, old) != files(self.new, new) && used(name));
        stale.map(|(name, ..)| name.clone())
    }
}

/// What the files in a sandbox come from.
fn files(run: &Run, sandbox: &SandboxTemplate) -> Value {
    let volumes: Vec<_> =
        sandbox.volumes.iter().map(|(path, volume)| json!([path, run.setting(volume)])).collect();
    let fallback = sandbox.image_fallback.as_ref().map(|image| run.setting(image));
    json!([run.setting(&sandbox.image), fallback, volumes])
}

/// How a sandbox is kept, besides.
fn settings(run: &Run, sandbox: &SandboxTemplate) -> Value {
    let SandboxTemplate { network, cpu, memory, disk, timeout_ms, workdir, user, .. } = sandbox;
    let env: Vec<_> = sandbox.env.iter().map(|(name, value)| json!([name, run.setting(value)])).collect();
    json!([env, network, cpu, memory, disk, timeout_ms, workdir, user])
}

/// Whether doing a step again could repeat something outside of the run's own sandboxes that nobody can tell from the
/// first time. Its file says that it may be repeated by `cache` or `idempotency-key`.
pub(super) fn reaches_out(workflow: &Workflow, step: &Step, terms: &Terms) -> bool {
    match &step.action {
        Action::Approve(_) => false,
        Action::ForEach(each) => each.steps.values().any(|inner| reaches_out(workflow, inner, terms)),
        Action::Workflow(sub) => {
            sub.definition.all_steps().any(|(_, inner)| reaches_out(&sub.definition, inner, terms))
        }
        Action::Call(call) if call.cache.is_some() || call.idempotency_key.is_some() => false,
        Action::Call(call) => {
            let open = |name: &String| workflow.sandboxes.get(name).is_some_and(|it| !it.is_closed_to(call));
            let harmless = |it: &Permission| matches!(it, Permission::Scratch | Permission::Repos);
            !terms.contained.contains(&call.digest)
                || !call.secrets.is_empty()
                || !call.permissions.iter().all(harmless)
                || call.sandboxes.values().any(open)
        }
    }
}
