//! What the documents say, held to what is so: every workflow in them is checked with the real components, and every
//! table that repeats something of the product is compared with it.
//!
//! A block ```` ```yaml ```` is a whole workflow, which must give no diagnostics, not even warnings. ```` ```yaml
//! fragment ```` is a part of one: it is checked in a frame, and may only leave things unused. ```` ```yaml mock=NAME ````
//! is a file of answers for the workflow NAME of the same document. A block of another language is not looked at.

mod harness;

use harness::{Home, text};
use harvest::host::{Components, Library};
use harvest::isolation::{PARTS, PROVIDERS};
use harvest::step::ErrorKind;
use harvest::workflow::cel::{FUNCTIONS, MAX_COST, MAX_EXPRESSION, MAX_NESTING, MAX_VALUE};
use harvest::workflow::check::{check, mocks};
use harvest::workflow::diagnostic::Diagnostic;
use harvest::workflow::types::{Catalog, Field, FunctionType, Type};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const README: &str = include_str!("../README.md");
const SANDBOX: &str = include_str!("../docs/sandbox.md");
const REFERENCE: &str = include_str!("../docs/workflows.md");
const SESSIONS: &str = include_str!("../docs/agent-sessions.md");

/// A fenced block of YAML.
struct Block {
    /// What stands behind `yaml` on its first line.
    info: String,
    /// The line of the document on which its first line stands, from 1.
    line: usize,
    text: String,
}

/// The blocks of YAML of a document.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Option<Block>> = None;
    for (at, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let yaml = info.strip_prefix("yaml").map(|info| Block {
                    info: info.trim().to_owned(),
                    line: at + 2,
                    text: String::new(),
                });
                open = Some(yaml);
            }
            (Some(_), Some(_)) => blocks.extend(open.take().flatten()),
            (Some(Some(block)), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            _ => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A directory for the workflows of a document, with the components of this version.
struct Place {
    directory: TempDir,
    catalog: Components,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::open(&directory.path().join("home")).unwrap();
        let catalog = Components::new(library, directory.path());
        Self { directory, catalog }
    }

    /// Puts the whole workflows of a document into it, each under its name.
    fn of(blocks: &[Block]) -> Self {
        let place = Self::new();
        for block in blocks.iter().filter(|block| block.info.is_empty()) {
            let path = place.directory.path().join(format!("{}.yaml", name(block)));
            assert!(!path.exists(), "line {}: a second workflow `{}`", block.line, name(block));
            fs::write(path, &block.text).unwrap();
        }
        place
    }
}

/// The name of a whole workflow.
fn name(block: &Block) -> &str {
    let name = block.text.lines().find_map(|line| line.strip_prefix("name: "));
    name.unwrap_or_else(|| panic!("line {}: a workflow without a name is a fragment", block.line))
}

/// Diagnostics as a list for a failed test, at the lines of the document. `ahead` are the lines that the test put before
/// the block.
fn told(document: &str, block: &Block, ahead: usize, found: &[Diagnostic]) -> String {
    let tell = |diagnostic: &Diagnostic| {
        let (line, _) = diagnostic.source.position(diagnostic.span.start);
        format!("{document}:{}: {}", (block.line + line).saturating_sub(ahead + 1), diagnostic.render(false))
    };
    found.iter().map(tell).collect::<Vec<_>>().join("\n")
}

