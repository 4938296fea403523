//! The state of one conversation: documents, and what each message does to them or asks of them.

use super::complete::{self, Proposal, Sort};
use super::diagnose;
use super::document::{Document, TEXT_MAX};
use super::target::Target;
use super::{Catalogs, Reply};
use crate::workflow::check::check;
use crate::workflow::types::Catalog;
use lsp_types::notification::{
    DidChangeTextDocument, DidChangeWatchedFiles, DidCloseTextDocument, DidOpenTextDocument,
    DidSaveTextDocument, Initialized, Notification, PublishDiagnostics, ShowMessage,
};
use lsp_types::request::{
    CodeActionRequest, Completion, GotoDefinition, HoverRequest, Initialize, RegisterCapability, Request,
    Shutdown,
};
use lsp_types::{
    CodeActionKind, CodeActionOptions, CodeActionOrCommand, CodeActionParams, CodeActionProviderCapability,
    CompletionItem, CompletionItemKind, CompletionList, CompletionOptions, CompletionParams,
    CompletionTextEdit, DidChangeTextDocumentParams, DidChangeWatchedFilesRegistrationOptions,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DidSaveTextDocumentParams, Documentation,
    FileSystemWatcher, GlobPattern, GotoDefinitionParams, GotoDefinitionResponse, Hover, HoverContents,
    HoverParams, HoverProviderCapability, InitializeResult, Location, MarkupContent, MarkupKind, MessageType,
    OneOf, PositionEncodingKind, PublishDiagnosticsParams, Registration, RegistrationParams, SaveOptions,
    ServerCapabilities, ServerInfo, ShowMessageParams, TextDocumentPositionParams,
    TextDocumentSyncCapability, TextDocumentSyncKind, TextDocumentSyncOptions, TextDocumentSyncSaveOptions,
    TextEdit, Uri,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Documents that are held at once.
const DOCUMENTS_MAX: usize = 256;

/// Characters after which an editor asks what can follow.
const TRIGGERS: [&str; 8] = [".", "?", "/", "#", ":", " ", "{", "["];

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Open,
    ShutDown,
}

/// Why a request has no result.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) message: String,
}

impl Refusal {
    /// The message is no request.
    pub(super) const INVALID_REQUEST: i64 = -32_600;
    /// The message is no JSON.
    pub(super) const PARSE_ERROR: i64 = -32_700;
    const METHOD_NOT_FOUND: i64 = -32_601;
    const INVALID_PARAMS: i64 = -32_602;
    const NOT_INITIALIZED: i64 = -32_002;

    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

type Answer = Result<Value, Refusal>;

/// One conversation.
pub(super) struct Server<'c> {
    catalogs: &'c Catalogs<'c>,
    /// Components by the directory of the files that name them.
    known: HashMap<PathBuf, Rc<dyn Catalog>>,
    documents: BTreeMap<String, Open>,
    stage: Stage,
    /// Whether the editor can be asked to watch files.
    watches: bool,
    /// The exit code, once the editor has said that it is over.
    ended: Option<u8>,
}

struct Open {
    uri: Uri,
    directory: PathBuf,
    document: Document,
}

impl<'c> Server<'c> {
    pub(super) fn new(catalogs: &'c Catalogs<'c>) -> Self {
        Self {
            catalogs,
            known: HashMap::new(),
            documents: BTreeMap::new(),
            stage: Stage::Fresh,
            watches: false,
            ended: None,
        }
    }

    /// The exit code, once the conversation is over.
    pub(super) fn ended(&self) -> Option<u8> {
        self.ended
    }

    /// The exit code where the editor is gone without a word.
    pub(super) fn exit_code(&self) -> u8 {
        u8::from(self.stage != Stage::ShutDown)
    }

