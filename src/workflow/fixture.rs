//! A catalogue like that of the built-in components, for tests of the checker.

use super::types::{Catalog, ComponentType, Field, FunctionType, Slot, Type, WorkflowFile};
use crate::id::Digest;
use crate::step::ErrorKind;
use std::sync::Arc;

/// Components by the text before the function.
pub(crate) struct Fixture(Vec<(&'static str, Arc<ComponentType>)>);

impl Catalog for Fixture {
    fn component(&self, uses: &str) -> Result<Arc<ComponentType>, String> {
        let found = self.0.iter().find(|(name, _)| *name == uses);
        found.map(|(_, component)| component.clone()).ok_or_else(|| {
            if uses.ends_with(".wasm") {
                format!("no file at {uses}; build it, or correct the path")
            } else {
                "the built-in components are exec, git, claude and memory; `harvest component list` shows all"
                    .into()
            }
        })
    }

    fn workflow(&self, uses: &str) -> Result<WorkflowFile, String> {
        let name = uses.trim_start_matches("./");
        let found = WORKFLOWS.iter().find(|(file, _)| *file == name);
        let (_, text) = found.ok_or_else(|| format!("there is no file {name}"))?;
        Ok(WorkflowFile {
            name: name.to_owned(),
            identity: name.to_owned(),
            text: (*text).to_owned(),
            catalog: Box::new(catalog()),
        })
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| *name).filter(|name| !name.contains('.')).map(str::to_owned).collect()
    }

    fn files(&self) -> Vec<String> {
        let components = self.0.iter().map(|(name, _)| *name).filter(|name| name.contains('.'));
        components.chain(["./publish.yaml"]).map(str::to_owned).collect()
    }
}

/// Workflow files beside the one that is checked.
const WORKFLOWS: &[(&str, &str)] = &[
    (
        "publish.yaml",
        r#"
harvest: 1
name: publish
inputs:
  repo: { type: string, pattern: '^[a-z/]+$' }
  branch: { type: string, default: main }
  labels: { type: list, items: string, optional: true }
steps:
  push: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}", ref: "${{ inputs.branch }}" } }
  tell:
    uses: notify/send
    permissions: [{ http: [example.com] }]
    with: { to: x, text: "${{ inputs.labels.orValue([]).join(', ') }}" }
outputs:
  sha: "${{ steps.push.sha }}"
  told: "${{ steps.tell.?delivered }}"
"#,
    ),
    ("broken.yaml", "harvest: 1\nname: broken\nsteps:\n  a: { uses: git/clone }\n  b: { uses: gti/clone }\n"),
    ("itself.yaml", "harvest: 1\nname: itself\nsteps:\n  a: { uses: ./itself.yaml }\n"),
    ("deep1.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep2.yaml }\n"),
    ("deep2.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep3.yaml }\n"),
    ("deep3.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep4.yaml }\n"),
    ("deep4.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep5.yaml }\n"),
    ("deep5.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep6.yaml }\n"),
    ("deep6.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep7.yaml }\n"),
    ("deep7.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: ./deep8.yaml }\n"),
    ("deep8.yaml", "harvest: 1\nname: d\nsteps:\n  a: { uses: exec/run, with: { command: [ls] } }\n"),
    ("one.yaml", "harvest: 1\nname: one\nsteps:\n  a: { uses: ./two.yaml }\n"),
    ("two.yaml", "harvest: 1\nname: two\nsteps:\n  a: { uses: ./one.yaml }\n"),
];

fn text() -> Type {
    Type::String
}

fn list() -> Type {
    Type::List(Box::new(Type::String))
}

fn opt(ty: Type) -> Type {
    Type::Option(Box::new(ty))
}

fn fields(fields: &[(&str, Type)]) -> Vec<Field> {
    fields.iter().map(|(name, ty)| Field { name: (*name).into(), ty: ty.clone(), doc: None }).collect()
}

fn function(name: &str, parameters: &[(&str, Type)], outputs: &[(&str, Type)]) -> FunctionType {
    FunctionType {
        name: name.into(),
        doc: None,
        parameters: fields(parameters),
        sandboxes: vec!["box".into()],
        secrets: Vec::new(),
        any_secrets: None,
        outputs: fields(outputs),
        errors: Some(
            ["denied", "not-found", "invalid", "conflict", "network", "unavailable", "rate-limited", "other"]
                .map(ErrorKind::new)
                .to_vec(),
        ),
    }
}

fn slots(mut function: FunctionType, slots: &[&str]) -> FunctionType {
    let slot = |slot: &&str| Slot { name: slot.trim_end_matches('?').into(), optional: slot.ends_with('?') };
    function.secrets = slots.iter().map(slot).collect();
    function
}

fn nowhere(mut function: FunctionType) -> FunctionType {
    function.sandboxes.clear();
    function
}

fn component(
    name: &'static str,
    needs: &[&str],
    functions: Vec<FunctionType>,
) -> (&'static str, Arc<ComponentType>) {
    let needs = needs.iter().map(|need| (*need).to_owned()).collect();
    let stem = name.trim_start_matches("./").trim_end_matches(".wasm");
    (
        name,
        Arc::new(ComponentType {
            name: stem.into(),
            digest: Digest::of(name.as_bytes()),
            functions,
            imports: Vec::new(),
            needs,
        }),
    )
}

