//! A team changes what a built-in step does by shipping an edited component: nothing in harvest changes.

use crate::world::{Ended, home, run};
use scripted_api::{Server, scenario};
use std::path::Path;

const ORIGINAL: &[u8] = b"the model declined the request";
const EDITED: &[u8] = b"our team's own words for a no.";

#[test]
fn an_edited_component_takes_the_place_of_the_embedded_one() {
    let mut component = std::fs::read(env!("HARVEST_GUEST_CLAUDE")).unwrap();
    let at = component.windows(ORIGINAL.len()).position(|window| window == ORIGINAL).expect("the sentence");
    component[at..at + EDITED.len()].copy_from_slice(EDITED);
    std::fs::write(home().scratch().join("claude.wasm"), component).unwrap();
    let api = Server::start(scenario("refusal", Path::new("/workspace")).unwrap()).unwrap();
    let message = |uses: &str, name: &str| {
        let text = format!(
            "harvest: 1\nname: edited\nsandboxes:\n  box: {{ image: agent }}\nsteps:\n  agent:\n    uses: {uses}\n    with: {{ cwd: /workspace, prompt: Go }}\n"
        );
        let file = home().file(name, &text);
        let ended = Ended::of(run(&api, "key-of-the-operator", &file, &[]));
        assert_eq!(ended.kind(), "refused", "{}", ended.said);
        ended.message().as_bytes().to_owned()
    };
    assert_eq!(message("claude/run", "embedded.yaml"), ORIGINAL);
    assert_eq!(message("./claude.wasm#run", "edited.yaml"), EDITED);
}