    /// Answers a request.
    pub(super) fn request(&mut self, method: &str, params: Value) -> Answer {
        match (self.stage, method) {
            (Stage::Fresh, Initialize::METHOD) => self.initialize(&params),
            (Stage::Fresh, _) => Err(Refusal::new(Refusal::NOT_INITIALIZED, "`initialize` comes first")),
            (Stage::ShutDown, _) => {
                Err(Refusal::new(Refusal::INVALID_REQUEST, "after `shutdown` there is only `exit`"))
            }
            (Stage::Open, Initialize::METHOD) => {
                Err(Refusal::new(Refusal::INVALID_REQUEST, "`initialize` comes once"))
            }
            (Stage::Open, Shutdown::METHOD) => {
                self.stage = Stage::ShutDown;
                Ok(Value::Null)
            }
            (Stage::Open, Completion::METHOD) => self.completion(read(params)?),
            (Stage::Open, HoverRequest::METHOD) => self.hover(read(params)?),
            (Stage::Open, GotoDefinition::METHOD) => self.definition(read(params)?),
            (Stage::Open, CodeActionRequest::METHOD) => self.actions(read(params)?),
            (Stage::Open, other) => {
                Err(Refusal::new(Refusal::METHOD_NOT_FOUND, format!("there is no method `{other}` here")))
            }
        }
    }

    /// Takes note of something; what there is to say about it goes to `reply`.
    pub(super) fn notification(&mut self, method: &str, params: Value, reply: &mut Reply<'_>) {
        let taken = match (self.stage, method) {
            (_, "exit") => {
                self.ended = Some(self.exit_code());
                Ok(())
            }
            (Stage::Open, Initialized::METHOD) => {
                self.watch(reply);
                Ok(())
            }
            (Stage::Open, DidOpenTextDocument::METHOD) => read(params).map(|params| self.open(params, reply)),
            (Stage::Open, DidChangeTextDocument::METHOD) => {
                read(params).map(|params| self.change(params, reply))
            }
            (Stage::Open, DidCloseTextDocument::METHOD) => {
                read(params).map(|params| self.close(&params, reply))
            }
            (Stage::Open, DidSaveTextDocument::METHOD) => {
                read(params).map(|_: DidSaveTextDocumentParams| self.look_again())
            }
            (Stage::Open, DidChangeWatchedFiles::METHOD) => {
                self.look_again();
                Ok(())
            }
            // Requests are answered in order and at once, so there is nothing to cancel; the rest is not for us.
            _ => Ok(()),
        };
        if let Err(refusal) = taken {
            tracing::warn!("{method}: {}", refusal.message);
        }
    }

    /// Checks one document and publishes what is wrong with it, where one changed since. Returns false where none did.
    pub(super) fn check_one(&mut self, reply: &mut Reply<'_>) -> bool {
        let due = self.documents.iter().find(|(_, open)| !open.document.published);
        let Some(key) = due.map(|(key, _)| key.clone()) else { return false };
        self.check(&key);
        let Some(open) = self.documents.get_mut(&key) else { return false };
        open.document.published = true;
        let found = open.document.diagnostics.iter().flatten();
        let diagnostics = found.map(|found| diagnose::diagnostic(found, &open.document, &open.uri)).collect();
        let params =
            PublishDiagnosticsParams::new(open.uri.clone(), diagnostics, Some(open.document.version));
        reply.notify(PublishDiagnostics::METHOD, &params);
        true
    }

    fn check(&mut self, key: &str) {
        let Some(open) = self.documents.get_mut(key).filter(|open| open.document.diagnostics.is_none())
        else {
            return;
        };
        let catalog = catalog(&mut self.known, self.catalogs, &open.directory);
        let checked = check(&open.document.source.name, open.document.text(), catalog.as_ref());
        open.document.diagnostics = Some(checked.diagnostics);
    }

