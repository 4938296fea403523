//! The step `claude/run`: one prompt to the Claude Code CLI in a sandbox, as a state machine over its event stream.
//!
//! [`session`] starts the CLI and follows it, [`command`] says how it is called, [`transcript`] reads what it prints,
//! [`outcome`] decides what became of it, [`mcp`] knows the MCP servers. A new version of the CLI that prints something
//! else is met here, by a new component; the host knows nothing of it.
#![allow(missing_docs)] // The bindings' own items have none.

pub mod command;
pub mod mcp;
pub mod outcome;
mod repository;
mod session;
pub mod transcript;

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams"],
    inline: "
        package harvest:claude-steps@0.1.0;

        /// An agent session of the Claude Code CLI in a sandbox.
        world claude {
            import harvest:run/run@0.1.0;
            import harvest:streams/streams@0.1.0;
            use harvest:sandbox/types@0.1.0.{sandbox, secret};

            /// What became of a prompt.
            record session {
                /// The agent's last words.
                %result: string,
                /// Names the conversation; pass it as `resume` to go on with it.
                session-id: string,
                /// Turns of the model.
                turns: u32,
                /// Dollars at list price, as the CLI counts them.
                cost-usd: f64,
                /// Tokens read, cached ones included.
                input-tokens: u64,
                /// Tokens written.
                output-tokens: u64,
                /// Whether the repository at `cwd` now differs from the cloned commit.
                changed: bool,
                /// A line fit for a commit message.
                summary: string,
            }

            /// Why a prompt failed. The text is one sentence for people.
            variant error {
                denied(string), not-found(string), invalid(string), conflict(string), network(string),
                unavailable(string), rate-limited(string), too-large(string), quota(string), timed-out(string),
                sandbox-lost(string), other(string),
                /// The model declined.
                refused(string),
                /// A tool was denied to the agent: it did not do what was asked.
                tool-denied(string),
                /// The model API failed.
                api-error(string),
                /// A credential is missing or was refused.
                auth-error(string),
                /// The budget of the session is used up.
                budget-exceeded(string),
                /// The session took more turns than it may.
                max-turns(string),
                /// The session was interrupted.
                interrupted(string),
                /// The CLI ended without saying how.
                crashed(string),
                /// The CLI or a server that it needs did not start.
                startup-error(string),
            }

            /// Gives one prompt to Claude Code in the sandbox and follows it to its result.
            ///
            /// The model API is reached through a gateway that adds the credential outside: the agent never holds it.
            export run: func(
                box: borrow<sandbox>,
                anthropic-api-key: option<borrow<secret>>,
                claude-code-oauth-token: option<borrow<secret>>,
                github-token: option<borrow<secret>>,
                gemini-api-key: option<borrow<secret>>,
                sentry-access-token: option<borrow<secret>>,
                linear-api-key: option<borrow<secret>>,
                cwd: string,
                prompt: string,
                model: option<string>,
                max-turns: option<u32>,
                max-budget-usd: option<f64>,
                mcp: option<list<string>>,
                append-system-prompt: option<string>,
                resume: option<string>,
            ) -> result<session, error>;
        }
    ",
    world: "harvest:claude-steps/claude",
    generate_all,
});

struct Steps;

export!(Steps);
