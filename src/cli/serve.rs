//! `harvest serve`: drives all runs of a home, those that begin later and those that a killed process left too, until it
//! is told to stop.

use super::dispatched::Report;
use super::run::Interrupts;
use super::{Failure, Outcome, Talk};
use crate::app::App;
use crate::engine::dispatcher::Scope;
use crate::server;
use std::net::SocketAddr;

/// Where to listen.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Address for HTTP. There is no authentication: keep it on loopback, or behind something that has one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8484")]
    listen: SocketAddr,
}

pub(super) async fn serve(app: App, arguments: &Arguments, talk: Talk) -> Outcome {
    let _serving = app.begin_serving()?.ok_or_else(|| Failure {
        exit_code: 4,
        message: format!("another `harvest serve` works on {} already", app.home().path().display()),
    })?;
    super::dispatched::make_room();
    if let Err(error) = app.prune_sandboxes().await {
        tracing::warn!("files of ended runs were not removed: {error}");
    }
    let listener = tokio::net::TcpListener::bind(arguments.listen).await.map_err(|error| Failure {
        exit_code: 4,
        message: format!(
            "cannot listen on {}: {error}; choose another with `--listen ADDR`",
            arguments.listen
        ),
    })?;
    let address = listener.local_addr().unwrap_or(arguments.listen);
    super::print_line(&format!("http://{address}"))?;
    let mut interrupts = Interrupts::listen();
    let work = async {
        let mut dispatcher = app.dispatcher(Scope::Everything);
        let mut report = Report::new(&app, false, talk);
        loop {
            match dispatcher.next().await {
                Ok(Some(news)) => report.show(news).await?,
                Ok(None) => return Ok::<_, Failure>(()),
                // The dispatcher asks again by itself; what is at work goes on meanwhile.
                Err(error) => tracing::error!("what is unfinished cannot be read: {error}"),
            }
        }
    };
    tokio::select! {
        worked = work => worked?,
        served = server::serve(listener, &app) => served.map_err(|error| Failure {
            exit_code: 4,
            message: format!("the HTTP server ended: {error}"),
        })?,
        signal = interrupts.next() => {
            if !talk.quiet {
                eprintln!("{signal}: runs stay as they are; the next `harvest serve`, or `harvest resume`, carries them on");
            }
        }
    }
    Ok(0)
}
