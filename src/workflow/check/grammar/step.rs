//! The keys of steps. What a step does decides which keys have a place in it.

use super::super::keys::{Key, Keys, Shape};
use super::declare::{PERMISSION, REACH};

/// What stands behind `steps` and `finally`.
pub(super) const STEPS: &[Shape] = &[Shape::Named(&[Shape::Kinds(&[&CALL, &SUB_WORKFLOW, &APPROVE, &LOOP])])];

/// Keys of the language that this version does not carry out in any step.
const LATER: &[&str] = &["env", "name", "description", "run"];

const USES: Key = Key::new(
    "uses",
    "What it calls: `component/function`, `./file.wasm#function`, or the workflow `./file.yaml`.",
    &[Shape::Uses],
);

const WITH: Key = Key::new(
    "with",
    "The arguments of the function, by parameter, or the inputs of the workflow.",
    &[Shape::Arguments],
);

const NEEDS: Key = Key::new(
    "needs",
    "Steps that must have ended well, or been skipped, before it starts; references need no `needs`.",
    &[Shape::List(&[Shape::Step])],
);

const IF: Key = Key::new(
    "if",
    "Runs only where this holds, and is skipped otherwise: an expression without `${{ }}`.",
    &[Shape::Expression],
);

const TIMEOUT: Key = Key::new("timeout", "How long one attempt may take.", &[Shape::Duration]);

const RETRIED: Key = Key::new("retry", "When it is tried again, and how often.", RETRIES);

// A name of their own, since a value that mentions a table has to live as long as that.
const RETRIES: &[Shape] = &[Shape::Keys(&RETRY)];
const GROUPS: &[Shape] = &[Shape::Keys(&CONCURRENCY)];

const CONTINUE_ON_ERROR: Key =
    Key::new("continue-on-error", "Whether the run goes on where it fails.", &[Shape::Bool]);

const IN_GROUP: Key = Key::new("concurrency", "How many steps of one group may be at work at once.", GROUPS);

/// The keys of a step that calls a function.
pub(crate) static CALL: Keys = Keys {
    what: "a step",
    known: &[
        USES,
        WITH,
        Key::new("sandbox", "The sandbox it works in; needed where there are several.", &[Shape::Sandbox]),
        Key::new(
            "sandboxes",
            "The sandboxes of a function that takes several, by parameter.",
            &[Shape::SandboxParameters],
        ),
        Key::new(
            "network",
            "What its sandbox may reach while it works, in place of the sandbox's own `network`.",
            REACH,
        ),
        Key::new("secrets", "Which secret each slot of the function receives.", &[Shape::Slots]),
        NEEDS,
        IF,
        TIMEOUT,
        Key::new(
            "idle-timeout",
            "How long an attempt may say nothing before it is stopped.",
            &[Shape::Duration],
        ),
        RETRIED,
        Key::new(
            "permissions",
            "Powers beyond its sandbox that it is granted; replaces the list at the top.",
            PERMISSION,
        ),
        CONTINUE_ON_ERROR,
        IN_GROUP,
        Key::new(
            "cache",
            "When the outputs of an earlier call are taken in place of a call.",
            &[Shape::Keys(&CACHE)],
        ),
        Key::new(
            "idempotency-key",
            "Names the side effect, so that whoever carries it out can tell a repetition.",
            &[Shape::Value],
        ),
    ],
    near: &["approve", "for-each", "steps"],
    later: LATER,
};

/// The keys of a step that runs another workflow.
pub(crate) static SUB_WORKFLOW: Keys = Keys {
    what: "a step that runs a workflow",
    known: &[USES, WITH, NEEDS, IF, TIMEOUT, RETRIED, CONTINUE_ON_ERROR, IN_GROUP],
    near: &[],
    later: LATER,
};

/// The keys of a step that asks a person.
pub(crate) static APPROVE: Keys = Keys {
    what: "a step that asks for approval",
    known: &[
        Key::new("approve", "Asks a person, and waits for the answer.", &[Shape::Keys(&APPROVAL)]),
        NEEDS,
        IF,
        CONTINUE_ON_ERROR,
    ],
    near: &[],
    later: LATER,
};

/// The keys of a step that does steps of its own for each item of a list.
pub(crate) static LOOP: Keys = Keys {
    what: "a loop",
    known: &[
        Key::new("for-each", "Does its `steps` once for each item of a list.", &[Shape::Keys(&EACH)]),
        Key::new(
            "steps",
            "What is done for each item, by name.",
            // No loop has another one inside.
            &[Shape::Named(&[Shape::Kinds(&[&CALL, &SUB_WORKFLOW, &APPROVE])])],
        ),
        NEEDS,
        IF,
        CONTINUE_ON_ERROR,
    ],
    near: &[],
    later: LATER,
};

