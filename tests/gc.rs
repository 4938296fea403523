//! Old runs go by themselves and by `harvest gc`, with everything that belongs to them.

mod harness;

use harness::{Home, Running, text};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const QUICK: &str =
    "harvest: 1\nname: quick\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [echo, hi] }\n";

const FAILS: &str =
    "harvest: 1\nname: fails\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [\"false\"] }\n";

fn configure(home: &Home, text: &str) {
    fs::create_dir_all(home.path()).unwrap();
    fs::write(home.path().join("config.yaml"), text).unwrap();
}

fn listed(home: &Home) -> Vec<String> {
    let rows = home.json(&["runs", "--json"]);
    rows.as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap().to_owned()).collect()
}

/// Files of the home that are named after a run.
fn files_of(home: &Home, run: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in ["streams", "artifacts", "artifacts/.about", "sandboxes", "leases"] {
        let Ok(entries) = fs::read_dir(home.path().join(place)) else { continue };
        let names = entries.map(|entry| entry.unwrap().path());
        found.extend(names.filter(|path| path.file_name().unwrap().to_string_lossy().contains(run)));
    }
    found
}

#[test]
fn after_each_run_the_home_is_within_its_limits() {
    let home = Home::new();
    configure(&home, "retention: { runs: 3 }\n");
    let file = home.file("quick.yaml", QUICK);
    let mut all = Vec::new();
    for _ in 0..5 {
        assert_eq!(home.finish(&file, &[]).0, 0);
        all.insert(0, home.newest());
    }
    assert_eq!(listed(&home), all[..3]);
    for gone in &all[3..] {
        assert_eq!(files_of(&home, gone), Vec::<PathBuf>::new());
    }
    assert!(home.path().join("streams").join(&all[0]).exists());
    assert_eq!(home.run(&["journal", "verify"]).status.code(), Some(0));
}

#[test]
fn gc_says_what_goes_and_takes_all_of_it() {
    let home = Home::new();
    let (quick, fails) = (home.file("quick.yaml", QUICK), home.file("fails.yaml", FAILS));
    home.file("inner.yaml", QUICK);
    let outer = home.file("outer.yaml", "harvest: 1\nname: outer\nsteps:\n  a: { uses: ./inner.yaml }\n");
    home.finish(&outer, &[]);
    home.finish(&fails, &[]);
    let failed = home.newest();
    home.finish(&quick, &[]);
    let newest = home.newest();
    let ask = "harvest: 1\nname: ask\nsteps:\n  a:\n    approve: { message: Well? }\n";
    let mut command = home.harvest();
    command.args(["run", "--json"]).arg(home.file("ask.yaml", ask));
    let mut asking = Running::of(command);
    let waiting = asking.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    asking.kill();
    assert_eq!(listed(&home).len(), 5);
    assert!(files_of(&home, &failed).iter().any(|path| path.to_string_lossy().contains("sandboxes")));

    configure(&home, "retention: { runs: 2 }\n");
    let plan = home.json(&["gc", "--dry-run", "--json"]);
    assert_eq!(listed(&home).len(), 5, "a dry run changes nothing");
    let gone: Vec<&Value> = plan["runs"].as_array().unwrap().iter().collect();
    assert_eq!(gone.len(), 2, "{plan}");
    assert_eq!(gone[0]["with"].as_array().unwrap().len(), 1, "a run of a step goes with the run above it");
    assert_eq!((&gone[1]["run"], &gone[1]["because"]), (&json!(failed), &json!("runs")));

    let done = home.run(&["gc"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains(&format!("run      {failed}  ended")), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains("3 runs, 0 orphans"), "{}", text(&done.stderr));
    assert_eq!(listed(&home), [waiting.clone(), newest.clone()]);
    assert_eq!(files_of(&home, &failed), Vec::<PathBuf>::new());

    // One that has not ended stays, whatever the limits.
    configure(&home, "retention: { runs: 1, size: 1B, age: 0s }\n");
    home.run(&["gc"]);
    assert_eq!(listed(&home), [waiting]);
}

#[test]
fn what_a_kill_left_without_a_run_is_found() {
    let home = Home::new();
    let file = home.file("fails.yaml", FAILS);
    home.finish(&file, &[]);
    let kept = home.newest();
    // As a kill between a run's row and its files would leave it.
    let gone = "01arz3ndektsv4rrffq69g5fav";
    for place in ["streams", "leases"] {
        fs::write(home.path().join(place).join(gone), "x").unwrap();
    }
    for place in ["artifacts", "artifacts/.about"] {
        let place = home.path().join(place).join(gone);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("report.txt"), "x").unwrap();
    }
    fs::create_dir_all(home.path().join(format!("sandboxes/{gone}-box/upper"))).unwrap();
    fs::write(home.path().join("streams/notes.txt"), "mine").unwrap();
    let plan = home.json(&["gc", "--dry-run", "--json"]);
    let kinds: Vec<&str> =
        plan["orphans"].as_array().unwrap().iter().map(|orphan| orphan["kind"].as_str().unwrap()).collect();
    assert!(kinds.starts_with(&["streams", "artifacts", "sandbox"]), "{kinds:?}");
    assert!(!files_of(&home, gone).is_empty());
    assert_eq!(home.run(&["gc"]).status.code(), Some(0));
    assert_eq!(files_of(&home, gone), Vec::<PathBuf>::new());
    assert!(home.path().join("streams/notes.txt").exists(), "what is named like no run stays");
    assert!(!files_of(&home, &kept).is_empty());
    assert_eq!(listed(&home), [&*kept]);

    // The files that a failed run keeps go when they are asked to, and the run stays.
    let sandboxes = |json: &Value| json["sandboxes"].as_array().unwrap().len();
    let plan = home.json(&["gc", "--json"]);
    assert_eq!((sandboxes(&plan), &plan["sandboxes"][0]["removed"]), (1, &json!(false)));
    let done = home.json(&["gc", "--kept", "--json"]);
    assert_eq!(
        (&done["sandboxes"][0]["run"], &done["sandboxes"][0]["removed"]),
        (&json!(kept), &json!(true))
    );
    assert_eq!(sandboxes(&home.json(&["gc", "--kept", "--json"])), 0);
    assert_eq!(listed(&home), [kept]);
}

