//! What Modal refuses, and with which exit code that ends.

use crate::harness::text;
use crate::served::Served;

#[test]
fn wrong_credentials_end_with_3_and_say_where_they_come_from() {
    let served = Served::new(|server| server);
    let file = "harvest: 1\nname: probe\nsteps:\n  one: { uses: exec/run, with: { command: [\"true\"] } }\n";
    let path = served.home.file("probe.yaml", file).display().to_string();
    for arguments in [
        &["exec", "--provider", "modal", "--", "true"][..],
        &["run", "--provider", "modal", &path],
        &["image", "pull", "debian:bookworm-slim", "--provider", "modal"],
    ] {
        let mut command = served.harvest();
        let output = command.env("MODAL_TOKEN_SECRET", "as-wrong").args(arguments).output().expect("it runs");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(
            said.contains("MODAL_TOKEN_ID and MODAL_TOKEN_SECRET") && !said.contains("as-wrong"),
            "{said}"
        );
    }
    assert_eq!(served.server.running(), Vec::<String>::new());
}

#[test]
fn a_client_that_is_too_old_is_told_so() {
    let served = Served::new(|server| server);
    served.server.faults().refuse_version();
    let output =
        served.harvest().args(["exec", "--provider", "modal", "--", "true"]).output().expect("it runs");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("this version of the client is too old"), "{said}");
}
