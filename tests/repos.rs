//! The registry of repositories: `harvest repo`, and `repos/list` that reads it.

mod harness;

use harness::{Home, text};
use serde_json::json;

const LIST: &str = r#"
harvest: 1
name: list
inputs:
  only: { type: list, items: string, default: [] }
permissions: [repos]
steps:
  registry:
    uses: repos/list
    with: { only: "${{ inputs.only }}" }
outputs:
  repos: "${{ steps.registry.repos }}"
"#;

fn add(home: &Home, arguments: &[&str]) {
    let output = home.run(&[&["repo", "add"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_is_registered_is_what_workflows_see() {
    let home = Home::new();
    let setup = home.file("setup.sh", "npm ci\nnpm test\n");
    add(&home, &["acme/web", "--branch", "develop", "--setup", &format!("@{}", setup.display())]);
    add(&home, &["acme/api", "--url", "/srv/git/api", "--setup", "make"]);
    let shown = text(&home.run(&["repo", "list"]).stdout);
    assert_eq!(
        shown,
        "acme/api                         /srv/git/api  with set-up\n\
         acme/web                         https://github.com/acme/web.git  branch develop  with set-up\n"
    );
    let api = json!({"full_name": "acme/api", "url": "/srv/git/api", "branch": "", "setup": "make"});
    let web = json!({
        "full_name": "acme/web", "url": "https://github.com/acme/web.git", "branch": "develop",
        "setup": "npm ci\nnpm test\n"
    });
    assert_eq!(home.json(&["repo", "list", "--json"]), json!([api, web]));

    let file = home.file("list.yaml", LIST);
    assert_eq!(home.finish(&file, &[]).1["outputs"]["repos"], json!([api, web]));
    let one = home.finish(&file, &["-i", r#"only=["acme/web"]"#]).1;
    assert_eq!(one["outputs"]["repos"], json!([web]));
    let none = home.finish(&file, &["-i", r#"only=["acme/web", "acme/none", "x/y"]"#]).1;
    assert_eq!(
        none["error"],
        json!({
            "step": "registry", "kind": "not-found",
            "message": "not registered: acme/none, x/y; `harvest repo add OWNER/NAME` registers one"
        })
    );

    assert!(home.run(&["repo", "rm", "acme/api"]).status.success());
    assert_eq!(home.json(&["repo", "list", "--json"]), json!([web]));
}

#[test]
fn mistakes_have_their_exit_codes() {
    let home = Home::new();
    for (arguments, code, words) in [
        (&["add", "acme"][..], 2, "`acme` is no OWNER/NAME"),
        (&["add", "a/b", "--url", "https://u:hunter22@example.com/a"], 2, "must not hold a credential"),
        (&["add", "a/b", "--setup", "@/nowhere"], 2, "cannot read the set-up /nowhere"),
        (&["add", "a/b", "--url", "./nowhere"], 2, "cannot find the repository ./nowhere"),
        (&["rm", "a/b"], 5, "no repository `a/b` is registered"),
    ] {
        let output = home.run(&[&["repo"], arguments].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("hunter22"));
    }
}

#[test]
fn the_registry_needs_its_permission() {
    let home = Home::new();
    let file = home.file("list.yaml", &LIST.replace("permissions: [repos]\n", ""));
    let output = home.run(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("permissions: [repos]"));
}