/// What is wrong with the examples of a document; how many there are.
fn faults(document: &str, content: &str) -> (Vec<String>, usize) {
    let blocks = blocks(content);
    let place = Place::of(&blocks);
    let mut faults = Vec::new();
    for block in &blocks {
        let mut add = |ahead: usize, found: &[Diagnostic]| {
            if !found.is_empty() {
                faults.push(told(document, block, ahead, found));
            }
        };
        match block.info.split_once('=') {
            None if block.info.is_empty() => {
                assert!(block.text.starts_with("harvest: 1\n"), "line {}: a fragment?", block.line);
                add(0, &check("example.yaml", &block.text, &place.catalog).diagnostics);
            }
            None if block.info == "fragment" => {
                let (framed, ahead) = frame(&block.text);
                let mut found = check("fragment.yaml", &framed, &place.catalog).diagnostics;
                // What is declared to show how need not be used.
                found.retain(|diagnostic| !["W0101", "W0102"].contains(&diagnostic.code.id));
                add(ahead, &found);
            }
            Some(("mock", of)) => {
                let file = blocks.iter().find(|other| other.info.is_empty() && name(other) == of);
                let file = file.unwrap_or_else(|| panic!("line {}: no workflow `{of}`", block.line));
                let workflow = check("example.yaml", &file.text, &place.catalog).workflow.unwrap();
                add(0, &mocks("mock.yaml", &block.text, &workflow, &place.catalog).err().unwrap_or_default());
            }
            _ => panic!("{document}:{}: what is `yaml {}`?", block.line, block.info),
        }
    }
    (faults, blocks.len())
}

/// A fragment with what it lacks of a workflow, and how many lines were put before it.
fn frame(fragment: &str) -> (String, usize) {
    let mut text = format!("harvest: 1\nname: fragment\n{fragment}");
    if !fragment.lines().any(|line| line == "steps:") {
        text.push_str("steps:\n  fragment: { uses: exec/run, with: { command: [ls] } }\n");
    }
    (text, 2)
}

#[test]
fn every_example_is_good() {
    let sessions = ("docs/agent-sessions.md", SESSIONS, 1);
    for (document, content, least) in
        [("README.md", README, 1), ("docs/workflows.md", REFERENCE, 20), sessions]
    {
        let (faults, count) = faults(document, content);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(count >= least, "{document} has {count} examples; were they found?");
    }
}

#[test]
fn mistakes_in_examples_are_found_at_their_lines() {
    let document = "# A\n```yaml\nharvest: 1\nname: bad\ninputs: { x: string }\nsteps:\n  a: { uses: exec/rn }\n```\n\
        ```yaml fragment\nsteps:\n  a: { uses: exec/run, with: { command: ls } }\n```\n\
        ```yaml\nharvest: 1\nname: good\nsteps:\n  a: { uses: exec/run, with: { command: [ls] } }\n```\n\
        ```yaml mock=good\na: { outputs: { exit_code: x } }\n```\n```console\n$ ls\n```\n";
    let (faults, count) = faults("x.md", document);
    assert_eq!(count, 4);
    let starts: Vec<_> = faults.iter().map(|fault| fault.lines().next().unwrap_or_default()).collect();
    insta::assert_snapshot!(starts.join("\n"), @r"
    x.md:7: error[E0403]: component `exec` has no function `rn`
    x.md:11: error[E0406]: `command` of exec/run: `ls` is no list
    x.md:20: error[E0313]: `exit_code`: `x` is no int
    ");
}

/// What stands between `<!-- NAME -->` and `<!-- end of NAME -->` in the reference.
fn part(name: &str) -> &'static str {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = REFERENCE.find(&start).unwrap_or_else(|| panic!("no {start}")) + start.len();
    &REFERENCE[from..from + REFERENCE[from..].find(&end).unwrap_or_else(|| panic!("no {end}"))]
}

/// Fails with the whole table, so that it can be put into the reference as it is.
fn assert_table(name: &str, table: &str) {
    assert!(
        part(name) == table,
        "between `<!-- {name} -->` and its end, docs/workflows.md must say:\n{table}"
    );
}

#[test]
fn the_functions_are_those_of_the_language() {
    let mut table = String::from("| called | is |\n|---|---|\n");
    for function in FUNCTIONS {
        writeln!(table, "| `{}` | {} |", function.form, function.doc).unwrap();
    }
    assert_table("functions", &table);
}

#[test]
fn the_components_are_those_in_the_box() {
    let place = Place::new();
    let mut table =
        String::from("| `uses` | sandbox | secret slots | `with` | outputs |\n|---|---|---|---|---|\n");
    for name in place.catalog.names() {
        let component = place.catalog.component(&name).unwrap();
        let needs: &[&str] = match name.as_str() {
            "image" => &["images"],
            "notify" => &["http"],
            "repos" => &["repos"],
            _ => &[],
        };
        assert_eq!(component.needs, needs, "docs/workflows.md says which components need a permission");
        for function in &component.functions {
            writeln!(table, "| `{name}/{}` | {} |", function.name, columns(function).join(" | ")).unwrap();
        }
    }
    assert_table("components", &table);
}