/// The keys of `for-each`.
pub(crate) static EACH: Keys = Keys {
    what: "`for-each`",
    known: &[
        Key::new("item", "The name by which its steps see the item.", &[Shape::Item]),
        Key::new("in", "The list, as an expression.", &[Shape::Value]),
        Key::new(
            "key",
            "What tells items apart: text over the item, stable from run to run.",
            &[Shape::Value],
        ),
        Key::new("parallel", "How many items are at work at once; eight where not given.", &[Shape::Int]),
        Key::new(
            "on-failure",
            "What becomes of the other items where one fails; they stop where not given.",
            &[Shape::Words(&ON_FAILURE)],
        ),
    ],
    near: &[],
    later: &[],
};

/// What becomes of the other items of a loop where one fails.
pub(crate) const ON_FAILURE: [&str; 2] = ["stop", "continue"];

/// The keys of `approve`.
pub(crate) static APPROVAL: Keys = Keys {
    what: "`approve`",
    known: &[
        Key::new("message", "What is asked, with expressions.", &[Shape::Value]),
        Key::new("timeout", "How long to wait for the answer; for ever where not given.", &[Shape::Duration]),
        Key::new(
            "on-timeout",
            "What no answer in time means; a refusal where not given.",
            &[Shape::Words(&ON_TIMEOUT)],
        ),
    ],
    near: &[],
    later: &["by", "approvers"],
};

/// What no answer in time means.
pub(crate) const ON_TIMEOUT: [&str; 2] = ["reject", "approve"];

/// The keys of `retry`.
pub(crate) static RETRY: Keys = Keys {
    what: "`retry`",
    known: &[
        Key::new("attempts", "How many attempts there are, the first one too.", &[Shape::Int]),
        Key::new("backoff", "How long to wait between attempts.", &[Shape::Keys(&BACKOFF)]),
        Key::new(
            "on",
            "Kinds of error that are retried; all but `cancelled` where not given.",
            &[Shape::List(&[Shape::ErrorKind])],
        ),
        Key::new(
            "resume",
            "Says that another attempt goes on with the conversation of the one before.",
            &[Shape::Words(&RESUME)],
        ),
    ],
    near: &[],
    later: &[],
};

/// What another attempt can go on with.
pub(crate) const RESUME: [&str; 1] = ["session"];

/// The keys of `backoff` of `retry`.
pub(crate) static BACKOFF: Keys = Keys {
    what: "`backoff`",
    known: &[
        Key::new(
            "first",
            "The wait before the second attempt; one second where not given.",
            &[Shape::Duration],
        ),
        Key::new(
            "factor",
            "Each further wait is this many times the one before; 2 where not given.",
            &[Shape::Float],
        ),
        Key::new("max", "The longest wait; one minute where not given.", &[Shape::Duration]),
        Key::new(
            "jitter",
            "Whether a wait is drawn between zero and its full length, as it is where not given.",
            &[Shape::Words(&JITTER)],
        ),
    ],
    near: &[],
    later: &[],
};

/// Whether the wait before an attempt is drawn.
pub(crate) const JITTER: [&str; 2] = ["none", "full"];

/// The keys of `concurrency`, of a workflow and of a step.
pub(crate) static CONCURRENCY: Keys = Keys {
    what: "`concurrency`",
    known: &[
        Key::new("group", "The name of the group, mostly with an expression in it.", &[Shape::Value]),
        Key::new(
            "limit",
            "How many of the group may be at work at once; one where not given.",
            &[Shape::Int],
        ),
        Key::new(
            "on-conflict",
            "What happens to one more; it waits in a queue where not given.",
            &[Shape::Words(&ON_CONFLICT)],
        ),
        Key::new("timeout", "How long one more waits in the queue.", &[Shape::Duration]),
    ],
    near: &[],
    later: &[],
};

/// What happens to one more of a full group.
pub(crate) const ON_CONFLICT: [&str; 3] = ["queue", "reject", "cancel-old"];

/// The keys of `cache`.
pub(crate) static CACHE: Keys = Keys {
    what: "`cache`",
    known: &[
        Key::new(
            "key",
            "What the outputs depend on: expressions without `${{ }}`.",
            &[Shape::List(&[Shape::Expression])],
        ),
        Key::new("ttl", "How long outputs are good for; for ever where not given.", &[Shape::Duration]),
        Key::new(
            "bypass",
            "Calls in any case where this holds: an expression without `${{ }}`.",
            &[Shape::Expression],
        ),
    ],
    near: &[],
    later: &[],
};
