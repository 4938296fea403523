//! `harvest doctor`: tries what harvest needs from this machine.

use super::{Outcome, print_json, print_line};
use crate::app::doctor::{probes, probes_of_claude, probes_of_modal};
use crate::config::Home;

/// What to try.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("remote").multiple(true))]
pub(super) struct Arguments {
    /// Try Claude Code too: in a sandbox of the image `agent`, against an API of our own that refuses every request.
    #[arg(long, group = "remote")]
    claude: bool,
    /// Try Modal too: whose credentials there are, and whether its servers take them.
    #[arg(long, group = "remote")]
    modal: bool,
    /// With --claude: give the real model API one short prompt, which costs a cent or so. With --modal: make a sandbox, an
    /// image and a snapshot there.
    #[arg(long, requires = "remote")]
    live: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(home: &Home, arguments: &Arguments) -> Outcome {
    let mut probes = probes(home).await;
    if arguments.claude {
        probes.extend(probes_of_claude(home, arguments.live).await);
    }
    if arguments.modal {
        probes.extend(probes_of_modal(home, arguments.live).await);
    }
    if arguments.json {
        print_json(&probes)?;
    } else {
        for probe in &probes {
            let state = match (probe.ok, probe.optional, &probe.remedy) {
                (false, false, _) => "FAIL",
                (false, true, _) => "none",
                (true, _, Some(_)) => "note",
                (true, _, None) => "ok",
            };
            print_line(&format!("{state:<4}  {:<24} {}", probe.name, probe.detail))?;
            if let Some(remedy) = &probe.remedy {
                print_line(&format!("      -> {remedy}"))?;
            }
        }
    }
    Ok(if probes.iter().all(|probe| probe.ok || probe.optional) { 0 } else { 4 })
}
