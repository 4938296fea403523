//! `harvest:streams`: what a step says. Everything passes through [`super::output`], artifacts through its mask.

use super::bindings::harvest::streams::streams::{Host, Level};
use super::instance::State;
use crate::capability::stream::Content;
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of one event as JSON.
const EVENT_LIMIT: usize = 256 << 10;

/// Bytes of one artifact.
const ARTIFACT_LIMIT: usize = 64 << 20;

/// Bytes of one log line or progress message; longer ones are cut.
const LINE_LIMIT: usize = 8 << 10;

/// Files that one run may keep.
const ARTIFACT_COUNT: usize = 1000;

impl Host for State {
    async fn text(&mut self, name: String, text: String) -> wasmtime::Result<()> {
        match is_stream_name(&name) {
            true => self.attempt.output.text(&name, text.as_bytes()),
            false => self.note(&format!("`{name:.40}` is no name for a stream: use [a-z0-9-]{{1,32}}")),
        }
        self.attempt.output.room().await;
        Ok(())
    }

    async fn event(&mut self, name: String, json: String) -> wasmtime::Result<()> {
        match event(&name, &json) {
            Ok(value) => self.attempt.output.entry(&name, Content::Data(value)),
            Err(note) => self.note(&note),
        }
        self.attempt.output.room().await;
        Ok(())
    }

    async fn progress(&mut self, message: String) -> wasmtime::Result<()> {
        self.attempt.output.entry("progress", Content::Text(cut(message)));
        self.attempt.output.room().await;
        Ok(())
    }

    async fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let line = json!({"level": level, "message": cut(message)});
        self.attempt.output.entry("log", Content::Data(line));
        self.attempt.output.room().await;
        Ok(())
    }

    async fn artifact(
        &mut self,
        name: String,
        _media_type: String,
        content: Vec<u8>,
    ) -> wasmtime::Result<Result<String, String>> {
        if !is_artifact_name(&name) {
            return Ok(Err(format!("`{name:.100}` is no name for an artifact: use [A-Za-z0-9._-]{{1,100}}")));
        }
        if content.len() > ARTIFACT_LIMIT {
            return Ok(Err(format!("an artifact has at most {} MiB", ARTIFACT_LIMIT >> 20)));
        }
        let content = self.attempt.output.mask_bytes(&content);
        let directory = self.attempt.context.artifacts.clone();
        let kept = tokio::task::spawn_blocking(move || keep(&directory, &name, &content)).await?;
        Ok(kept
            .map(|path| path.display().to_string())
            .map_err(|error| format!("cannot keep the artifact: {error}")))
    }
}

impl State {
    /// A line about the component's own mistake.
    fn note(&self, message: &str) {
        self.attempt.output.entry("log", Content::Data(json!({"level": "warn", "message": message})));
    }
}

fn event(name: &str, json: &str) -> Result<Value, String> {
    if !is_stream_name(name) {
        return Err(format!("`{name:.40}` is no name for a stream: use [a-z0-9-]{{1,32}}"));
    }
    if json.len() > EVENT_LIMIT {
        return Err(format!("an event of {} bytes on {name} was dropped: at most {EVENT_LIMIT}", json.len()));
    }
    serde_json::from_str(json)
        .map_err(|error| format!("an event on {name} was dropped, since it is no JSON: {error}"))
}

fn is_stream_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_artifact_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(LINE_LIMIT));
    message
}

/// Writes a file whole; a later one of the same name replaces it.
fn keep(directory: &Path, name: &str, content: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(name);
    if !path.exists() && std::fs::read_dir(directory)?.count() >= ARTIFACT_COUNT {
        return Err(std::io::Error::other(format!("a run keeps at most {ARTIFACT_COUNT}")));
    }
    let draft = directory.join(format!(".{}", ulid::Ulid::generate()));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    std::io::Write::write_all(&mut file, content)?;
    std::fs::rename(&draft, &path)?;
    Ok(path)
}
