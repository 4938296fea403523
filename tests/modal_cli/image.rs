//! One definition of an image, with what is different for Modal.

use crate::harness::text;
use crate::served::Served;

const DEFINITION: &str = r#"
base: host
commands: ["echo of this machine > /opt/made"]
env: { SHARED: "yes" }
providers:
  modal:
    base: debian:bookworm-slim
    commands: ["echo of Modal > /opt/made"]
"#;

#[test]
fn a_definition_is_built_as_its_provider_has_it() {
    let served = Served::new(|server| server);
    let path = served.home.file("image.yaml", DEFINITION);
    for (provider, made) in [("local", "of this machine"), ("modal", "of Modal")] {
        let mut build = served.harvest();
        let built =
            build.args(["image", "build", "--provider", provider]).arg(&path).output().expect("it runs");
        assert_eq!(built.status.code(), Some(0), "{}", text(&built.stderr));
        let command = [
            "exec",
            "--provider",
            provider,
            "--image",
            "image",
            "--",
            "sh",
            "-c",
            "cat /opt/made; echo $SHARED",
        ];
        let output = served.harvest().args(command).output().expect("it runs");
        assert_eq!(text(&output.stdout), format!("{made}\nyes\n"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_image_that_ships_has_a_definition_for_modal() {
    let served = Served::new(|server| server);
    let definition = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("images/agent.yaml");
    // Its base is one that this server does not have: nothing of this machine's stands in for it.
    served.server.faults().fail("ImageGetOrCreate", modal_server::Code::NotFound, 1);
    let mut build = served.harvest();
    let built =
        build.args(["image", "build", "--provider", "modal"]).arg(definition).output().expect("it runs");
    assert!(!built.status.success());
    let asked = served.asked("ImageGetOrCreate");
    let base = asked[0]["image"]["dockerfile_commands"][0].as_str().unwrap();
    assert!(base.starts_with("FROM debian:bookworm-slim@sha256:"), "{base}");
}
