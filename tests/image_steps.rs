//! The component `image` as the host runs it: a real component, real sandboxes, real repositories.

mod harness;

use harness::https::Server;
use harness::repository::{git, sample};
use harness::{Home, text};
use serde_json::{Value, json};

const BUILD: &str = r#"
harvest: 1
name: build
inputs:
  repo: { type: string, optional: true }
  sha: { type: string, optional: true }
  setup: { type: string, default: "" }
  base: { type: string, default: "" }
  name: { type: string, default: "" }
  fresh: { type: bool, default: false }
permissions: [images]
steps:
  image:
    uses: image/build
    with:
      repo: "${{ inputs.repo }}"
      sha: "${{ inputs.sha }}"
      setup: "${{ inputs.setup }}"
      base: "${{ inputs.base }}"
      name: "${{ inputs.name }}"
      fresh: "${{ inputs.fresh }}"
outputs:
  id: "${{ steps.image.id }}"
  cached: "${{ steps.image.cached }}"
"#;

fn build(home: &Home, inputs: &[&str]) -> Value {
    let file = home.file("build.yaml", BUILD);
    let arguments: Vec<&str> = inputs.iter().flat_map(|input| ["-i", input]).collect();
    home.finish(&file, &arguments).1
}

fn built(home: &Home, inputs: &[&str]) -> (String, bool) {
    let last = build(home, inputs);
    assert_eq!(last["state"], "succeeded", "{last}");
    (last["outputs"]["id"].as_str().unwrap().to_owned(), last["outputs"]["cached"].as_bool().unwrap())
}