#[test]
fn outputs_kept_for_equal_calls_go_with_the_age_of_runs() {
    let home = Home::new();
    let cached = QUICK.replace("\n    with", "\n    cache: { key: \"'one'\" }\n    with");
    let file = home.file("cached.yaml", &cached);
    assert_eq!(home.finish(&file, &[]).0, 0);
    let outputs = || home.json(&["gc", "--dry-run", "--json"])["orphans"].as_array().unwrap().clone();
    assert_eq!(outputs(), Vec::<Value>::new());
    configure(&home, "retention: { age: 0s }\n");
    let found = outputs();
    assert_eq!(found.iter().map(|orphan| &orphan["kind"]).collect::<Vec<_>>(), ["outputs"]);
    assert_eq!(home.run(&["gc"]).status.code(), Some(0));
    assert_eq!(fs::read_dir(home.path().join("outputs")).unwrap().count(), 0);
    configure(&home, "");
    assert_eq!(home.finish(&file, &[]).0, 0);
}

#[test]
fn a_configuration_that_is_wrong_is_refused() {
    let home = Home::new();
    configure(&home, "retention: { rums: 3 }\n");
    let refused = home.run(&["gc"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("config.yaml: unknown field `rums`"), "{}", text(&refused.stderr));
}

#[test]
fn images_go_that_nothing_names_asks_for_or_mentions() {
    let home = Home::new();
    let build = |number: u32| {
        let text = format!("base: host\ncommands: [\"echo {number} > /opt/number\"]\n");
        let file = home.file("image.yaml", &text);
        let built = home.json(&["image", "build", file.to_str().unwrap(), "--name", "it", "--json"]);
        built["id"].as_str().unwrap().to_owned()
    };
    // Each takes the name from the one before.
    let [forgotten, mentioned, kept, fresh, named] = [1, 2, 3, 4, 5].map(build);
    let fails = FAILS.replace("[\"false\"]", &format!("[\"false\", \"{mentioned}\"]"));
    home.finish(&home.file("fails.yaml", &fails), &[]);
    fs::create_dir_all(home.path().join("outputs")).unwrap();
    fs::write(home.path().join("outputs/0123"), format!("{{\"outputs\":{{\"image\":\"{kept}\"}}}}")).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 60 * 60);
    for image in [&forgotten, &mentioned, &kept, &named] {
        let name = format!("images/{}.json", image.strip_prefix("sha256:").unwrap());
        fs::File::options().write(true).open(home.path().join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    let listed = || {
        let images = home.json(&["image", "list", "--json"]);
        let images = images.as_array().unwrap().iter();
        let mut ids: Vec<String> = images
            .map(|image| {
                assert_eq!(image["durable"], json!(true));
                image["id"].as_str().unwrap().to_owned()
            })
            .collect();
        ids.sort();
        ids
    };
    let orphans = |plan: &Value| -> Vec<(String, String)> {
        let orphans = plan["orphans"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        orphans.map(|orphan| (text(&orphan["kind"]), text(&orphan["of"]))).collect()
    };
    let plan = home.json(&["gc", "--dry-run", "--json"]);
    let found = orphans(&plan);
    assert_eq!(found[0], ("image".into(), forgotten.clone()), "{plan}");
    assert!(found.len() == 2 && found[1].0 == "layer", "{plan}");
    assert!(plan["freed"].as_u64().unwrap() > 0, "{plan}");
    assert_eq!(listed().len(), 5, "a dry run changes nothing");
    assert_eq!(orphans(&home.json(&["gc", "--json"])), found);
    let mut left = vec![mentioned, kept, fresh, named];
    left.sort();
    assert_eq!(listed(), left);
    assert_eq!(home.json(&["gc", "--json"])["orphans"], json!([]));
    // What an image that stays is made of stays, too.
    assert_eq!(home.run(&["exec", "--image", "it", "--", "cat", "/opt/number"]).stdout, b"5\n");
}
