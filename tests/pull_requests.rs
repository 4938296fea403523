//! `git/pull_request` against a server that holds its client to the API.

mod harness;

use harness::github::{Fault, Github};
use harness::{Home, https, text};
use serde_json::{Value, json};
use std::path::PathBuf;

const WORKFLOW: &str = r#"
harvest: 1
name: request
inputs:
  repo:  { type: string }
  head:  { type: string, default: feature/x }
  base:  { type: string, default: "" }
  title: { type: string, default: Sum all items }
secrets:
  github: { from: [env:REQUEST_TOKEN] }
steps:
  request:
    uses: git/pull_request
    with:
      repo: "${{ inputs.repo }}"
      head: "${{ inputs.head }}"
      base: "${{ inputs.base }}"
      title: "${{ inputs.title }}"
      body: "The last one was taken off."
    secrets: { token: github }
outputs:
  number: "${{ steps.request.number }}"
  url: "${{ steps.request.url }}"
  created: "${{ steps.request.created }}"
"#;

/// A home with the workflow.
struct World {
    home: Home,
    file: PathBuf,
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        let file = home.file("request.yaml", WORKFLOW);
        Self { home, file }
    }

    /// Runs it, and returns its exit code and its last line.
    fn run(&self, token: &str, inputs: &[(&str, &str)], environment: &[(&str, &str)]) -> (i32, Value) {
        let mut command = self.home.harvest();
        command.envs(environment.iter().copied()).env("REQUEST_TOKEN", token);
        command.args(["run", "--json"]).arg(&self.file);
        for (name, value) in inputs {
            command.args(["-i", &format!("{name}={value}")]);
        }
        let output = command.output().unwrap();
        let last = text(&output.stdout).lines().last().map(|line| serde_json::from_str(line).unwrap());
        (output.status.code().unwrap(), last.unwrap_or_else(|| panic!("{}", text(&output.stderr))))
    }

    fn request(&self, github: &Github, inputs: &[(&str, &str)]) -> (i32, Value) {
        let repo = format!("{}/acme/web", github.base);
        let result = self.run("ghp_canary0123", &[&[("repo", repo.as_str())], inputs].concat(), &[]);
        assert_eq!(github.complaints(), Vec::<String>::new());
        result
    }
}

#[test]
fn a_pull_request_is_opened_once_and_found_again() {
    let (world, github) = (World::new(), Github::start(&[]));
    let (code, first) = world.request(&github, &[]);
    let url = format!("{}/acme/web/pull/41", github.base);
    assert_eq!(
        (code, &first["outputs"]),
        (0, &json!({"number": 41, "url": url, "created": true})),
        "{first}"
    );
    let pulls = github.pulls();
    assert_eq!((&pulls[0]["base"]["ref"], &pulls[0]["draft"]), (&json!("trunk"), &json!(false)));
    assert_eq!(pulls[0]["body"], "The last one was taken off.");
    let (_, again) = world.request(&github, &[("head", "refs/heads/feature/x"), ("base", "trunk")]);
    assert_eq!(again["outputs"], json!({"number": 41, "url": url, "created": false}), "{again}");
    // Into another branch, and from a fork, it is another one.
    let (_, other) = world.request(&github, &[("base", "next")]);
    let (_, fork) = world.request(&github, &[("head", "bob:feature/x")]);
    assert_eq!((&other["outputs"]["number"], &fork["outputs"]["number"]), (&json!(42), &json!(43)));
    // The token was in headers and nowhere else.
    assert_eq!(world.home.files_with("ghp_canary0123"), Vec::<PathBuf>::new());
}

#[test]
fn a_server_that_stumbles_is_asked_again_and_opens_one() {
    let world = World::new();
    for faults in [&[Fault::Broken, Fault::Broken][..], &[Fault::AnswerLost]] {
        let github = Github::start(faults);
        let (code, last) = world.request(&github, &[]);
        assert_eq!((code, &last["outputs"]["number"]), (0, &json!(41)), "{faults:?}: {last}");
        assert_eq!(github.pulls().len(), 1);
    }
    let github = Github::start(&[Fault::Broken; 3]);
    let (code, last) = world.request(&github, &[]);
    assert_eq!((code, &last["error"]["kind"]), (4, &json!("unavailable")), "{last}");
}

#[test]
fn limits_are_an_error_of_their_own() {
    let world = World::new();
    for (fault, words) in [(Fault::TooOften, "ask again in 60 s"), (Fault::Spent, "ask again in 0 s")] {
        let github = Github::start(&[fault]);
        let (_, last) = world.request(&github, &[]);
        assert_eq!(last["error"]["kind"], "rate-limited", "{last}");
        assert!(last["error"]["message"].as_str().unwrap().contains(words), "{last}");
        assert_eq!(github.requests().iter().filter(|line| line.starts_with("POST")).count(), 1);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let (world, github) = (World::new(), Github::start(&[]));
    let repo = format!("{}/acme/web", github.base);
    let cases = [
        (&[("head", "nope")][..], "invalid", "head invalid; is `head` pushed, and `base` a branch?"),
        (&[("title", " ")], "invalid", "`title` has 1 to 256 characters"),
        (&[("repo", "/tmp")], "invalid", "lies on no GitHub server"),
        (&[("repo", &format!("{}/acme/other", github.base))], "not-found", "the token has no access"),
    ];
    for (inputs, kind, words) in cases {
        let (_, last) = world.run("ghp_canary0123", &[&[("repo", repo.as_str())], inputs].concat(), &[]);
        assert_eq!(last["error"]["kind"], kind, "{last}");
        assert!(last["error"]["message"].as_str().unwrap().contains(words), "{last}");
    }
    let (_, last) = world.run("wrong_token", &[("repo", &repo)], &[]);
    assert_eq!(last["error"]["kind"], "denied", "{last}");
    assert_eq!((github.pulls(), github.complaints()), (vec![], vec![]));
}

#[test]
fn a_server_with_an_authority_of_its_own_is_trusted_as_git_trusts_it() {
    let (world, server) = (World::new(), https::Server::start("none"));
    let inputs = [("repo", format!("{}/acme/web", server.base))];
    let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
    // It has repositories and no API.
    let (_, last) = world.run("ghp_canary0123", &inputs, &[("SSL_CERT_FILE", &server.authority())]);
    assert_eq!(last["error"]["kind"], "not-found", "{last}");
    assert_eq!(server.requests()[0]["authorization"], "Bearer ghp_canary0123");
    let (_, last) = world.run("ghp_canary0123", &inputs, &[]);
    assert_eq!(last["error"]["kind"], "network", "{last}");
}
