//! The steps `git/...`: clone, configure, commit, snapshot and push a tree that lives in a sandbox.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams"],
    inline: "
        package harvest:git-steps@0.1.0;

        /// The steps `git/...`: clone, configure, commit, snapshot and push a tree that lives in a sandbox.
        world git {
            use harvest:sandbox/types@0.1.0.{error, sandbox};

            /// Names the sandbox that it was given.
            export identify: func(sandbox: borrow<sandbox>) -> result<string, error>;
        }
    ",
    world: "harvest:git-steps/git",
    generate_all,
});

struct Steps;

impl Guest for Steps {
    fn identify(sandbox: &Sandbox) -> Result<String, Error> {
        Ok(sandbox.id())
    }
}

export!(Steps);
