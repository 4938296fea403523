//! `cargo xtask scripted-api NAME DIR`: a scenario of the scripted API for use by hand.

use scripted_api::{SCENARIOS, Server, scenario};
use std::io::{self, Read};
use std::path::Path;

/// Prints the base URL, serves until standard input ends, then prints what was asked.
pub(crate) fn run(name: &str, directory: &str) -> Result<(), String> {
    let script = scenario(name, Path::new(directory))
        .ok_or_else(|| format!("no scenario {name}: choose one of {}", SCENARIOS.join(", ")))?;
    let server = Server::start(script).map_err(|error| format!("cannot start the scripted API: {error}"))?;
    println!("{}", server.url());
    io::stdin()
        .read_to_end(&mut Vec::new())
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    for request in server.requests() {
        eprintln!("{} {}", request.method, request.path);
    }
    Ok(())
}