fn inside(home: &Home, image: &str, script: &str) -> String {
    let output = home.run(&["exec", "--image", image, "--", "sh", "-ec", script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[test]
fn an_image_has_the_clone_and_what_the_set_up_made() {
    let home = Home::new();
    let repository = sample(&home.scratch().canonicalize().unwrap().join("project"));
    let head = git(&repository, &["rev-parse", "HEAD"]);
    let repo = format!("repo={}", repository.display());
    let setup = "setup=cat file.txt > made\npwd >> made";
    let (id, cached) = built(&home, &[&repo, setup, "name=warm/project"]);
    assert!(!cached);
    let look = "cd /workspace/project; cat made; git -c safe.directory='*' rev-parse HEAD; ls -A /workspace; \
                git -c safe.directory='*' remote get-url origin";
    let seen = format!("3\n/workspace/project\n{head}\nproject\n{}", repository.display());
    assert_eq!(inside(&home, "warm/project", look), seen);

    assert_eq!(built(&home, &[&repo, setup]), (id.clone(), true), "the same parts");
    assert_eq!(
        built(&home, &[&repo, setup, "sha=main"]),
        (id.clone(), true),
        "a branch is the commit it is at"
    );
    let (again, cached) = built(&home, &[&repo, setup, "fresh=true"]);
    assert!(!cached && again != id, "made anew where that is asked for");
    assert_eq!(built(&home, &[&repo, setup]), (again, true));
    let (old, cached) = built(&home, &[&repo, "sha=v1"]);
    assert!(!cached);
    assert_eq!(inside(&home, &old, "cat /workspace/project/file.txt"), "1");

    // On an image that has another state of the same tree.
    let based = format!("base={old}");
    let (newer, _) = built(&home, &[&repo, &based]);
    assert_eq!(inside(&home, &newer, "cat /workspace/project/file.txt; ls /workspace"), "3\nproject");
    assert_eq!(home.json(&["image", "list", "--json"]).as_array().unwrap().len(), 6);
}

#[test]
fn an_image_needs_no_repository() {
    let home = Home::new();
    let setup = "setup=pwd > /opt/where";
    let (id, cached) = built(&home, &[setup]);
    assert!(!cached);
    assert_eq!(inside(&home, &id, "cat /opt/where"), "/");
    assert_eq!(built(&home, &[setup]), (id.clone(), true));
    let (fresh, cached) = built(&home, &[setup, "fresh=true"]);
    assert!(!cached && fresh != id);
    assert_eq!(built(&home, &[setup]), (fresh, true));
}

#[test]
fn what_cannot_be_built_says_why() {
    let home = Home::new();
    let repository = sample(&home.scratch().join("project"));
    let repo = format!("repo={}", repository.display());
    let long = format!("setup={}", "#".repeat((64 << 10) + 1));
    for (inputs, kind, words) in [
        (vec!["base=nowhere"], "not-found", "there is no image `nowhere`"),
        (vec!["sha=main"], "invalid", "`sha` says which commit of `repo`"),
        (vec![repo.as_str(), "sha=nobranch"], "not-found", "nobranch"),
        (vec!["repo=/nowhere/at/all"], "not-found", "/nowhere/at/all"),
        (vec!["name=no name"], "invalid", "cannot name an image"),
        (
            vec![repo.as_str(), "setup=echo one\ntest -e none\necho two >> file.txt"],
            "other",
            "ended with code 1",
        ),
        (vec![long.as_str()], "too-large", "at most 64 KiB"),
    ] {
        let last = build(&home, &inputs);
        let error = &last["error"];
        let said =
            (error["kind"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
        assert!(said.0 == kind && said.1.contains(words), "{inputs:?}: {last}");
    }
    assert!(
        home.json(&["image", "list", "--json"])
            .as_array()
            .unwrap()
            .iter()
            .all(|image| { image["names"].as_array().unwrap().is_empty() })
    );
}

#[test]
fn an_image_is_tagged_by_name_or_id() {
    let home = Home::new();
    let file = home.file(
        "tag.yaml",
        "harvest: 1\nname: tag\ninputs: { image: { type: string } }\npermissions: [images]\nsteps:\n  tag:\n    uses: image/tag\n    with: { image: '${{ inputs.image }}', as: second }\noutputs: { id: '${{ steps.tag.id }}' }\n",
    );
    let (id, _) = built(&home, &["setup=true", "name=first"]);
    let (code, last) = home.finish(&file, &["-i", "image=first"]);
    assert_eq!((code, &last["outputs"]), (0, &json!({ "id": id })));
    let list = home.json(&["image", "list", "--json"]);
    assert_eq!(list[0]["names"], json!(["first", "second"]));
    let (_, last) = home.finish(&file, &["-i", "image=third"]);
    assert_eq!(last["error"]["kind"], "not-found", "{last}");
}

#[test]
fn a_private_repository_is_cloned_with_a_token_that_no_image_has() {
    const TOKEN: &str = "value-of-the-clone-token";
    let home = Home::new();
    let server = Server::start(TOKEN);
    let source = sample(&home.scratch().join("source"));
    server.publish(&source, "project.git");
    let text_of_file = BUILD
        .replace("permissions:", "secrets:\n  github: { from: env:HARVEST_TEST_TOKEN }\npermissions:")
        .replace("    uses: image/build\n", "    uses: image/build\n    secrets: { token: github }\n");
    let file = home.file("private.yaml", &text_of_file);
    let url = format!("{}/private/project.git", server.base);
    let build = |token: &str| {
        let mut command = home.harvest();
        command.env("HARVEST_TEST_TOKEN", token).env("GIT_SSL_CAINFO", server.authority());
        command.args(["run", "--json"]).arg(&file).args([
            "-i",
            &format!("repo={url}"),
            "-i",
            "setup=env > made",
        ]);
        let output = command.output().unwrap();
        let last = text(&output.stdout).lines().last().map(str::to_owned);
        serde_json::from_str::<Value>(&last.unwrap_or_else(|| panic!("{}", text(&output.stderr)))).unwrap()
    };
    assert_eq!(build("another-token-altogether")["error"]["kind"], "denied");
    let last = build(TOKEN);
    assert_eq!(last["state"], "succeeded", "{last}");
    let image = last["outputs"]["id"].as_str().unwrap();
    let origin = "cd /workspace/project; cat file.txt; git -c safe.directory='*' remote get-url origin";
    assert_eq!(inside(&home, image, origin), format!("3\n{url}"));
    for needle in [TOKEN, "x-access-token"] {
        assert_eq!(home.files_with(needle), Vec::<std::path::PathBuf>::new());
    }
}
