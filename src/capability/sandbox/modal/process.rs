//! A command in a sandbox of Modal.

use super::super::{Chunk, ExecSpec, ExitStatus, Process};
use super::remote::{PIECE, Remote, SCRIPT_LIMIT};
use super::script;
use super::secret::Given;
use crate::capability::modal::{Key, Output, Source};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

/// Most bytes in one chunk.
const CHUNK: usize = 64 << 10;
/// Chunks between the connection and the reader: what is not read stays with Modal.
const QUEUE: usize = 16;
/// How long after the command's end its daemons may keep the streams open without writing.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes of output held while the caller is busy writing to standard input.
const BACKLOG_LIMIT: usize = 256 << 20;
/// Most bytes of a command with its arguments: Modal's own limit.
const COMMAND_LIMIT: usize = 64 << 10;
/// How long a command may take to be on its way; a new sandbox may still be starting.
const START_LIMIT: Duration = Duration::from_secs(310);
/// Bytes that a shell may say before it says that it starts.
const GREETING_LIMIT: usize = 64 << 10;

/// A running command. Dropping it kills its tree in the background.
pub(super) struct ModalProcess {
    remote: Arc<Remote>,
    key: Key,
    /// Its number inside.
    number: String,
    output: mpsc::Receiver<Result<Chunk>>,
    readers: [AbortHandle; 2],
    backlog: VecDeque<Chunk>,
    /// Where the next byte of standard input goes, `None` once it is closed.
    input: Option<u64>,
    closing: Option<JoinHandle<Result<()>>>,
    waiting: JoinHandle<Result<ExitStatus>>,
    end: Option<Result<ExitStatus>>,
    /// Whether its tree is known to be gone.
    gone: bool,
    /// Whether both streams are at their end.
    read: bool,
    /// Held while it runs.
    _busy: Arc<()>,
}

/// Starts a command; returns once it is known to run. `busy` is held for as long as it does.
pub(super) async fn start(
    remote: &Arc<Remote>,
    spec: ExecSpec,
    workdir: Option<&str>,
    busy: Arc<()>,
) -> Result<ModalProcess> {
    check(&spec.command)?;
    let key = Key::fresh();
    let workdir = spec.workdir.as_deref().or(workdir).unwrap_or_default();
    let stdin = if spec.stdin { "yes" } else { "no" };
    let given = Given::of(&spec)?;
    let head =
        ["sh", "-c", script::START, "harvest", key.as_str(), workdir, stdin, &given.variables, &given.keys];
    let command: Vec<String> =
        head.into_iter().map(str::to_owned).chain(spec.command.iter().cloned()).collect();
    let mut env = spec.env.clone();
    env.extend(spec.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())));
    let starting = async {
        remote.start(&key, command, env, given.ids).await?;
        let mut errors = remote.output(&key, Source::Stderr);
        let (number, early) = greeting(remote, &key, &mut errors, &spec.command[0], workdir).await?;
        Ok((errors, number, early))
    };
    let late = || {
        let message = format!("`{}` did not start within {} s", spec.command[0], START_LIMIT.as_secs());
        CapabilityError::new(ErrorKind::UNAVAILABLE, message)
    };
    let (errors, number, early) = tokio::time::timeout(START_LIMIT, starting).await.map_err(|_| late())??;
    let (sender, output) = mpsc::channel(QUEUE);
    let readers = [
        pump(remote.clone(), remote.output(&key, Source::Stdout), Chunk::Stdout, sender.clone()),
        pump(remote.clone(), errors, Chunk::Stderr, sender),
    ];
    let (waiter, of) = (remote.clone(), key.clone());
    let waiting = tokio::spawn(async move {
        let status = waiter.wait(&of).await?;
        waiter.commit().await?;
        Ok(status)
    });
    let mut backlog = VecDeque::new();
    if !early.is_empty() {
        backlog.push_back(Chunk::Stderr(early));
    }
    Ok(ModalProcess {
        remote: remote.clone(),
        key,
        number,
        output,
        readers,
        backlog,
        input: spec.stdin.then_some(0),
        closing: None,
        waiting,
        end: None,
        gone: false,
        read: false,
        _busy: busy,
    })
}

