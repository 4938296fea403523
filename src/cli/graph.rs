//! `harvest graph`: a workflow or a run as a picture.

use super::{Failure, Outcome, Talk, run_id};
use crate::app::App;
use crate::id::StepId;
use crate::run::{Item, Run};
use crate::workflow::diagnostic::Severity;
use crate::workflow::graph::{Glyphs, Graph, Standing, ascii, dot, mermaid, svg};
use std::io::Write;
use std::path::Path;

/// Of what, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A workflow file, or the id of a run.
    #[arg(value_name = "FILE|RUN")]
    of: String,
    /// How it is drawn.
    #[arg(long, value_enum, default_value_t = Format::Ascii)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a terminal.
    Ascii,
    /// Text that Markdown pages draw.
    Mermaid,
    /// Text for Graphviz.
    Dot,
    /// An image.
    Svg,
}

pub(super) async fn graph(app: &App, arguments: &Arguments, talk: Talk) -> Outcome {
    let Some(graph) = graph_of(app, &arguments.of, talk).await? else { return Ok(2) };
    let picture = match arguments.format {
        Format::Ascii => ascii(&graph, glyphs()),
        Format::Mermaid => mermaid(&graph),
        Format::Dot => dot(&graph),
        Format::Svg => svg(&graph),
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(picture.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|_| Failure { exit_code: 0, message: String::new() })?;
    Ok(0)
}

/// The graph of a file, or of a run where there is no such file. `None` where the file has mistakes, which are told.
async fn graph_of(app: &App, of: &str, talk: Talk) -> Result<Option<Graph>, Failure> {
    let file = Path::new(of);
    if file.exists() {
        let (_, checked) = app.check_file(file)?;
        for diagnostic in checked.diagnostics.iter().filter(|found| found.severity() == Severity::Error) {
            eprintln!("{}", diagnostic.render(talk.color));
        }
        return Ok(checked.workflow.as_ref().map(Graph::of_file));
    }
    let id = run_id(of).map_err(|_| {
        Failure::not_found(format!(
            "there is no file `{of}`, and no run has such an id; `harvest runs` lists them"
        ))
    })?;
    let (run, ..) = app.engine().replay(&id).await?;
    let title = format!("{}, run {id}, {}", run.workflow().name, run.state_word());
    Ok(Some(Graph::of_run(title, run.workflow(), |step| standing(&run, step))))
}

/// Where a step stands: for a loop with its items, for a step of a loop as all of its items have it.
fn standing(run: &Run, step: &StepId) -> Standing {
    if let Some(state) = run.step(step) {
        let word = state.phase.as_str();
        return match run.items(step) {
            Some(items) => {
                let over = items.iter().filter(|item| is_over(item)).count();
                Standing::each(word, over, items.len())
            }
            None => Standing::step(word),
        };
    }
    let items = run.loop_around(step).and_then(|around| run.items(around)).unwrap_or_default();
    // What an item that is over has left undone will not be done.
    let told = |item: &'_ &Item| {
        !is_over(item) || item.steps.get(step).is_some_and(|state| state.phase.is_settled())
    };
    let state = |item: &Item| item.steps.get(step).map_or("pending", |state| state.phase.as_str());
    Standing::of_items(items.iter().filter(told).map(state))
}

fn is_over(item: &Item) -> bool {
    !["pending", "running"].contains(&item.state())
}

/// Box drawing where the locale can show it.
fn glyphs() -> Glyphs {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") { Glyphs::Boxes } else { Glyphs::Plain }
}
