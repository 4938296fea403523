//! `harvest doctor --claude`, on an image that is whole and on one that is not.

use crate::harness::{Home, text};
use crate::world::home;
use serde_json::Value;

fn probes(home: &Home) -> Vec<Value> {
    let output = home.harvest().args(["doctor", "--claude", "--json"]).output().unwrap();
    let said = text(&output.stdout);
    let all: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", text(&output.stderr)));
    let all = all.as_array().unwrap();
    all.iter().filter(|probe| probe["name"].as_str().unwrap().starts_with("claude")).cloned().collect()
}

fn named<'a>(probes: &'a [Value], name: &str) -> &'a Value {
    probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name} in {probes:?}"))
}

#[test]
fn everything_of_the_agent_image_is_tried() {
    let probes = probes(home());
    for name in [
        "claude image",
        "claude version",
        "claude stream",
        "claude MCP memory",
        "claude MCP filesystem",
        "claude MCP playwright",
        "claude MCP devtools",
    ] {
        assert_eq!(named(&probes, name)["ok"], true, "{probes:?}");
    }
    assert!(
        named(&probes, "claude version")["detail"].as_str().unwrap().starts_with(agent_cli::CLAUDE_VERSION)
    );
    assert!(named(&probes, "claude stream")["detail"].as_str().unwrap().contains(agent_cli::CLAUDE_VERSION));
    // The tests set no credential.
    let credential = named(&probes, "claude credential");
    assert_eq!(credential["ok"], false);
    assert!(credential["remedy"].as_str().unwrap().contains("claude setup-token"));
}

#[test]
fn a_home_without_the_image_is_told_how_to_build_it() {
    let home = Home::new();
    let probes = probes(&home);
    let image = named(&probes, "claude image");
    assert_eq!(image["ok"], false);
    assert!(image["remedy"].as_str().unwrap().contains("harvest image build"));
    assert!(probes.iter().all(|probe| probe["name"] != "claude version"));
}
