//! Files with one mistake each, and the one diagnostic that each gets.

mod approve;
mod cache;
mod components;
mod expression_syntax;
mod expression_types;
mod expressions;
mod for_each;
mod grammar;
mod groups;
mod loop_scope;
mod once;
mod order;
mod sandboxes;
mod schedules;
mod sub_workflow;
mod triggers;
mod warnings;
mod webhooks;
mod yaml;

/// The one diagnostic of a file. Its first two lines, which every file has, are put before `rest`.
fn bad(rest: &str) -> String {
    let text = format!("harvest: 1\nname: w\n{}", rest.trim_start_matches('\n'));
    let diagnostics = super::checked(&text).diagnostics;
    let shown = super::rendered(&text);
    assert_eq!(diagnostics.len(), 1, "{shown}");
    shown
}
