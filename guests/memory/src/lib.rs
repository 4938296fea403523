//! The steps `memory/mount` and `memory/save`: an agent's knowledge graph, kept between runs.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams"],
    inline: "
        package harvest:memory-steps@0.1.0;

        /// The steps `memory/mount` and `memory/save`: an agent's knowledge graph, kept between runs.
        world memory {
            use harvest:sandbox/types@0.1.0.{error, sandbox};

            /// Names the sandbox that it was given.
            export identify: func(sandbox: borrow<sandbox>) -> result<string, error>;
        }
    ",
    world: "harvest:memory-steps/memory",
    generate_all,
});

struct Steps;

impl Guest for Steps {
    fn identify(sandbox: &Sandbox) -> Result<String, Error> {
        Ok(sandbox.id())
    }
}

export!(Steps);
