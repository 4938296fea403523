//! A `for-each` at work: its items, how many of them are under way, and what came of each.

use super::event::{LoopItem, RunError};
use super::phase::{Phase, StepState};
use super::planted::{Planted, planted};
use crate::id::StepId;
use crate::workflow::model::ForEach;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Items of one `for-each`; more belong into several runs.
pub const ITEMS_MAX: usize = 10_000;

/// The items of a `for-each`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Loop {
    items: Vec<Item>,
    by_key: BTreeMap<String, usize>,
    /// Items that have not begun.
    pending: BTreeSet<usize>,
    /// Items under way.
    open: BTreeSet<usize>,
    /// Whether an item failed and the others are to stop.
    stopping: bool,
}

/// One item, and its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it is known by.
    pub key: String,
    /// The item.
    pub value: Value,
    /// Its steps; empty before it begins.
    pub steps: BTreeMap<StepId, StepState>,
    /// What expressions of its steps see of each other.
    pub(super) view: Map<String, Value>,
    /// Why it failed, if it did.
    pub error: Option<RunError>,
    /// Whether it is under way or over.
    pub(super) begun: bool,
    /// Whether it was stopped before its steps had ended.
    stopped: bool,
}

impl Item {
    /// The word in JSON and expressions.
    pub fn state(&self) -> &'static str {
        match (&self.error, self.stopped) {
            _ if !self.begun => "pending",
            (Some(_), _) => "failed",
            (None, true) => "cancelled",
            (None, false) if self.is_over(false) => "succeeded",
            (None, false) => "running",
        }
    }

    fn is_over(&self, stopping: bool) -> bool {
        let stopping = stopping || self.error.is_some();
        self.steps.values().all(|state| state.phase.is_settled() || stopping && !state.phase.is_at_work())
    }
}

impl Loop {
    /// The items of a loop that begins; `None` where two have one key. Attempts that an earlier time made stay on record.
    pub(super) fn new(items: &[LoopItem], earlier: Option<&Self>) -> Option<Self> {
        let renewed = |item: &Item| {
            let mut steps = item.steps.clone();
            steps.values_mut().for_each(StepState::renew);
            steps
        };
        let fresh = |item: &LoopItem| Item {
            key: item.key.clone(),
            value: item.value.clone(),
            steps: earlier.and_then(|earlier| earlier.item(&item.key)).map(renewed).unwrap_or_default(),
            view: Map::new(),
            error: None,
            begun: false,
            stopped: false,
        };
        let by_key: BTreeMap<_, _> =
            items.iter().enumerate().map(|(at, item)| (item.key.clone(), at)).collect();
        (by_key.len() == items.len()).then(|| Self {
            items: items.iter().map(fresh).collect(),
            by_key,
            pending: (0..items.len() - usize::from(planted(Planted::LoopDropsItem) && items.len() > 1))
                .collect(),
            open: BTreeSet::new(),
            stopping: false,
        })
    }

    /// All items, in the order of the list.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Items under way.
    pub(super) fn open(&self) -> impl Iterator<Item = &Item> {
        self.open.iter().map(|at| &self.items[*at])
    }

    pub(super) fn item(&self, key: &str) -> Option<&Item> {
        self.by_key.get(key).map(|at| &self.items[*at])
    }

    pub(super) fn item_mut(&mut self, key: &str) -> Option<&mut Item> {
        self.by_key.get(key).map(|at| &mut self.items[*at])
    }

    /// Whether steps of this item are to stop.
    pub(super) fn is_stopping(&self, item: &Item) -> bool {
        self.stopping || item.error.is_some()
    }

    /// Takes items that are over out of work and lets others begin. Returns whether the loop is over.
    pub(super) fn turn(&mut self, each: &ForEach, stopping: bool, at_ms: i64) -> bool {
        loop {
            // From the failure on, not only once the item's other steps have ended.
            let goes_on = planted(Planted::LoopGoesOn);
            self.stopping |=
                !goes_on && !each.continue_on_failure && self.open().any(|item| item.error.is_some());
            let stops = stopping || self.stopping;
            let over: Vec<usize> =
                self.open.iter().copied().filter(|at| self.items[*at].is_over(stops)).collect();
            for at in &over {
                self.open.remove(at);
                let item = &mut self.items[*at];
                item.stopped = item.error.is_none() && !item.is_over(false);
                item.steps.values_mut().for_each(|state| state.close(at_ms));
            }
            let mut begun = false;
            let width = each.parallel as usize + usize::from(planted(Planted::LoopTooWide));
            while !(stopping || self.stopping) && self.open.len() < width {
                let Some(at) = self.pending.pop_first() else { break };
                self.open.insert(at);
                self.items[at].begin(each);
                begun = true;
            }
            if over.is_empty() && !begun {
                return self.open.is_empty();
            }
        }
    }

