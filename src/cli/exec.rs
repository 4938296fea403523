//! `harvest exec`: one command in a fresh sandbox.

use super::{Failure, Outcome, print_json};
use crate::app::App;
use crate::capability::sandbox::{
    Chunk, ExecSpec, ExitStatus, Network, Process, SandboxProvider, SandboxSpec,
};
use crate::id::RunId;
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// What to run, and in what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Image of the sandbox; `host` is this machine's own userland, read-only.
    #[arg(long, default_value = "host", value_name = "IMAGE")]
    image: String,
    /// Longest time, as in `30s` or `5m`; the command and everything it started are killed after it.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// A variable of the command's environment.
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// What it may reach: `none`, `host`, or domains separated by commas.
    #[arg(long, default_value = "none", value_name = "none|host|DOMAINS", value_parser = network)]
    network: Network,
    /// What makes the sandbox: `local`, `gvisor`, `docker` or `modal`.
    #[arg(long, default_value = "local", value_name = "NAME")]
    provider: String,
    /// One JSON object a line, the last of them the outcome.
    #[arg(long)]
    json: bool,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How a command ended.
pub(super) enum End {
    Exited(ExitStatus),
    TimedOut,
    Interrupted,
}

pub(super) async fn exec(app: &App, arguments: Arguments) -> Outcome {
    let spec = SandboxSpec {
        id: format!("exec-{}", RunId::generate()),
        image: arguments.image.clone(),
        network: arguments.network.clone(),
        ..SandboxSpec::default()
    };
    let provider = app.tiers().get(&arguments.provider).await?;
    let id = spec.id.clone();
    let outcome = in_sandbox(provider.as_ref(), spec, &arguments).await;
    provider.remove(&id).await?;
    match outcome {
        Ok(end) => close(&end, arguments.timeout, arguments.json),
        Err(failure) if arguments.json => {
            print_json(&json!({ "outcome": "failed", "message": failure.message }))?;
            Ok(failure.exit_code)
        }
        Err(failure) => Err(failure),
    }
}

/// Says how a command ended.
pub(super) fn close(end: &End, limit: Option<Duration>, as_json: bool) -> Outcome {
    let (json, code) = match end {
        End::Exited(status) => (json!({ "outcome": "exited", "exit_code": status.code() }), status.code()),
        End::TimedOut => (json!({ "outcome": "timed-out" }), 6),
        End::Interrupted => (json!({ "outcome": "failed", "message": "interrupted" }), 130),
    };
    if as_json {
        print_json(&json)?;
    } else if let (End::TimedOut, Some(limit)) = (end, limit) {
        eprintln!("error: timed out after {:?}; everything it started was killed", limit);
    }
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}

async fn in_sandbox(
    provider: &dyn SandboxProvider,
    spec: SandboxSpec,
    arguments: &Arguments,
) -> Result<End, Failure> {
    let command = ExecSpec {
        command: arguments.command.clone(),
        env: arguments.env.iter().cloned().collect(),
        ..ExecSpec::default()
    };
    run_in(provider, spec, command, arguments.timeout, arguments.json).await
}

/// Runs one command in a sandbox, shows what it prints, and ends the sandbox with it. Its files stay.
pub(super) async fn run_in(
    provider: &dyn SandboxProvider,
    spec: SandboxSpec,
    command: ExecSpec,
    limit: Option<Duration>,
    json: bool,
) -> Result<End, Failure> {
    let sandbox = provider.open(spec).await?;
    let mut process = sandbox.exec(command).await?;
    let limit = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = copy(process.as_mut(), json) => End::Exited(end?),
        () = limit => End::TimedOut,
        _ = tokio::signal::ctrl_c() => End::Interrupted,
    };
    process.kill().await?;
    sandbox.terminate().await?;
    Ok(end)
}

async fn copy(process: &mut dyn Process, json: bool) -> Result<ExitStatus, Failure> {
    while let Some(chunk) = process.next().await? {
        let (stream, bytes) = match &chunk {
            Chunk::Stdout(bytes) => ("stdout", bytes),
            Chunk::Stderr(bytes) => ("stderr", bytes),
        };
        if json {
            print_json(&json!({ "stream": stream, "text": String::from_utf8_lossy(bytes) }))?;
            continue;
        }
        // A reader that went away is no reason to stop the command: it may be run for its effects.
        let _ = match stream {
            "stdout" => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
            _ => std::io::stderr().write_all(bytes),
        };
    }
    Ok(process.wait().await?)
}

/// Reads a time as people write it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let help = "write a number with a unit, as in 30s, 5m or 1h 30m";
    let span: jiff::SignedDuration = text.parse().map_err(|_| help.to_owned())?;
    Duration::try_from(span).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| help.to_owned())
}

/// Reads `KEY=VALUE`.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("write it as {}=VALUE", text.trim_end_matches('='))),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a clap value parser")]
fn network(text: &str) -> Result<Network, String> {
    Ok(match text {
        "none" => Network::None,
        "host" => Network::Host,
        domains => Network::Allow(domains.split(',').map(|domain| domain.trim().to_owned()).collect()),
    })
}