/// The built-in components, a file `./team.wasm`, and one with two sandboxes.
pub(crate) fn catalog() -> Fixture {
    let exited = [("exit_code", Type::Int), ("stdout", text()), ("stderr", text())];
    let mut run = function(
        "run",
        &[
            ("command", list()),
            ("env", opt(Type::Map(Box::new(text())))),
            ("workdir", opt(text())),
            ("stdin", opt(text())),
            ("allow_failure", opt(Type::Bool)),
        ],
        &exited,
    );
    run.any_secrets = Some("secrets".into());
    run.errors = Some(vec![ErrorKind::new("exited"), ErrorKind::NETWORK]);
    let mut python =
        function("python", &[("code", text()), ("args", opt(list())), ("workdir", opt(text()))], &exited);
    python.any_secrets = Some("secrets".into());
    let strategy = Type::Enum(vec!["fetch-rebase".into(), "refuse".into()]);
    let committed = [("changed", Type::Bool), ("sha", opt(text())), ("files", list())];
    let git = vec![
        slots(
            function(
                "clone",
                &[("repo", text()), ("ref", opt(text())), ("into", opt(text())), ("depth", opt(Type::Int))],
                &[("path", text()), ("sha", text()), ("branch", text())],
            ),
            &["token?"],
        ),
        function(
            "configure",
            &[("path", text()), ("name", text()), ("email", text())],
            &[("author", text())],
        ),
        function(
            "commit",
            &[
                ("path", text()),
                ("message", text()),
                ("no_verify", opt(Type::Bool)),
                ("allow_empty", opt(Type::Bool)),
            ],
            &committed,
        ),
        slots(
            function(
                "push",
                &[("path", text()), ("ref", opt(text())), ("strategy", opt(strategy))],
                &[("sha", text()), ("ref", text())],
            ),
            &["token?"],
        ),
        function(
            "snapshot",
            &[("path", text()), ("message", opt(text()))],
            &[("sha", opt(text())), ("ref", text())],
        ),
        slots(
            nowhere(function("ls_remote", &[("repo", text()), ("ref", opt(text()))], &[("sha", text())])),
            &["token?"],
        ),
        slots(
            nowhere(function(
                "pull_request",
                &[
                    ("repo", text()),
                    ("head", text()),
                    ("title", text()),
                    ("body", opt(text())),
                    ("draft", opt(Type::Bool)),
                ],
                &[("number", Type::Int), ("url", text())],
            )),
            &["token"],
        ),
    ];
    let claude = slots(
        function(
            "run",
            &[
                ("cwd", text()),
                ("prompt", text()),
                ("model", opt(text())),
                ("max_turns", opt(Type::Int)),
                ("max_budget_usd", opt(Type::Float)),
                ("mcp", opt(list())),
                ("append_system_prompt", opt(text())),
                ("resume", opt(text())),
                ("session_id", opt(text())),
            ],
            &[
                ("result", text()),
                ("session_id", text()),
                ("turns", Type::Int),
                ("cost_usd", Type::Float),
                ("changed", Type::Bool),
                ("summary", text()),
            ],
        ),
        &["anthropic_api_key?", "claude_code_oauth_token?", "github_token?", "gemini_api_key?"],
    );
    let record = Type::Record(fields(&[
        ("full_name", text()),
        ("url", text()),
        ("branch", text()),
        ("setup", opt(text())),
    ]));
    let memory = vec![
        function(
            "mount",
            &[("repo", text()), ("dir", opt(text())), ("seed", opt(text()))],
            &[("path", text()), ("entities", Type::Int), ("seeded", Type::Bool)],
        ),
        function(
            "save",
            &[("repo", text()), ("dir", opt(text()))],
            &[("entities", Type::Int), ("merged", Type::Bool)],
        ),
    ];
    let mut lint = function(
        "lint",
        &[("path", text()), ("wait", opt(Type::Duration)), ("limit", opt(Type::Size))],
        &[("warnings", Type::Int)],
    );
    lint.errors = None;
    let mut compare = function("compare", &[], &[("same", Type::Bool)]);
    compare.sandboxes = vec!["left".into(), "right".into()];
    Fixture(vec![
        component("exec", &[], vec![run, python]),
        component("git", &[], git),
        component("memory", &[], memory),
        component("claude", &[], vec![claude]),
        component(
            "image",
            &["images"],
            vec![
                nowhere(slots(
                    function(
                        "build",
                        &[
                            ("name", opt(text())),
                            ("base", opt(text())),
                            ("repo", opt(text())),
                            ("sha", opt(text())),
                            ("setup", opt(text())),
                            ("fresh", opt(Type::Bool)),
                        ],
                        &[("id", text()), ("cached", Type::Bool)],
                    ),
                    &["token?"],
                )),
                nowhere(function("tag", &[("image", text()), ("as", text())], &[("id", text())])),
            ],
        ),
        component(
            "repos",
            &["repos"],
            vec![nowhere(function(
                "list",
                &[("only", opt(list()))],
                &[("repos", Type::List(Box::new(record)))],
            ))],
        ),
        component(
            "notify",
            &["http"],
            vec![nowhere(slots(
                function("send", &[("to", text()), ("text", text())], &[("delivered", Type::Bool)]),
                &["credential?"],
            ))],
        ),
        component("./team.wasm", &[], vec![lint, compare]),
    ])
}
