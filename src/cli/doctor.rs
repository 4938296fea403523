//! `harvest doctor`: tries what harvest needs from this machine.

use super::{Outcome, print_json, print_line};
use crate::app::doctor::probes;
use crate::config::Home;

/// What to try.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(home: &Home, arguments: &Arguments) -> Outcome {
    let probes = probes(home).await;
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