fn check(command: &[String]) -> Result<()> {
    let invalid = |what: &str| Err(CapabilityError::new(ErrorKind::INVALID, what));
    if command.first().is_none_or(String::is_empty) {
        return invalid("there is no command to run");
    }
    if command.iter().any(|word| word.contains('\0')) {
        return invalid("a command holds no NUL bytes");
    }
    let bytes: usize = command.iter().map(|word| word.len() + 1).sum();
    if bytes + script::START.len() + CHUNK / 16 > COMMAND_LIMIT {
        return Err(CapabilityError::new(
            ErrorKind::TOO_LARGE,
            format!(
                "a command on Modal has less than {} KiB: hand large texts over as a file or by standard input",
                COMMAND_LIMIT >> 10
            ),
        ));
    }
    Ok(())
}

/// Reads the line that says whether the command runs. Returns its number, and what else was said on standard error.
async fn greeting(
    remote: &Remote,
    key: &Key,
    errors: &mut Output,
    program: &str,
    workdir: &str,
) -> Result<(String, Bytes)> {
    let head = format!("harvest {key} ");
    let mut said = BytesMut::new();
    loop {
        if let Some((line, around)) = take_line(&said, head.as_bytes()) {
            let error = |kind, message: String| Err(CapabilityError::new(kind, message));
            return match line.split_once(' ').unwrap_or((&line, "")) {
                ("started", number) => Ok((number.to_owned(), around)),
                ("no-secret", name) => error(
                    ErrorKind::NOT_FOUND,
                    format!("Modal no longer keeps a value `{name}` in the secret that the step is handed"),
                ),
                ("no-workdir", _) => {
                    error(ErrorKind::NOT_FOUND, format!("there is no directory `{workdir}` in the sandbox"))
                }
                ("no-right", _) => {
                    error(ErrorKind::DENIED, format!("`{program}` is no program that can be run"))
                }
                _ => error(ErrorKind::NOT_FOUND, format!("there is no program `{program}` in the sandbox")),
            };
        }
        let more = remote.race("start a command", errors.next()).await?;
        match more.filter(|_| said.len() < GREETING_LIMIT) {
            Some(bytes) => said.extend_from_slice(&bytes),
            None => {
                let status = remote.wait(key).await?;
                let said = String::from_utf8_lossy(&said[..said.len().min(1 << 10)]).trim().to_owned();
                let message = format!(
                    "the sandbox cannot start commands: its `sh` ended with code {}: {said}; images for Modal need \
                     a `sh`",
                    status.code()
                );
                return Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message));
            }
        }
    }
}

/// The rest of the line that begins with `head`, and everything around that line.
fn take_line(said: &[u8], head: &[u8]) -> Option<(String, Bytes)> {
    let start = said.windows(head.len()).position(|window| window == head)?;
    let after = &said[start + head.len()..];
    let length = after.iter().position(|byte| *byte == b'\n')?;
    let line = String::from_utf8_lossy(&after[..length]).into_owned();
    let around = [&said[..start], &after[length + 1..]].concat();
    Some((line, around.into()))
}

/// Hands on what a command writes, in chunks.
fn pump(
    remote: Arc<Remote>,
    mut from: Output,
    chunk: fn(Bytes) -> Chunk,
    to: mpsc::Sender<Result<Chunk>>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        loop {
            match remote.race("read from a command", from.next()).await {
                Ok(Some(mut bytes)) => {
                    while !bytes.is_empty() {
                        let piece = bytes.split_to(bytes.len().min(CHUNK));
                        if to.send(Ok(chunk(piece))).await.is_err() {
                            return;
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    // Nobody may be reading any more.
                    drop(to.send(Err(error)).await);
                    return;
                }
            }
        }
    });
    task.abort_handle()
}

impl ModalProcess {
    /// Waits for the next piece of output, or for the end of everything that may write. Cancel-safe.
    async fn event(&mut self) -> Result<Option<Chunk>> {
        loop {
            if self.read {
                return Ok(None);
            }
            if let Some(Err(error)) = &self.end {
                return Err(error.clone());
            }
            tokio::select! {
                biased;
                chunk = self.output.recv() => match chunk {
                    Some(chunk) => return chunk.map(Some),
                    None => self.read = true,
                },
                end = &mut self.waiting, if self.end.is_none() => self.end = Some(joined(end)),
                () = tokio::time::sleep(LINGER), if self.end.is_some() => {
                    // What it has started holds its streams open.
                    if self.gone {
                        self.read = true;
                    } else {
                        self.remote.kill(&self.key).await?;
                        self.gone = true;
                    }
                }
            }
        }
    }
}

fn joined<T>(end: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    end.unwrap_or_else(|error| Err(CapabilityError::new(ErrorKind::OTHER, format!("broken off: {error}"))))
}

