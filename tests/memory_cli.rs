//! `harvest memory`.

mod harness;

use harness::repository::sample;
use harness::{Home, text};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Stdio;

fn entity(name: &str, observations: &[&str]) -> Value {
    json!({"type": "entity", "name": name, "entityType": "note", "observations": observations})
}

/// Imports from standard input.
fn import(home: &Home, repo: &str, graph: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = home.harvest();
    command.args(["memory", "import", repo]).args(more);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(graph.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn what_is_imported_is_shown_and_exported() {
    let home = Home::new();
    let missing = home.run(&["memory", "show", "acme/web"]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text(&missing.stderr).contains("nothing is remembered of acme/web"), "{}", text(&missing.stderr));
    assert_eq!(home.json(&["volume", "list", "--json"]), json!([]), "looking makes nothing");

    let seed = json!({
        "entities": [{"name": "Tests", "entityType": "procedure", "observations": ["make test", "slow\u{1b}[31m"]}],
        "relations": [{"from": "Tests", "to": "Tests", "relationType": "repeat"}],
    });
    assert_eq!(
        import(&home, "acme/web", &seed.to_string(), &[]),
        (Some(0), "1 entities are remembered of acme/web\n".into())
    );
    let shown = text(&home.run(&["memory", "show", "https://github.com/ACME/web"]).stdout);
    assert_eq!(shown, "", "an URL keeps its case");
    let shown = text(&home.run(&["memory", "show", "Acme/Web"]).stdout);
    assert_eq!(shown, "Tests (procedure)\n  - make test\n  - slow [31m\nTests -- repeat -> Tests\n");
    let json = home.json(&["memory", "show", "acme/web", "--json"]);
    assert_eq!(json["volume"], "harvest-memory-acme-web");
    assert_eq!(json["entities"][0]["observations"][0], "make test");
    assert_eq!(json["relations"][0], json!({"from": "Tests", "to": "Tests", "relationType": "repeat"}));

    // What one home exports another imports, from a file.
    let exported = home.run(&["memory", "export", "acme/web"]).stdout;
    let other = Home::new();
    let file = other.file("graph.jsonl", &text(&exported));
    let told = other.json(&["memory", "import", "acme/web", file.to_str().unwrap(), "--json"]);
    assert_eq!(told, json!({"entities": 1, "merged": false}));
    assert_eq!(other.run(&["memory", "export", "acme/web"]).stdout, exported);
    assert_eq!(other.json(&["runs", "--json"]), json!([]));
}

#[test]
fn an_import_adds_unless_it_is_to_replace_and_nonsense_changes_nothing() {
    let home = Home::new();
    let repo = sample(&home.scratch().join("project"));
    let repo = repo.to_str().unwrap();
    let names = || -> Vec<String> {
        let json = home.json(&["memory", "show", repo, "--json"]);
        let names = json["entities"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entity| entity["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    import(&home, repo, &entity("a", &["1"]).to_string(), &[]);
    import(&home, repo, &format!("{}\n{}\n", entity("a", &["2"]), entity("b", &[])), &[]);
    assert_eq!(names(), ["a", "b"]);
    let json = home.json(&["memory", "show", repo, "--json"]);
    assert_eq!(json["entities"][0]["observations"], json!(["1", "2"]));
    let (code, said) = import(&home, repo, "{\"type\": \"entity\"}\nhalf a li", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("2 entries of the graph make no sense; nothing is imported"), "{said}");
    assert_eq!(names(), ["a", "b"]);
    import(&home, repo, &entity("c", &[]).to_string(), &["--replace"]);
    assert_eq!(names(), ["c"]);
}

#[test]
fn imports_at_once_all_arrive() {
    let home = Home::new();
    home.run(&["memory", "show", "acme/web"]);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let home = &home;
            scope.spawn(move || {
                let (code, said) =
                    import(home, "acme/web", &entity(&format!("n{number}"), &["x"]).to_string(), &[]);
                assert_eq!(code, Some(0), "{said}");
            });
        }
    });
    let json = home.json(&["memory", "show", "acme/web", "--json"]);
    assert_eq!(json["entities"].as_array().unwrap().len(), 4, "{json}");
}
