//! The command line: one file per subcommand. Data goes to stdout, talk to stderr. Nothing here decides anything about
//! a run; it asks the app and shows what it says.

mod approve;
mod background;
mod cancel;
mod check;
mod dispatched;
mod doctor;
mod events;
mod exec;
mod explain;
mod follow;
mod gc;
mod graph;
mod image;
mod journal;
mod lines;
mod logs;
mod lsp;
mod memory;
mod plan;
mod progress;
mod questions;
mod repo;
mod rerun;
mod resume;
mod retry;
mod run;
mod runs;
mod schema;
mod serve;
mod session;
mod show;
mod upgrade;
mod volume;

use crate::app::{App, AppError};
use crate::config::Home;
use crate::id::RunId;
use clap::{Parser, Subcommand, ValueEnum};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// A WebAssembly-hosted workflow engine for coding agents.
#[derive(Debug, Parser)]
#[command(name = "harvest", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Directory that holds journal, images, volumes and caches.
    #[arg(long, global = true, env = "HARVEST_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what is wrong.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 the run failed, 2 usage or an invalid workflow or input, 3 configuration or credentials, \
4 a provider or capability is unavailable or the sandbox was lost, 5 not found, 6 timed out, 7 rejected at an approval, 70 a bug in harvest, \
130 cancelled.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a workflow file.
    Run(run::Arguments),
    /// Check workflow files and print everything that is wrong with them.
    Check(check::Arguments),
    /// Say what a diagnostic means, with a bad and a good example.
    Explain(explain::Arguments),
    /// Write a JSON Schema by which editors complete and check workflow files.
    Schema(schema::Arguments),
    /// Draw a workflow, or a run with where each of its steps stands.
    Graph(graph::Arguments),
    /// List runs, newest first.
    Runs(runs::Arguments),
    /// Show one run: its steps, attempts, outputs, and why it failed.
    Show(show::Arguments),
    /// Print what the steps of a run said.
    Logs(logs::Arguments),
    /// Print the journal of a run.
    Events(events::Arguments),
    /// Carry on every interrupted run of this home.
    Resume(resume::Arguments),
    /// Drive all runs of this home, those that begin later too, until told to stop.
    Serve(serve::Arguments),
    /// Ask a run to stop.
    Cancel(cancel::Arguments),
    /// Say yes to a step that waits for approval.
    Approve(approve::Arguments),
    /// Say no to a step that waits for approval.
    Reject(approve::Arguments),
    /// Go on with a run that failed: what succeeded stays, the rest is done again.
    Retry(retry::Arguments),
    /// Start a new run with the workflow and inputs of an earlier one, some inputs replaced.
    Rerun(rerun::Arguments),
    /// Move a run to a new version of its file: keep, re-run or refuse, step by step.
    Upgrade(upgrade::Arguments),
    /// Run one command in a fresh sandbox.
    Exec(exec::Arguments),
    /// Work with an agent that goes on from prompt to prompt, in a sandbox that keeps its files.
    #[command(subcommand)]
    Session(session::Command),
    /// Build, import, pull, export, list and remove images.
    #[command(subcommand)]
    Image(image::Command),
    /// Show, export and import what agents remember of a repository.
    Memory(memory::Arguments),
    /// Keep the registry of repositories that workflows work on.
    #[command(subcommand)]
    Repo(repo::Command),
    /// Check, move, copy and shrink the journal of this home.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Look into volumes and change them.
    Volume(volume::Arguments),
    /// Remove runs beyond the limits of this home and files that belong to no run, and list them.
    Gc(gc::Arguments),
    /// Serve editors of workflow files: the Language Server Protocol on stdin and stdout.
    Lsp(lsp::Arguments),
    /// Try everything harvest needs from this machine; name one cause and one remedy for what is missing.
    Doctor(doctor::Arguments),
}

/// Why a command did not do what it was asked, with the exit code that says so.
#[derive(Debug)]
struct Failure {
    exit_code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: 2, message: message.into() }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self { exit_code: 5, message: message.into() }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self { exit_code: error.exit_code(), message: error.to_string() }
    }
}

impl From<crate::engine::EngineError> for Failure {
    fn from(error: crate::engine::EngineError) -> Self {
        AppError::from(error).into()
    }
}

impl From<crate::journal::JournalError> for Failure {
    fn from(error: crate::journal::JournalError) -> Self {
        AppError::from(error).into()
    }
}

impl From<crate::capability::CapabilityError> for Failure {
    fn from(error: crate::capability::CapabilityError) -> Self {
        AppError::from(error).into()
    }
}

type Outcome = Result<u8, Failure>;