#[async_trait]
impl Process for ModalProcess {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        match self.backlog.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None => self.event().await,
        }
    }

    async fn write(&mut self, data: &[u8]) -> Result<()> {
        let closed = || {
            let message = "standard input is closed: the command reads no more of it";
            CapabilityError::new(ErrorKind::CONFLICT, message)
        };
        let mut held: usize = 0;
        for piece in data.chunks(PIECE) {
            let offset = self.input.ok_or_else(closed)?;
            let (remote, key) = (self.remote.clone(), self.key.clone());
            let piece = Bytes::copy_from_slice(piece);
            let length = piece.len() as u64;
            let writing = async move { remote.write(&key, offset, piece, false).await };
            tokio::pin!(writing);
            // Output is read meanwhile: a command that answers as it reads would otherwise wait for us, and we for it.
            loop {
                tokio::select! {
                    written = &mut writing => break written?,
                    chunk = self.event(), if !self.read => if let Some(chunk) = chunk? {
                        held += match &chunk { Chunk::Stdout(bytes) | Chunk::Stderr(bytes) => bytes.len() };
                        self.backlog.push_back(chunk);
                    },
                }
                if held > BACKLOG_LIMIT {
                    return Err(CapabilityError::new(
                        ErrorKind::TOO_LARGE,
                        format!(
                            "the command wrote more than {BACKLOG_LIMIT} bytes while reading its input; write in pieces and read between"
                        ),
                    ));
                }
            }
            self.input = Some(offset + length);
        }
        Ok(())
    }

    fn close_stdin(&mut self) {
        if let Some(offset) = self.input.take() {
            let (remote, key) = (self.remote.clone(), self.key.clone());
            self.closing =
                Some(tokio::spawn(async move { remote.write(&key, offset, Bytes::new(), true).await }));
        }
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        if !(1..=64).contains(&signal) {
            return Err(CapabilityError::new(ErrorKind::INVALID, format!("there is no signal {signal}")));
        }
        // A command that has ended needs no signal, and its number may be another's by now.
        if self.end.is_none() && !self.waiting.is_finished() {
            let arguments = [&signal.to_string(), &self.number];
            self.remote.script(script::SIGNAL, &arguments.map(String::as_str), None, SCRIPT_LIMIT).await?;
        }
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        if !self.gone {
            self.remote.kill(&self.key).await?;
            self.gone = true;
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        self.backlog.clear();
        loop {
            if let Some(end) = &self.end {
                return end.clone();
            }
            // A command that nobody reads from would never end.
            match self.read {
                true => self.end = Some(joined((&mut self.waiting).await)),
                false => drop(self.event().await?),
            }
        }
    }
}

impl Drop for ModalProcess {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
        self.waiting.abort();
        if let Some(closing) = self.closing.take().filter(|closing| !closing.is_finished()) {
            closing.abort();
        }
        let over = self.gone && matches!(self.end, Some(Ok(_)));
        if over || self.remote.ending.now().is_some() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (remote, key) = (self.remote.clone(), self.key.clone());
            runtime.spawn(async move {
                let ended = async {
                    remote.kill(&key).await?;
                    remote.commit().await
                };
                if let Err(error) = ended.await {
                    tracing::debug!(sandbox = remote.id, "after a command: {error}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_host_is_taken_out_of_what_else_is_said() {
        let taken =
            |said: &str| take_line(said.as_bytes(), b"harvest k ").map(|(line, rest)| (line, rest.to_vec()));
        assert_eq!(taken("harvest k started 12\n"), Some(("started 12".into(), Vec::new())));
        assert_eq!(
            taken("sh: warning: locale\nharvest k started 1\nearly"),
            Some(("started 1".into(), b"sh: warning: locale\nearly".to_vec()))
        );
        assert_eq!(taken("harvest k star"), None);
        assert_eq!(taken("harvest x started 1\n"), None);
    }

    #[test]
    fn what_can_never_start_is_not_sent() {
        let kind = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            check(&words).map_err(|error| error.kind)
        };
        assert_eq!(kind(&["true"]), Ok(()));
        assert_eq!(kind(&[]), Err(ErrorKind::INVALID));
        assert_eq!(kind(&[""]), Err(ErrorKind::INVALID));
        assert_eq!(kind(&["a\0b"]), Err(ErrorKind::INVALID));
        assert_eq!(kind(&["echo", &"x".repeat(64 << 10)]), Err(ErrorKind::TOO_LARGE));
    }
}