    fn initialize(&mut self, params: &Value) -> Answer {
        self.stage = Stage::Open;
        // An editor says much about itself, in words that grow with every version of the protocol: only this is asked.
        let watches = params.pointer("/capabilities/workspace/didChangeWatchedFiles/dynamicRegistration");
        self.watches = watches.and_then(Value::as_bool).unwrap_or(false);
        let sync = TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions { include_text: Some(false) })),
            ..TextDocumentSyncOptions::default()
        };
        let capabilities = ServerCapabilities {
            position_encoding: Some(PositionEncodingKind::UTF16),
            text_document_sync: Some(TextDocumentSyncCapability::Options(sync)),
            completion_provider: Some(CompletionOptions {
                trigger_characters: Some(TRIGGERS.map(str::to_owned).to_vec()),
                ..CompletionOptions::default()
            }),
            hover_provider: Some(HoverProviderCapability::Simple(true)),
            definition_provider: Some(OneOf::Left(true)),
            code_action_provider: Some(CodeActionProviderCapability::Options(CodeActionOptions {
                code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
                ..CodeActionOptions::default()
            })),
            ..ServerCapabilities::default()
        };
        let server = ServerInfo { name: "harvest".into(), version: Some(env!("CARGO_PKG_VERSION").into()) };
        Ok(value(&InitializeResult { capabilities, server_info: Some(server) }))
    }

    /// Asks to be told of components that are built anew.
    fn watch(&self, reply: &mut Reply<'_>) {
        if !self.watches {
            return;
        }
        let used = GlobPattern::String("**/*.{wasm,yaml,yml}".into());
        let watchers = vec![FileSystemWatcher { glob_pattern: used, kind: None }];
        let options = DidChangeWatchedFilesRegistrationOptions { watchers };
        let registration = Registration {
            id: "used-files".into(),
            method: DidChangeWatchedFiles::METHOD.into(),
            register_options: Some(value(&options)),
        };
        reply.ask(RegisterCapability::METHOD, &RegistrationParams { registrations: vec![registration] });
    }

    fn open(&mut self, params: DidOpenTextDocumentParams, reply: &mut Reply<'_>) {
        let item = params.text_document;
        let key = item.uri.as_str().to_owned();
        if item.text.len() > TEXT_MAX
            || (self.documents.len() >= DOCUMENTS_MAX && !self.documents.contains_key(&key))
        {
            return refuse(&item.uri, reply);
        }
        let path = path(&item.uri);
        let name = path.as_ref().map_or_else(|| key.clone(), |path| path.display().to_string());
        let directory = path.as_deref().and_then(Path::parent).map(ToOwned::to_owned).unwrap_or_default();
        // What the file names may have been built since another file of its directory was looked at.
        self.known.remove(&directory);
        let document = Document::new(&name, item.version, item.text);
        self.documents.insert(key, Open { uri: item.uri, directory, document });
    }

    fn change(&mut self, params: DidChangeTextDocumentParams, reply: &mut Reply<'_>) {
        let (uri, version) = (params.text_document.uri, params.text_document.version);
        let Some(open) = self.documents.get_mut(uri.as_str()) else { return };
        match open.document.changed(version, params.content_changes) {
            Some(document) => open.document = document,
            None => {
                self.documents.remove(uri.as_str());
                refuse(&uri, reply);
            }
        }
    }

    fn close(&mut self, params: &DidCloseTextDocumentParams, reply: &mut Reply<'_>) {
        if let Some(open) = self.documents.remove(params.text_document.uri.as_str()) {
            reply.notify(
                PublishDiagnostics::METHOD,
                &PublishDiagnosticsParams::new(open.uri, Vec::new(), None),
            );
        }
    }

    /// What files use may have changed on disk: components, and other workflows.
    fn look_again(&mut self) {
        self.known.clear();
        self.documents.values_mut().for_each(|open| open.document.outdate());
    }

    /// The document and the byte that a request is about, with the components that it can name.
    fn at(&mut self, params: &TextDocumentPositionParams) -> Option<(&Open, usize, Rc<dyn Catalog>)> {
        let open = self.documents.get(params.text_document.uri.as_str())?;
        let catalog = catalog(&mut self.known, self.catalogs, &open.directory);
        Some((open, open.document.offset(params.position), catalog))
    }

    fn completion(&mut self, params: CompletionParams) -> Answer {
        let Some((open, at, catalog)) = self.at(&params.text_document_position) else {
            return Ok(Value::Null);
        };
        let (document, names) = (&open.document, open.document.survey(catalog.as_ref()));
        let Some(mut proposals) = complete::propose(document.text(), at, names, catalog.as_ref()) else {
            return Ok(Value::Null);
        };
        // A workflow cannot use itself.
        let own = Path::new(&document.source.name).file_name().map(|name| format!("./{}", name.display()));
        proposals.list.retain(|proposal| own.as_ref() != Some(&proposal.label));
        let range = document.range(&(proposals.start..at));
        let item = |(order, proposal): (usize, Proposal)| CompletionItem {
            kind: Some(match proposal.sort {
                Sort::Key => CompletionItemKind::PROPERTY,
                Sort::Field => CompletionItemKind::FIELD,
                Sort::Function => CompletionItemKind::FUNCTION,
                Sort::Name => CompletionItemKind::VARIABLE,
                Sort::Word => CompletionItemKind::ENUM_MEMBER,
            }),
            label: proposal.label,
            detail: proposal.detail,
            documentation: proposal.doc.map(|doc| Documentation::MarkupContent(markdown(doc))),
            sort_text: Some(format!("{order:04}")),
            text_edit: Some(CompletionTextEdit::Edit(TextEdit::new(range, proposal.insert))),
            ..CompletionItem::default()
        };
        let items = proposals.list.into_iter().enumerate().map(item).collect();
        Ok(value(&CompletionList { is_incomplete: false, items }))
    }

    fn hover(&mut self, params: HoverParams) -> Answer {
        let Some((open, at, catalog)) = self.at(&params.text_document_position_params) else {
            return Ok(Value::Null);
        };
        let document = &open.document;
        let target = Target::find(document.text(), at, document.survey(catalog.as_ref()));
        let hover = target.map(|target| Hover {
            range: Some(document.range(&target.span)),
            contents: HoverContents::Markup(markdown(target.doc)),
        });
        Ok(value(&hover))
    }

    fn definition(&mut self, params: GotoDefinitionParams) -> Answer {
        let Some((open, at, catalog)) = self.at(&params.text_document_position_params) else {
            return Ok(Value::Null);
        };
        let document = &open.document;
        let target = Target::find(document.text(), at, document.survey(catalog.as_ref()));
        let declared = target.and_then(|target| target.declared);
        let place = declared.map(|span| Location::new(open.uri.clone(), document.range(&span)));
        Ok(value(&place.map(GotoDefinitionResponse::Scalar)))
    }

    fn actions(&mut self, params: CodeActionParams) -> Answer {
        let wanted = |only: &Vec<CodeActionKind>| {
            only.iter().any(|kind| kind.as_str().is_empty() || *kind == CodeActionKind::QUICKFIX)
        };
        if !params.context.only.as_ref().is_none_or(wanted) {
            return Ok(json!([]));
        }
        let key = params.text_document.uri.as_str().to_owned();
        self.check(&key);
        let Some(open) = self.documents.get(&key) else { return Ok(json!([])) };
        let actions = diagnose::corrections(&open.document, &open.uri, params.range);
        Ok(value(&actions.into_iter().map(CodeActionOrCommand::CodeAction).collect::<Vec<_>>()))
    }
}

