//! What the checker says, as the protocol says it, and its corrections as actions.

use super::document::Document;
use crate::workflow::code;
use crate::workflow::diagnostic::{Diagnostic, Fix, Severity};
use lsp_types::{
    CodeAction, CodeActionKind, DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag, Location,
    NumberOrString, Range, TextEdit, Uri, WorkspaceEdit,
};
use std::collections::HashMap;

/// A diagnostic with its help below its message.
pub(super) fn diagnostic(found: &Diagnostic, document: &Document, uri: &Uri) -> lsp_types::Diagnostic {
    let label = found.label.as_ref().map(|label| format!("\n{label}"));
    let help = found.help.as_ref().map(|help| format!("\nhelp: {help}"));
    let further = found.labels.iter().map(|label| DiagnosticRelatedInformation {
        location: Location::new(uri.clone(), document.range(&label.span)),
        message: label.message.clone(),
    });
    let further: Vec<_> = further.collect();
    let unused = [code::UNUSED_INPUT, code::UNUSED_SECRET].contains(&found.code);
    lsp_types::Diagnostic {
        range: document.range(&found.span),
        severity: Some(match found.severity() {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
        }),
        code: Some(NumberOrString::String(found.code.id.into())),
        source: Some("harvest".into()),
        message: format!("{}{}{}", found.message, label.unwrap_or_default(), help.unwrap_or_default()),
        related_information: (!further.is_empty()).then_some(further),
        tags: unused.then(|| vec![DiagnosticTag::UNNECESSARY]),
        ..lsp_types::Diagnostic::default()
    }
}

/// The corrections of what the checker found within a range.
pub(super) fn corrections(document: &Document, uri: &Uri, within: Range) -> Vec<CodeAction> {
    let touches = |range: &Range| range.start <= within.end && within.start <= range.end;
    let correction = |found: &Diagnostic| {
        let fix = found.fix.as_ref()?;
        let shown = diagnostic(found, document, uri);
        if !touches(&shown.range) {
            return None;
        }
        let wrong = document.text().get(fix.span.clone()).unwrap_or_default();
        let edit = |fix: &Fix| TextEdit::new(document.range(&fix.span), fix.replacement.clone());
        let edits: Vec<_> = found.fixes().map(edit).collect();
        Some(CodeAction {
            title: format!("Write `{}` instead of `{wrong}`", fix.replacement),
            kind: Some(CodeActionKind::QUICKFIX),
            diagnostics: Some(vec![shown]),
            edit: Some(WorkspaceEdit::new(HashMap::from([(uri.clone(), edits)]))),
            is_preferred: Some(true),
            ..CodeAction::default()
        })
    };
    document.diagnostics.iter().flatten().filter_map(correction).collect()
}
