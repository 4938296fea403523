//! The step `claude/run`: an agent session of the Claude Code CLI in a sandbox.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams"],
    inline: "
        package harvest:claude-steps@0.1.0;

        /// The step `claude/run`: an agent session of the Claude Code CLI in a sandbox.
        world claude {
            use harvest:sandbox/types@0.1.0.{error, sandbox};

            /// Names the sandbox that it was given.
            export identify: func(sandbox: borrow<sandbox>) -> result<string, error>;
        }
    ",
    world: "harvest:claude-steps/claude",
    generate_all,
});

struct Steps;

impl Guest for Steps {
    fn identify(sandbox: &Sandbox) -> Result<String, Error> {
        Ok(sandbox.id())
    }
}

export!(Steps);
