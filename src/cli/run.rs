//! `harvest run`: starts a run, shows it live, and exits as it ended.

use super::follow::{Follower, News};
use super::progress::Progress;
use super::questions::Questions;
use super::{Failure, Outcome, Talk, print_json, print_line};
use crate::app::{App, AppError, Driven, Serving, StartRequest};
use crate::engine::Ended;
use crate::run::{Event, Verdict};
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What to run, with what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The workflow file.
    file: PathBuf,
    /// An input; the value is read by its type: objects and lists as JSON or `-i author.name=X`, `@FILE` reads a file.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// A JSON file with inputs by name; `-i` goes before it.
    #[arg(long, value_name = "FILE.json")]
    inputs: Option<PathBuf>,
    /// What makes sandboxes, images and volumes, for as long as the run lives: `local`, `gvisor`,
    /// `docker` or `modal`.
    #[arg(long, default_value = "local", value_name = "NAME")]
    provider: String,
    /// Answers that stand in for steps, by step: `clone: { outputs: { ... } }`, `push: { error: { kind: network } }`.
    #[arg(long, value_name = "FILE")]
    mock: Option<PathBuf>,
    /// A fault that a step is to meet: crash, crash-after, error[:KIND], slow[:TIME] or lost, at attempt N (1 without).
    #[arg(long, value_name = "STEP=FAULT@N")]
    inject: Vec<String>,
    /// One JSON object a line: every event of the run.
    #[arg(long)]
    json: bool,
    /// Leave the run to the `harvest serve` of this home, else to a process in the background, and print only its id.
    #[arg(long)]
    detach: bool,
}

/// Bytes of an input read from a file.
const INPUT_FILE_MAX: u64 = 4 << 20;

pub(super) async fn run(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let request = StartRequest {
        file: arguments.file.clone(),
        text: None,
        inputs: arguments.input.iter().map(|input| read_input(input)).collect::<Result<_, _>>()?,
        json: arguments.inputs.as_deref().map(read_json).transpose()?,
        mocks: arguments.mock.clone(),
        inject: arguments.inject.clone(),
        trigger: "cli".into(),
        provider: arguments.provider.clone(),
    };
    let prepared = app.prepare(&request).await.map_err(|error| refused(error, talk))?;
    if arguments.detach {
        let driven = app.begin(prepared).await?;
        let run = driven.run().clone();
        // Let go of the lease first, so that the background process can take it.
        drop(driven);
        // Of the journal as well: with sled, one process at a time has it.
        let home = app.home().clone();
        drop(app);
        if !Serving::is_served(&home) {
            super::background::start(&home)?;
        }
        print_line(run.as_str())?;
        return Ok(0);
    }
    let driven = app.begin(prepared).await?;
    watch(&app, driven, arguments.json, talk).await
}

/// Says why a run cannot begin. Diagnostics are many lines and already say what they are.
pub(super) fn refused(error: AppError, talk: Talk) -> Failure {
    if let Some(diagnostics) = error.diagnostics(talk.color) {
        eprint!("{diagnostics}");
        return Failure { exit_code: error.exit_code(), message: String::new() };
    }
    Failure::from(error)
}

/// Drives a run to its end while showing it. The first interrupt cancels it, the second leaves it to `harvest resume`.
pub(super) async fn watch(app: &App, driven: Driven, json: bool, talk: Talk) -> Outcome {
    let run = driven.run().clone();
    let mut progress = Progress::new(run.clone(), talk, json);
    progress.begin();
    let mut follower = Follower::new(app, run.clone(), true, !json);
    let mut driving = std::pin::pin!(driven.finish());
    let mut ended: Option<Ended> = None;
    let mut interrupts = Interrupts::listen();
    let mut interrupted = false;
    let mut questions = Questions::new(talk.terminal && !talk.quiet && !json);
    loop {
        tokio::select! {
            biased;
            signal = interrupts.next() => {
                if std::mem::replace(&mut interrupted, true) {
                    progress.end();
                    return Err(Failure { exit_code: 130, message: format!("left run {run} as it is; `harvest resume` carries it on") });
                }
                app.engine().cancel(&run, Some(format!("{signal} received"))).await?;
            }
            (at, approved) = questions.answer() => {
                app.engine().answer(&run, &at, approved, None, super::approve::who()).await?;
                questions.close(&at);
            }
            news = follower.next() => {
                let news = news?;
                if news.is_empty() {
                    break;
                }
                for item in news {
                    match item {
                        News::Event(seq, at_ms, event) if json => print_json(&super::events::as_json(&run, seq, at_ms, &event))?,
                        News::Event(_, at_ms, event) => {
                            progress.event(at_ms, &event);
                            match &*event {
                                Event::ApprovalRequested { at, .. } => {
                                    if let Some(hint) = questions.ask(at) {
                                        progress.say(&hint);
                                    }
                                }
                                Event::ApprovalGiven { at, .. } => questions.close(at),
                                Event::RunUpgraded(upgrade) => upgrade
                                    .steps
                                    .iter()
                                    .filter(|fate| fate.verdict != Verdict::Keep)
                                    .for_each(|fate| questions.close(&fate.at)),
                                _ => {}
                            }
                        }
                        News::Said(_, entry) => progress.said(&entry),
                    }
                }
            }
            result = &mut driving, if ended.is_none() => match result {
                Ok(result) => ended = Some(result),
                Err(error) => {
                    progress.end();
                    return Err(error.into());
                }
            },
        }
    }
    let ended = match ended {
        Some(ended) => ended,
        None => driving.await?,
    };
    progress.end();
    if !json {
        for (name, value) in &ended.outputs {
            print_line(&format!("{name}: {}", super::progress::plain(value)))?;
        }
        progress.closing(&run, &ended, &app.fetch_lines(&run).await?);
    }
    app.settle(&run).await;
    app.retain(&run).await;
    Ok(ended.exit_code)
}

/// SIGINT and SIGTERM, listened for from one place on, so that none between two waits is missed.
pub(super) struct Interrupts(Option<(Signal, Signal)>);

impl Interrupts {
    pub(super) fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        Self(listen(SignalKind::interrupt()).zip(listen(SignalKind::terminate())))
    }

    /// Waits for the next one and says which it was.
    pub(super) async fn next(&mut self) -> &'static str {
        let Some((int, term)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = int.recv() => "SIGINT",
            _ = term.recv() => "SIGTERM",
        }
    }
}

pub(super) fn read_input(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("`-i {text}` has no value: write `-i {text}=VALUE`")))?;
    let value = match value.strip_prefix('@') {
        Some(path) => read_text(path.as_ref())?,
        None => value.to_owned(),
    };
    Ok((name.to_owned(), value))
}

fn read_json(path: &std::path::Path) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{}: not a JSON object of inputs by name: {error}", path.display()))
    })
}

/// Reads a file that an input or a prompt is in.
pub(super) fn read_text(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read;
    let failed = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(INPUT_FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > INPUT_FILE_MAX {
        return Err(Failure::usage(format!(
            "{} is larger than {} MiB",
            path.display(),
            INPUT_FILE_MAX >> 20
        )));
    }
    Ok(text)
}