    /// Why the loop failed: the first item's failure that nothing tolerates.
    pub(super) fn failure(&self) -> Option<&RunError> {
        self.stopping.then(|| self.items.iter().find_map(|item| item.error.as_ref())).flatten()
    }

    /// Makes everything due again that has not succeeded.
    pub(super) fn renew(&mut self) {
        self.stopping = false;
        self.open.clear();
        for (at, item) in self.items.iter_mut().enumerate() {
            if item.state() == "succeeded" && !planted(Planted::RetryRepeatsItems) {
                continue;
            }
            item.error = None;
            (item.begun, item.stopped) = (false, false);
            for state in item
                .steps
                .values_mut()
                .filter(|state| state.phase != Phase::Succeeded || planted(Planted::RetryRepeatsItems))
            {
                state.renew();
            }
            self.pending.insert(at);
        }
    }

    /// Its items, once it is no loop of the run any more.
    pub(super) fn into_items(self) -> Vec<Item> {
        self.items
    }

    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        self.items.iter_mut()
    }

    /// Whether an item has failed, and the others stop.
    pub(super) fn is_stopping_all(&self) -> bool {
        self.stopping
    }

    /// The loop with another list: items of the same key stay where they stand. Returns the items that are gone; `None`
    /// where two have one key.
    pub(super) fn revised(&self, items: &[LoopItem]) -> Option<(Self, Vec<Item>)> {
        let mut revised = Self::new(items, None)?;
        revised.pending.clear();
        for item in &mut revised.items {
            if let Some(at) = self.by_key.get(&item.key) {
                let value = std::mem::take(&mut item.value);
                *item = Item { value, ..self.items[*at].clone() };
            }
        }
        let at = |item: usize| revised.by_key.get(&self.items[item].key).copied();
        revised.open = self.open.iter().filter_map(|item| at(*item)).collect();
        let gone = self.items.iter().filter(|item| !revised.by_key.contains_key(&item.key));
        Some((revised.clone(), gone.cloned().collect()))
    }

    /// Says anew which items are under way, are over or are to begin, after steps of them were set back.
    pub(super) fn reckon(&mut self, each: &ForEach) {
        self.pending.clear();
        for (at, item) in self.items.iter_mut().enumerate() {
            let failed = |id: &StepId| item.steps.get(id).is_some_and(|state| state.phase == Phase::Failed);
            if !item.error.as_ref().and_then(|error| error.step.as_ref()).is_some_and(failed) {
                (item.error, item.stopped) = (None, false);
            }
            let whole = each.steps.keys().all(|id| item.steps.contains_key(id));
            let over = item.is_over(false) && whole || item.error.is_some() && item.is_over(true);
            let waits = |state: &StepState| {
                !state.phase.is_settled() && !matches!(state.phase, Phase::Waiting { .. })
            };
            if item.begun && over {
                self.open.remove(&at);
            } else if item.begun && (self.open.contains(&at) || item.steps.values().any(waits)) {
                self.open.insert(at);
                item.begin(each);
            } else {
                self.open.remove(&at);
                (item.begun, item.stopped) = (false, false);
                self.pending.insert(at);
            }
        }
        self.stopping = !each.continue_on_failure && self.items.iter().any(|item| item.error.is_some());
    }

    /// Takes all items out of work: the loop will begin anew.
    pub(super) fn shut(&mut self) {
        self.open.clear();
        self.pending.clear();
    }

    /// What expressions see of the loop once it is over.
    pub(super) fn outputs(&self) -> Map<String, Value> {
        let all: Vec<Value> = self.items.iter().map(Item::outputs).collect();
        let only =
            |state: &str| all.iter().filter(|item| item["state"] == state).cloned().collect::<Vec<_>>();
        let (succeeded, failed) = (only("succeeded"), only("failed"));
        Map::from_iter([
            ("total".into(), all.len().into()),
            ("succeeded".into(), succeeded.into()),
            ("failed".into(), failed.into()),
            ("items".into(), all.into()),
        ])
    }
}

impl Item {
    /// Gives it its steps, those that it has kept.
    fn begin(&mut self, each: &ForEach) {
        self.begun = true;
        for id in each.steps.keys() {
            let state = self.steps.entry(id.clone()).or_insert_with(StepState::new);
            super::view::show(&mut self.view, id, state, None);
        }
    }

    fn outputs(&self) -> Value {
        let error = self.error.as_ref().map(
            |error| json!({ "step": error.step, "kind": error.error.kind, "message": error.error.message }),
        );
        json!({ "key": self.key, "state": self.state(), "item": self.value, "error": error, "steps": self.view })
    }
}