/// What a function takes and returns.
fn columns(function: &FunctionType) -> [String; 4] {
    let slots = function.secrets.iter().map(|slot| {
        let mark = if slot.optional { "?" } else { "" };
        format!("`{}{mark}`", slot.name)
    });
    let slots = slots.chain(function.any_secrets.iter().map(|_| "any".to_owned()));
    let sandbox = if function.sandboxes.is_empty() { "" } else { "yes" };
    [
        sandbox.to_owned(),
        slots.collect::<Vec<_>>().join(", "),
        fields(&function.parameters),
        fields(&function.outputs),
    ]
}

fn fields(fields: &[Field]) -> String {
    let field = |field: &Field| {
        let (mark, ty) = match &field.ty {
            Type::Option(inner) => ("?", &**inner),
            other => ("", other),
        };
        // In a table a bar ends the cell.
        format!("`{}{mark}`: {}", field.name, ty.to_string().replace(" | ", ", ").replace('<', "\\<"))
    };
    fields.iter().map(field).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_kind_of_error_is_named() {
    let (from, to) = (REFERENCE.find("## Error kinds").unwrap(), REFERENCE.find("## Limits").unwrap());
    let place = Place::new();
    let components: Vec<_> =
        place.catalog.names().iter().map(|name| place.catalog.component(name).unwrap()).collect();
    let own = components.iter().flat_map(|component| &component.functions).flat_map(|f| &f.errors).flatten();
    for kind in own.chain(&ErrorKind::HOST).chain([&ErrorKind::REJECTED, &ErrorKind::FAILED]) {
        assert!(REFERENCE[from..to].contains(&format!("`{kind}`")), "`{kind}` is not among the error kinds");
    }
}

/// A row of the table of limits, and the line of the sources that sets it.
const LIMITS: &[(&str, &str, &str, &str)] = &[
    ("a workflow file", "1 MiB", "src/workflow/file.rs", "MAX_BYTES: usize = 1 << 20;"),
    (
        "values in it (scalars, lists, mappings)",
        "50,000",
        "src/workflow/file.rs",
        "MAX_NODES: usize = 50_000;",
    ),
    ("levels of nesting", "64", "src/workflow/file.rs", "MAX_DEPTH: usize = 64;"),
    ("diagnostics that are shown", "200", "src/workflow/diagnostic.rs", "MAX_DIAGNOSTICS: usize = 200;"),
    (
        "the checked file with its sub-workflows, as JSON",
        "2 MiB",
        "src/workflow/check/sub_workflow.rs",
        "MAX_DEFINITION: usize = 2 << 20;",
    ),
    (
        "sub-workflow files below one another",
        "8",
        "src/workflow/check/sub_workflow.rs",
        "MAX_DEPTH: usize = 8;",
    ),
    (
        "types that the outputs of a sub-workflow consist of",
        "1,000",
        "src/workflow/check/sub_workflow.rs",
        "MAX_OUTPUT_TYPES: usize = 1_000;",
    ),
    ("characters of a data name", "64", "src/workflow/check/shape.rs", "MAX_NAME: usize = 64;"),
    ("characters of a workflow's name", "64", "src/workflow/check/mod.rs", "MAX_NAME: usize = 64;"),
    ("an expression", "8 KiB", "src/workflow/cel/mod.rs", "MAX_EXPRESSION: usize = 8 << 10;"),
    ("levels of brackets in an expression", "32", "src/workflow/cel/mod.rs", "MAX_NESTING: usize = 32;"),
    ("cost of one value of the file", "16 Mi", "src/workflow/cel/evaluate.rs", "MAX_COST: usize = 16 << 20;"),
    (
        "a value that an expression makes",
        "1 MiB",
        "src/workflow/cel/evaluate.rs",
        "MAX_VALUE: usize = 1 << 20;",
    ),
    (
        "a regular expression in an expression, compiled",
        "1 MiB",
        "src/workflow/cel/functions.rs",
        "MAX_REGEX: usize = 1 << 20;",
    ),
    ("an input", "1 MiB", "src/workflow/inputs.rs", "MAX_INPUT: usize = 1 << 20;"),
    ("a file that inputs are read from", "4 MiB", "src/cli/run.rs", "INPUT_FILE_MAX: u64 = 4 << 20;"),
    ("a `pattern`, compiled", "1 MiB", "src/workflow/inputs.rs", "MAX_REGEX: usize = 1 << 20;"),
    ("a secret", "64 KiB", "src/capability/secret_source.rs", "SECRET_MAX: usize = 64 << 10;"),
    (
        "time of a secret's `command:`",
        "30 s",
        "src/capability/secret_source.rs",
        "COMMAND_TIMEOUT: Duration = Duration::from_secs(30);",
    ),
    ("outputs of a step, as JSON", "1 MiB", "src/engine/driver.rs", "OUTPUTS_MAX: usize = 1 << 20;"),
    ("attempts of a step", "100", "src/workflow/check/retry.rs", "MAX_ATTEMPTS: u32 = 100;"),
    ("attempts lost with their process", "20", "src/run/state.rs", "HOST_LOST_MAX: u32 = 20;"),
    ("attempts of one run at once", "64", "src/engine/driver.rs", "IN_FLIGHT_MAX: usize = 64;"),
    ("calls of all runs of one process at once", "64", "src/engine/mod.rs", "ATTEMPTS_MAX: usize = 64;"),
    ("items of a loop", "10,000", "src/run/loops.rs", "ITEMS_MAX: usize = 10_000;"),
    ("items of a loop at once", "64", "src/workflow/check/for_each.rs", "MAX_PARALLEL: u32 = 64;"),
    (
        "types that an item of a loop consists of",
        "1,000",
        "src/workflow/check/for_each.rs",
        "MAX_ITEM_TYPE: usize = 1_000;",
    ),
    ("`limit` of a group", "10,000", "src/workflow/check/concurrency.rs", "MAX_IN_GROUP: u32 = 10_000;"),
    ("time of `finally`", "5 min", "src/workflow/check/mod.rs", "FINALLY_TIMEOUT_MS: u64 = 5 * 60 * 1000;"),
    ("triggers of a kind", "100", "src/workflow/check/trigger.rs", "MAX_TRIGGERS: usize = 100;"),
    ("bytes of a cron expression", "200", "src/workflow/check/schedule.rs", "MAX_CRON: usize = 200;"),
    ("bytes of a webhook's path", "200", "src/workflow/check/trigger.rs", "MAX_PATH: usize = 200;"),
    ("`pause-after-failures`", "1,000", "src/workflow/check/schedule.rs", "MAX_FAILURES: u32 = 1_000;"),
    ("files that a pattern of `hash` matches", "10,000", "src/app/hashes.rs", "FILES_MAX: usize = 10_000;"),
    ("bytes of the files of a pattern of `hash`", "1 GiB", "src/app/hashes.rs", "BYTES_MAX: u64 = 1 << 30;"),
    ("a component", "64 MiB", "src/host/component.rs", "COMPONENT_LIMIT: usize = 64 << 20;"),
    ("memory of a component in one attempt", "256 MiB", "src/host/budget.rs", "memory: 256 << 20,"),
    ("CPU time of a component in one attempt", "30 s", "src/host/budget.rs", "cpu: Duration::from_secs(30),"),
    ("sandboxes that an attempt makes", "16", "src/host/sandboxes.rs", "CREATED_LIMIT: usize = 16;"),
    (
        "what the steps of a run print, as it is kept",
        "64 MiB",
        "src/capability/stream/mod.rs",
        "MAX_STREAM: u64 = 64 << 20;",
    ),
    (
        "life of a sandbox without `timeout`",
        "24 h",
        "src/capability/sandbox/local/mod.rs",
        "LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);",
    ),
];

#[test]
fn every_level_that_can_be_required_is_in_the_table() {
    let table = REFERENCE.split("| key | from the weakest to the strongest |\n|---|---|\n").nth(1).unwrap();
    let said: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let listed = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let mut known: Vec<_> =
        PARTS.iter().map(|part| format!("| `{}` | {} |", part.name, listed(part.levels))).collect();
    known.push(format!("| `provider` | one of {} |", listed(&PROVIDERS)));
    assert_eq!(said, known);
}

#[test]
fn every_limit_is_the_one_that_is_set() {
    let table = REFERENCE.split("| what | at most |\n|---|---|\n").nth(1).unwrap();
    let said: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let set: Vec<_> = LIMITS.iter().map(|(what, limit, ..)| format!("| {what} | {limit} |")).collect();
    assert_eq!(said, set);
    for (what, limit, path, line) in LIMITS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        assert!(text.contains(line), "{path} has no `{line}` any more: is {what} still {limit}?");
    }
    // Those that are said in sentences too.
    assert_eq!((MAX_EXPRESSION, MAX_NESTING, MAX_COST, MAX_VALUE), (8 << 10, 32, 16 << 20, 1 << 20));
}

