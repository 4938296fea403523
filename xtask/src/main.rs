//! Build, demo and test commands of the project: `cargo xtask <command>`. One file a command; never part of harvest.

mod build;
mod debian;
mod demo;
mod fixture;
mod live_modal;
mod program;
mod scripted_api;
mod setup;
mod soak;
mod test;
mod wasm_target;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  setup                 bring in what a fresh machine lacks: the wasm32-wasip2 target
  build                 the release binary, target/release/harvest, and the agent's CLI, target/agent-cli
  demo                  an agent session from end to end in a sample repository
  test                  formatting, lints and every test
  fixture NAME [BINARY] a journal with runs of every kind in tests/fixtures/journals/NAME: one is made at each release
  soak [CASES]          the random tests of run core and checker with that many cases, 1,000,000 where none are named
  soak kills [N]        kill -9 of the real binary under load, N times and at every record of a run, 200 where none are named
  soak sandboxes [N]    kill -9 of hosts, launchers and the like of sandboxes, in N rounds, 500 where none are named
  live-modal [session]  harvest on Modal itself, for a few cents: doctor, a small workflow and, where it is asked for, an agent session
  scripted-api NAME DIR a Messages API on loopback that follows a scenario, until standard input ends";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["setup"] => setup::run(),
        ["build"] => build::run().map(drop),
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["fixture", name] => fixture::run(name, None),
        ["fixture", name, binary] => fixture::run(name, Some(binary)),
        ["soak", ref words @ ..] => soak::run(words),
        ["live-modal"] => live_modal::run(false),
        ["live-modal", "session"] => live_modal::run(true),
        ["scripted-api", name, directory] => scripted_api::run(name, directory),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
