//! Volumes on Modal, and what agents remember in them, from the command line.

use crate::harness::text;
use crate::served::Served;

/// What a command printed; it must succeed.
fn said(served: &Served, arguments: &[&str]) -> String {
    let output = served.harvest().args(arguments).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn volumes_on_modal_are_looked_into_and_changed() {
    let served = Served::new(|server| server);
    let file = served.home.file("file", "kept\n").display().to_string();
    let modal = ["--provider", "modal"];
    let on_modal = |arguments: &[&str]| said(&served, &[&["volume"], arguments, &modal].concat());
    on_modal(&["put", "shared", "sub/file", &file]);
    assert_eq!(on_modal(&["list"]), "shared\n");
    assert_eq!(on_modal(&["list", "shared"]), "           0  sub/\n           5  sub/file\n");
    assert_eq!(on_modal(&["get", "shared", "sub/file"]), "kept\n");
    assert_eq!(said(&served, &["volume", "list"]), "", "it is not on this machine");
    on_modal(&["rm", "shared", "sub"]);
    assert_eq!(on_modal(&["list", "shared"]), "");
    on_modal(&["rm", "shared"]);
    assert_eq!(on_modal(&["list"]), "");
}

#[test]
fn memory_on_modal_is_shown_and_changed() {
    let served = Served::new(|server| server);
    let entity = r#"{"type":"entity","name":"Ada","entityType":"person","observations":["counts"]}"#;
    let graph = served.home.file("graph.jsonl", entity).display().to_string();
    said(&served, &["memory", "import", "a/b", &graph, "--provider", "modal"]);
    assert!(said(&served, &["memory", "export", "a/b", "--provider", "modal"]).contains("\"Ada\""));
    let here = served.harvest().args(["memory", "show", "a/b"]).output().expect("it runs");
    assert_eq!(here.status.code(), Some(5), "nothing is remembered on this machine");
}
