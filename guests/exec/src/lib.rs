//! The steps `exec/run` and `exec/python`: one command in a sandbox.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams"],
    inline: "
        package harvest:exec-steps@0.1.0;

        /// The steps `exec/run` and `exec/python`: one command in a sandbox.
        world exec {
            use harvest:sandbox/types@0.1.0.{error, sandbox};

            /// Names the sandbox that it was given.
            export identify: func(sandbox: borrow<sandbox>) -> result<string, error>;
        }
    ",
    world: "harvest:exec-steps/exec",
    generate_all,
});

struct Steps;

impl Guest for Steps {
    fn identify(sandbox: &Sandbox) -> Result<String, Error> {
        Ok(sandbox.id())
    }
}

export!(Steps);
