//! Where nobody answers: what the binary says and how it ends.

use crate::harness::{Home, text};

const FILE: &str = r#"
harvest: 1
name: probe
sandboxes:
  main: { image: host }
secrets:
  key: { from: env:MODAL_TEST_KEY, optional: true }
steps:
  one:
    uses: exec/run
    with: { command: ["true"] }
    secrets: { KEY: key }
"#;

fn file(home: &Home) -> String {
    home.file("probe.yaml", FILE).display().to_string()
}

/// Without anybody's own credentials.
const NOBODY: [(&str, &str); 2] =
    [("MODAL_CONFIG_PATH", "/no/such/modal.toml"), ("MODAL_SERVER_URL", "http://127.0.0.1:9")];

#[test]
fn without_a_token_it_ends_with_3_and_says_where_it_looked() {
    let home = Home::new();
    let path = file(&home);
    for arguments in [
        &["exec", "--provider", "modal", "--", "true"][..],
        &["run", &path, "--provider", "modal"],
        &["check", "--plan", &path, "--provider", "modal"],
    ] {
        let output = home.harvest().args(arguments).envs(NOBODY).output().expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("MODAL_TOKEN_ID") && said.contains("/no/such/modal.toml"), "{said}");
    }
}

#[test]
fn where_nobody_answers_it_ends_with_4_and_shows_no_secret() {
    let home = Home::new();
    let output = home
        .harvest()
        .args(["exec", "--provider", "modal", "--", "true"])
        .envs(NOBODY)
        .envs([("MODAL_TOKEN_ID", "ak-test"), ("MODAL_TOKEN_SECRET", "as-hidden")])
        .output()
        .expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("127.0.0.1:9") && !said.contains("as-hidden"), "{said}");
}

#[test]
fn a_plan_says_what_can_be_seen_there() {
    let home = Home::new();
    let output = home
        .harvest()
        .args(["check", "--plan", &file(&home), "--provider", "modal"])
        .envs(NOBODY)
        .envs([("MODAL_TOKEN_ID", "ak-test"), ("MODAL_TOKEN_SECRET", "as-hidden")])
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("no gateway leads from it") && said.contains("one.KEY"), "{said}");
}