fn catalog(
    known: &mut HashMap<PathBuf, Rc<dyn Catalog>>,
    catalogs: &Catalogs<'_>,
    directory: &Path,
) -> Rc<dyn Catalog> {
    known.entry(directory.to_owned()).or_insert_with(|| catalogs(directory)).clone()
}

fn refuse(uri: &Uri, reply: &mut Reply<'_>) {
    let message = format!(
        "harvest does not look at {}: it holds {DOCUMENTS_MAX} files of at most {} MiB each",
        uri.as_str(),
        TEXT_MAX >> 20
    );
    reply.notify(ShowMessage::METHOD, &ShowMessageParams { typ: MessageType::WARNING, message });
}

/// The file behind `file:///...`, of this machine.
fn path(uri: &Uri) -> Option<PathBuf> {
    let local = uri.scheme().is_some_and(|scheme| scheme.as_str() == "file");
    let path = uri.path().as_estr().decode().into_string().ok()?;
    local.then(|| PathBuf::from(path.into_owned()))
}

fn markdown(value: String) -> MarkupContent {
    MarkupContent { kind: MarkupKind::Markdown, value }
}

fn read<P: DeserializeOwned>(params: Value) -> Result<P, Refusal> {
    serde_json::from_value(params).map_err(|error| Refusal::new(Refusal::INVALID_PARAMS, error.to_string()))
}

/// The protocol's own types are always JSON.
pub(super) fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}