/// What every subcommand may need to know of how it was called.
#[derive(Clone, Copy, Debug)]
struct Talk {
    color: bool,
    quiet: bool,
    verbose: u8,
    terminal: bool,
}

/// Reads the process's arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let terminal = std::io::stderr().is_terminal();
    let talk = Talk {
        color: match arguments.color {
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            Color::Always => true,
            Color::Never => false,
        },
        quiet: arguments.quiet,
        verbose: arguments.verbose,
        terminal,
    };
    listen_to_tracing(talk);
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(70);
        }
    };
    let outcome = runtime.block_on(dispatch(arguments, talk));
    // Blocking work that is still under way (a slow name look-up, say) must not hold up the exit.
    runtime.shutdown_background();
    let exit_code = outcome.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            let _ = writeln!(std::io::stderr(), "error: {}", failure.message);
        }
        failure.exit_code
    });
    ExitCode::from(exit_code)
}

/// Takes as many open files as there may be: each command in a sandbox holds four, and the usual limit of 1,024 is there for
/// programs that wait with select(2), of which this is none.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Within the hard limit the kernel refuses nobody; `harvest doctor` tells where that one is low.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

async fn dispatch(arguments: Arguments, talk: Talk) -> Outcome {
    let home = || Home::open(arguments.home.clone()).map_err(|message| Failure { exit_code: 3, message });
    let open = || App::open(home()?).map_err(Failure::from);
    match arguments.command {
        Command::Run(arguments) => run::run(open()?, arguments, talk).await,
        Command::Check(arguments) => check::check(&open()?, &arguments, talk).await,
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Schema(arguments) => schema::schema(&open()?, &arguments, talk),
        Command::Graph(arguments) => graph::graph(&open()?, &arguments, talk).await,
        Command::Runs(arguments) => runs::runs(&open()?, &arguments).await,
        Command::Show(arguments) => show::show(&open()?, &arguments).await,
        Command::Logs(arguments) => logs::logs(&open()?, &arguments).await,
        Command::Events(arguments) => events::events(&open()?, &arguments).await,
        Command::Resume(arguments) => resume::resume(open()?, &arguments, talk).await,
        Command::Serve(arguments) => serve::serve(open()?, &arguments, talk).await,
        Command::Cancel(arguments) => cancel::cancel(open()?, arguments, talk).await,
        Command::Approve(arguments) => approve::answer(&open()?, arguments, true, talk).await,
        Command::Reject(arguments) => approve::answer(&open()?, arguments, false, talk).await,
        Command::Retry(arguments) => retry::retry(open()?, arguments, talk).await,
        Command::Rerun(arguments) => rerun::rerun(open()?, arguments, talk).await,
        Command::Upgrade(arguments) => upgrade::upgrade(open()?, arguments, talk).await,
        Command::Exec(arguments) => exec::exec(&open()?, arguments).await,
        Command::Session(command) => session::session(open()?, command, talk).await,
        Command::Image(command) => image::image(&open()?, command, talk).await,
        Command::Memory(arguments) => memory::memory(&open()?, arguments).await,
        Command::Repo(command) => repo::repo(&open()?, command).await,
        Command::Journal(command) => journal::journal(&home()?, command, talk).await,
        Command::Volume(arguments) => volume::volume(&open()?, arguments).await,
        Command::Gc(arguments) => gc::gc(&open()?, &arguments).await,
        Command::Lsp(arguments) => lsp::lsp(&home()?, &arguments),
        Command::Doctor(arguments) => doctor::doctor(&home()?, &arguments).await,
    }
}

/// Reads a run id as typed. Whether there is such a run is for the journal to say.
fn run_id(text: &str) -> Result<RunId, Failure> {
    RunId::parse(text).ok_or_else(|| {
        Failure::not_found(format!(
            "there is no run `{text}`: a run id has 26 letters and digits; `harvest runs` lists them"
        ))
    })
}

/// Prints a line of data. A reader that went away ends the program quietly, as pipes want it.
fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    written.map_err(|_| Failure { exit_code: 0, message: String::new() })
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure { exit_code: 70, message: error.to_string() })?;
    print_line(&text)
}

fn timestamp(ms: i64) -> serde_json::Value {
    jiff::Timestamp::from_millisecond(ms).map_or(serde_json::Value::Null, |at| at.to_string().into())
}

fn listen_to_tracing(talk: Talk) {
    use tracing_subscriber::EnvFilter;
    let level = match talk.verbose {
        0 => "warn",
        1 => "harvest=info,warn",
        2 => "harvest=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("HARVEST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(talk.color)
        .init();
}
