//! What a killed process leaves, another one carries on.

mod harness;

use harness::{Home, Running, processes_with, text};
use std::path::PathBuf;

/// Three steps that each note that they ran. The one named hangs the first time it is tried.
fn workflow(home: &Home, hangs: &str, marker: &str) -> PathBuf {
    let step = |name: &str, needs: &str| {
        let hang = if name == hangs {
            format!("if ! [ -e /root/tried ]; then touch /root/tried; echo hanging; sleep {marker}; fi; ")
        } else {
            String::new()
        };
        format!(
            "  {name}:\n    uses: exec/run\n    needs: [{needs}]\n    with: {{ command: [sh, -c, '{hang}echo {name} >> /root/ran; cat /root/ran'] }}\n"
        )
    };
    let steps = [step("one", ""), step("two", "one"), step("three", "two")].concat();
    let outputs = "outputs:\n  ran: \"${{ steps.three.stdout }}\"\n";
    home.file(&format!("{hangs}.yaml"), &format!("harvest: 1\nname: hangs\nsteps:\n{steps}{outputs}"))
}

#[test]
fn a_killed_run_goes_on_without_repeating_what_had_finished() {
    for (hangs, marker) in [("one", "71.31"), ("two", "71.32"), ("three", "71.33")] {
        let home = Home::new();
        let mut running = home.start(&workflow(&home, hangs, marker));
        let started = running.wait_for("step_started", Some(hangs));
        let run = started["run"].as_str().unwrap().to_owned();
        home.wait_until_said(&run, "hanging");
        running.kill();

        let resumed = home.run(&["resume"]);
        assert_eq!(resumed.status.code(), Some(0), "{hangs}: {}", text(&resumed.stderr));
        assert_eq!(processes_with(marker), Vec::<String>::new(), "nothing of the killed process is left");
        let shown = home.json(&["show", &run, "--json"]);
        assert_eq!(shown["state"], "succeeded");
        assert_eq!(shown["outputs"]["ran"], "one\ntwo\nthree\n", "each finished step ran once");
        let attempts = shown["steps"][hangs]["attempts"].as_array().unwrap();
        assert_eq!(attempts[0]["error"]["kind"], "host-lost");
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(home.path().to_str().unwrap()), "no mount is left");

        let nothing = home.run(&["resume"]);
        assert_eq!((nothing.status.code(), text(&nothing.stderr).trim()), (Some(0), "nothing to resume"));
    }
}

#[test]
fn a_run_that_another_process_drives_is_left_alone() {
    let home = Home::new();
    let mut running = home.start(&workflow(&home, "two", "71.34"));
    let started = running.wait_for("step_started", Some("two"));
    home.wait_until_said(started["run"].as_str().unwrap(), "hanging");
    let other = home.run(&["resume"]);
    assert_eq!((other.status.code(), text(&other.stderr).trim()), (Some(0), "nothing to resume"));
    running.kill();
    assert_eq!(home.run(&["resume"]).status.code(), Some(0));
}

#[test]
fn a_detached_run_is_driven_in_the_background() {
    let home = Home::new();
    let file = home.file(
        "quick.yaml",
        "harvest: 1\nname: quick\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [echo, hi] }\n",
    );
    let output = home.run(&["run", "--detach", file.to_str().unwrap()]);
    let run = text(&output.stdout).trim().to_owned();
    // Following returns when the run has ended.
    assert!(text(&home.run(&["logs", "-f", &run]).stdout).contains("a | hi"));
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "succeeded");
}

#[test]
fn a_run_that_waits_or_cannot_go_on_holds_up_no_other() {
    let home = Home::new();
    let ask = home
        .file("ask.yaml", "harvest: 1\nname: ask\nsteps:\n  review: { approve: { message: \"Go on?\" } }\n");
    let mut asking = home.start(&ask);
    let asked = asking.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    asking.kill();
    let secret = home.file(
        "secret.yaml",
        "harvest: 1\nname: secret\nsecrets: { token: { from: env:HARVEST_TEST_PASSING } }\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sleep, '71.35'] }\n    secrets: { TOKEN: token }\n",
    );
    let mut command = home.harvest();
    command.env("HARVEST_TEST_PASSING", "value-of-it").args(["run", "--json"]).arg(secret);
    let mut lacking = Running::of(command);
    let lost = lacking.wait_for("step_started", Some("a"))["run"].as_str().unwrap().to_owned();
    lacking.kill();
    let mut working = home.start(&workflow(&home, "two", "71.36"));
    let run = working.wait_for("step_started", Some("two"))["run"].as_str().unwrap().to_owned();
    home.wait_until_said(&run, "hanging");
    working.kill();

    let mut resume = home.harvest();
    let resume = resume.arg("resume").stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Following returns when the run has ended.
    home.run(&["logs", "-f", &run]);
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "succeeded");
    assert_eq!(home.json(&["show", &asked, "--json"])["state"], "waiting");
    let approved = home.run(&["approve", &asked, "review"]);
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    let resumed = resume.wait_with_output().unwrap();
    let said = text(&resumed.stderr);
    assert_eq!(resumed.status.code(), Some(3), "{said}");
    for line in [
        format!("run {lost} (secret) cannot go on: secret `token` has no value"),
        format!("run {asked} asks: Go on?: `harvest approve {asked} 'review'`, or reject"),
        format!("run {run} (hangs) succeeded"),
        format!("run {asked} (ask) succeeded"),
    ] {
        assert!(said.contains(&line), "{line} is missing in\n{said}");
    }
    assert_eq!(home.json(&["show", &lost, "--json"])["state"], "running", "it can still be resumed");
}
