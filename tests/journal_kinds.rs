//! The journal that a home's `config.yaml` asks for, with the real binary.

mod harness;

use harness::{Home, text};
use std::path::PathBuf;
use std::process::Output;

fn workflow(home: &Home, command: &str) -> PathBuf {
    home.file(
        "w.yaml",
        &format!("harvest: 1\nname: w\nsteps:\n  a:\n    uses: exec/run\n    with: {{ command: [sh, -c, '{command}'] }}\n"),
    )
}

fn settings(home: &Home, text: &str) {
    std::fs::create_dir_all(home.path()).unwrap();
    std::fs::write(home.path().join("config.yaml"), text).unwrap();
}

/// Exit code and message, with the home's path left out.
fn said(home: &Home, output: &Output) -> (Option<i32>, String) {
    let message = text(&output.stderr).replace(&*home.path().to_string_lossy(), "HOME");
    (output.status.code(), message.trim().to_owned())
}

#[test]
fn unknown_settings_are_refused() {
    let home = Home::new();
    settings(&home, "journals: sled\n");
    let (code, message) = said(&home, &home.run(&["runs"]));
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(message, @"error: HOME/config.yaml: unknown field `journals`, expected one of `journal`, `retention`, `modal`; it may hold `journal: sqlite` and `retention: { age: 90d, runs: 10000, size: 10GiB }`");
    settings(&home, "# nothing yet\n");
    assert_eq!(home.run(&["runs"]).status.code(), Some(0));
    let mut other = home.harvest();
    let (code, message) = said(&home, &other.env("HARVEST_JOURNAL", "redb").arg("runs").output().unwrap());
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(message, @"error: HARVEST_JOURNAL is `redb`: write `sqlite` or `sled`");
}

#[cfg(feature = "sled")]
#[test]
fn a_home_with_sled_works_one_process_at_a_time() {
    let home = Home::new();
    settings(&home, "journal: sled\n");
    let output = home.run(&["run", workflow(&home, "echo hi").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(home.path().join("journal.sled").is_dir() && !home.path().join("journal.db").exists());
    assert_eq!(home.json(&["show", &home.newest(), "--json"])["state"], "succeeded");

    // While a run goes on, a second process says so in one line.
    let mut running = home.start(&workflow(&home, "echo hanging; sleep 71.41"));
    let run = running.wait_for("step_started", Some("a"))["run"].as_str().unwrap().to_owned();
    let (code, message) = said(&home, &home.run(&["runs"]));
    assert_eq!(code, Some(4));
    insta::assert_snapshot!(message, @"error: another process keeps the journal busy (sled can be used by one process at a time; SQLite by many); try again, or end that process");
    running.kill();
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "running");

    // The home keeps its journal, whatever is asked for.
    settings(&home, "journal: sqlite\n");
    let (code, message) = said(&home, &home.run(&["runs"]));
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(message, @"error: HOME/config.yaml asks for the journal `sqlite`, but this home has one of `sled` (journal.sled). To go on with it, write `sled`. To change over: with `sled`, `harvest journal export FILE`; move journal.sled away; with `sqlite`, `harvest journal import FILE`");
}

#[cfg(feature = "sled")]
#[test]
fn a_detached_run_gets_the_journal_from_who_started_it() {
    let home = Home::new();
    let sled = |command: &mut std::process::Command| command.env("HARVEST_JOURNAL", "sled").output().unwrap();
    let output = sled(home.harvest().arg("run").arg("--detach").arg(workflow(&home, "echo hi")));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let run = text(&output.stdout).trim().to_owned();
    // The background process has the journal from some moment on until the run has ended: nobody else can follow it.
    let since = std::time::Instant::now();
    loop {
        let shown = sled(home.harvest().args(["show", &run, "--json"]));
        let said = text(&shown.stdout);
        if said.contains("\"succeeded\"") {
            break;
        }
        assert!(since.elapsed().as_secs() < 60, "{said}{}", text(&shown.stderr));
        std::thread::yield_now();
    }
}