/// The example that tries a workflow out does what the reference says: the second attempt gets the second answer.
#[test]
fn the_examples_of_answers_run() {
    let home = Home::new();
    for block in blocks(REFERENCE).iter().filter(|block| block.info.is_empty()) {
        home.file(&format!("{}.yaml", name(block)), &block.text);
    }
    let answered = |workflow: &str, input: &str| {
        let all = blocks(REFERENCE);
        let block = all.iter().find(|block| block.info == format!("mock={workflow}")).unwrap();
        let mock = home.file("mock.yaml", &block.text);
        let file = home.scratch().join(format!("{workflow}.yaml"));
        home.finish(&file, &["-i", input, "--mock", mock.to_str().unwrap()])
    };
    let (code, last) = answered("loop", r#"repos=["team/app","team/broken"]"#);
    assert_eq!(code, 0, "{last}");
    insta::assert_json_snapshot!(last["outputs"], @r#"
    {
      "built": [
        "team/app"
      ],
      "heads": [
        "1a2b3c",
        "none"
      ],
      "why": [
        "team/broken: as the mock says"
      ]
    }
    "#);
    // This file has no `retry`, so its first answer is its last.
    let (code, last) = answered("count-lines", "repo=team/app");
    assert_eq!((code, &last["error"]["kind"]), (1, &"network".into()), "{last}");
    let shown = home.run(&["explain", "E0312"]);
    assert!(text(&shown.stdout).starts_with("E0312: "));
}

/// Files of Rust code below a directory of the project.
fn code(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Names of tests: functions that are marked so, and promises that every provider keeps (one in no list of promises is
/// never called, which the compiler tells).
fn tests() -> Vec<String> {
    let mut found = Vec::new();
    for path in code("tests").into_iter().chain(code("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let promise = line.ends_with("(provider: &dyn SandboxProvider) {");
            if let Some((_, name)) = line.split_once("fn ").filter(|_| marked || promise) {
                found.push(name.split('(').next().unwrap().to_owned());
                marked = false;
            }
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        }
    }
    found
}

/// What the document of sandboxes promises is held by tests that exist.
#[test]
fn every_promise_of_the_sandbox_names_its_test() {
    let tests = tests();
    let rows = ["| Promise | Test |\n|---|---|\n", "| Probe | Tried by switching it off |\n|---|---|\n"].map(
        |head| {
            let table = SANDBOX.split(head).nth(1).unwrap_or_else(|| panic!("no table {head}"));
            table.lines().take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
        },
    );
    assert!(rows[0].len() >= 25 && rows[1].len() >= 9, "{rows:?}");
    for line in rows.concat() {
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap();
        let quoted = last.split('`').skip(1).step_by(2);
        let named: Vec<_> = quoted.filter(|name| !name.contains(' ')).collect();
        assert!(!named.is_empty(), "no test for: {line}");
        for name in named {
            assert!(tests.iter().any(|test| test == name), "there is no test `{name}` for: {line}");
        }
    }
}
