//! The workflow `refresh-images` as it ships: two repositories are registered, and the set-up of one fails.

mod harness;

use harness::repository::{git, sample};
use harness::webhook::Webhook;
use harness::{Home, text};
use serde_json::{Value, json};
use std::path::Path;

/// The file as it ships, but for the one host it tells of failures.
fn shipped(home: &Home, service: &Webhook) -> std::path::PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/refresh-images.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.matches("hooks.slack.com").count(), 1);
    home.file("refresh-images.yaml", &text.replace("hooks.slack.com", &format!("'{}'", service.address)))
}

fn tags(home: &Home) -> Vec<String> {
    let images = home.json(&["image", "list", "--json"]);
    let names = images.as_array().unwrap().iter().flat_map(|image| image["names"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn images_are_built_once_and_who_fails_is_told_of() {
    let home = Home::new();
    let service = Webhook::start();
    let good = sample(&home.scratch().join("good"));
    let bad = sample(&home.scratch().join("bad"));
    for (name, path, setup) in
        [("acme/good", &good, "cp file.txt made"), ("acme/bad", &bad, "echo no such tool >&2\nexit 7")]
    {
        let added = home.run(&["repo", "add", name, "--url", path.to_str().unwrap(), "--setup", setup]);
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    let file = shipped(&home, &service);
    let notify = format!("notify=http://{}/hook", service.address);
    let refresh = |arguments: &[&str]| -> Value {
        let (code, last) = home.finish(&file, &[&["-i", &notify], arguments].concat());
        assert_eq!((code, &last["state"]), (0, &json!("succeeded")), "{last}");
        last["outputs"].clone()
    };

    assert_eq!(refresh(&[]), json!({ "built": 1, "cached": 0 }));
    let received = service.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, json!({ "text": "1 of 2 images failed: acme/bad" }));
    assert_eq!(tags(&home), ["repo-image/acme/good"]);
    let listed = text(&home.run(&["image", "list"]).stdout);
    assert!(listed.contains("repo-image/acme/good"), "{listed}");
    let look = ["exec", "--image", "repo-image/acme/good", "--", "cat", "/workspace/good/made"];
    assert_eq!(text(&home.run(&look).stdout), "3\n");
    let shown = text(&home.run(&["logs", &home.newest()]).stdout);
    assert!(shown.contains("no such tool"), "{shown}");

    assert_eq!(refresh(&["-i", r#"only=["acme/good"]"#]), json!({ "built": 1, "cached": 1 }));
    assert_eq!(service.received().len(), 0, "nothing failed, so nothing is said");

    // The second repository is mended: everything is built, and then everything is there.
    let mended = home.run(&["repo", "add", "acme/bad", "--url", bad.to_str().unwrap(), "--setup", "true"]);
    assert!(mended.status.success());
    assert_eq!(refresh(&[]), json!({ "built": 2, "cached": 1 }));
    assert_eq!(refresh(&[]), json!({ "built": 2, "cached": 2 }));
    assert_eq!(refresh(&["-i", "force=true"]), json!({ "built": 2, "cached": 0 }));

    // A new commit is a new image, under the same name.
    std::fs::write(good.join("file.txt"), "4\n").unwrap();
    git(&good, &["commit", "-qam", "commit 4"]);
    assert_eq!(refresh(&[]), json!({ "built": 2, "cached": 1 }));
    assert_eq!(text(&home.run(&look).stdout), "4\n");
    assert_eq!(service.received().len(), 0);
}
