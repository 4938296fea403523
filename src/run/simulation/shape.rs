//! Random workflows: every action, every edge, every policy.

use crate::id::{Digest, StepId};
use crate::workflow::Workflow;
use crate::workflow::model::{
    Action, Approval, Attempts, Cache, Call, Concurrency, Expression, ForEach, OnConflict, Output, Read,
    Retry, Step, Template,
};
use crate::workflow::types::Type;
use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
pub(super) struct Shape {
    needs: Vec<u8>,
    reads: Vec<(u8, bool)>,
    condition: Option<bool>,
    attempts: u32,
    first_ms: u64,
    tolerated: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Call { grouped: bool, queue_ms: Option<u64>, cached: bool },
    Approve { timeout_ms: Option<u64>, yes: bool },
    Loop { items: u8, parallel: u32, goes_on: bool, body: Vec<Shape> },
}

fn call() -> impl Strategy<Value = Kind> {
    (prop::bool::weighted(0.2), prop::option::weighted(0.3, 1u64..100), prop::bool::weighted(0.1))
        .prop_map(|(grouped, queue_ms, cached)| Kind::Call { grouped, queue_ms, cached })
}

fn shape(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Shape> {
    (
        prop::collection::vec(any::<u8>(), 0..3),
        prop::collection::vec(any::<(u8, bool)>(), 0..3),
        prop::option::weighted(0.3, any::<bool>()),
        1u32..4,
        0u64..50,
        prop::bool::weighted(0.2),
        kind,
    )
        .prop_map(|(needs, reads, condition, attempts, first_ms, tolerated, kind)| Shape {
            needs,
            reads,
            condition,
            attempts,
            first_ms,
            tolerated,
            kind,
        })
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<Shape>> {
    let approve = (prop::option::of(1u64..100), any::<bool>())
        .prop_map(|(timeout_ms, yes)| Kind::Approve { timeout_ms, yes });
    let body = prop::collection::vec(shape(prop_oneof![9 => call(), 1 => approve.clone()]), 1..4);
    let each = (0u8..5, 1u32..4, any::<bool>(), body)
        .prop_map(|(items, parallel, goes_on, body)| Kind::Loop { items, parallel, goes_on, body });
    prop::collection::vec(shape(prop_oneof![8 => call(), 1 => approve, 2 => each]), 0..most)
}

pub(super) fn workflows() -> impl Strategy<Value = Workflow> {
    let limits =
        (prop::option::weighted(0.2, 1u64..200), prop::option::weighted(0.2, prop::option::of(1u64..100)));
    (shapes(9), shapes(4), limits).prop_map(|(main, finally, (timeout_ms, group))| {
        let steps = section("s", &main, &[]);
        let all: Vec<StepId> = steps.keys().cloned().collect();
        let outputs = steps.keys().take(2).map(|id| {
            let value = Template::Expression(Expression(format!("steps.{id}.value")));
            (format!("from_{id}"), Output { value, ty: Type::Option(Box::new(Type::Int)) })
        });
        Workflow {
            name: "simulated".into(),
            description: None,
            inputs: IndexMap::new(),
            secrets: IndexMap::new(),
            sandboxes: IndexMap::new(),
            timeout_ms,
            budget_micro_usd: None,
            concurrency: group.map(concurrency),
            triggers: vec![],
            hashes: Default::default(),
            outputs: outputs.collect(),
            finally: section("f", &finally, &all),
            finally_timeout_ms: 100,
            steps,
        }
    })
}

fn concurrency(timeout_ms: Option<u64>) -> Concurrency {
    Concurrency { group: Template::Literal(json!("g")), limit: 1, on_conflict: OnConflict::Queue, timeout_ms }
}

/// Steps that need and read earlier ones of the section, and read any of `readable`.
fn section(prefix: &str, shapes: &[Shape], readable: &[StepId]) -> IndexMap<StepId, Step> {
    let mut steps = IndexMap::new();
    for (i, shape) in shapes.iter().enumerate() {
        let earlier: Vec<StepId> = steps.keys().cloned().collect();
        let pick = |from: &[StepId], n: u8| from.get(usize::from(n) % from.len().max(1)).cloned();
        let pool: Vec<StepId> = earlier.iter().chain(readable).cloned().collect();
        let reads: Vec<Read> = shape
            .reads
            .iter()
            .filter_map(|(n, tolerant)| pick(&pool, *n).map(|step| Read { step, tolerant: *tolerant }))
            .collect();
        let id = format!("{prefix}{i}");
        let step = Step {
            action: action(&id, shape, &reads),
            needs: shape.needs.iter().filter_map(|n| pick(&earlier, *n)).collect(),
            reads,
            condition: shape.condition.map(|value| Expression(value.to_string())),
            continue_on_error: shape.tolerated,
            outputs: vec![],
        };
        steps.insert(StepId::new(id), step);
    }
    steps
}

fn action(id: &str, shape: &Shape, reads: &[Read]) -> Action {
    match &shape.kind {
        Kind::Call { grouped, queue_ms, cached } => {
            let with = reads.iter().filter(|read| !read.tolerant).map(|read| {
                (
                    read.step.to_string(),
                    Template::Expression(Expression(format!("steps.{}.value", read.step))),
                )
            });
            let retry = Retry { attempts: shape.attempts, first_ms: shape.first_ms, ..Retry::default() };
            Action::Call(Box::new(Call {
                uses: "sim/step".into(),
                component: "sim".into(),
                digest: Digest::of(b"sim"),
                function: "step".into(),
                with: with.collect(),
                sandboxes: Default::default(),
                network: None,
                secrets: Default::default(),
                permissions: vec![],
                attempts: Attempts { retry, ..Attempts::default() },
                concurrency: grouped.then(|| concurrency(*queue_ms)),
                cache: cached.then(|| Cache {
                    key: vec![Expression("1".into())],
                    ttl_ms: None,
                    bypass: None,
                }),
                idempotency_key: None,
            }))
        }
        Kind::Approve { timeout_ms, yes } => Action::Approve(Box::new(Approval {
            message: Template::Literal(json!("Go on?")),
            timeout_ms: *timeout_ms,
            approve_on_timeout: *yes,
        })),
        Kind::Loop { items, parallel, goes_on, body } => {
            let list: Vec<String> = (0..*items).map(|n| format!("'{n}'")).collect();
            Action::ForEach(Box::new(ForEach {
                item: "it".into(),
                items: Expression(format!("[{}]", list.join(", "))),
                key: Expression("it".into()),
                parallel: *parallel,
                continue_on_failure: *goes_on,
                steps: section(&format!("{id}_"), body, &[]),
            }))
        }
    }
}
