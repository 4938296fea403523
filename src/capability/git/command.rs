//! Runs the host's `git`, with nothing of its surroundings but what is given here.
//!
//! Every invocation has a cleared environment, a configuration of its own that outranks any file's, no hooks, no
//! prompts, a time limit, a bound on what it prints and on the files it writes, and a process group that is killed
//! with it. A credential travels in the environment, to a helper that git itself asks for one origin only; it is never
//! an argument, never in a URL and never on disk.

use super::failure::explain;
use super::settings::Settings;
use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Longest an operation with a remote may take.
pub(super) const NETWORK_TIME: Duration = Duration::from_secs(30 * 60);
/// Longest an operation on this machine may take.
pub(super) const LOCAL_TIME: Duration = Duration::from_secs(10 * 60);
/// Most output kept of a command that lists things, in bytes: about 150,000 refs.
const OUTPUT: usize = 16 << 20;
/// Most of standard error kept, in bytes, from its end.
const WORDS: usize = 16 << 10;
/// Largest file git may write, in bytes: a pack.
const LARGEST_FILE: u64 = 16 << 30;
/// Bytes moved at once.
const PIECE: usize = 64 << 10;

/// Settings of every invocation, in command scope: they outrank every configuration file.
const CONFIG: [(&str, &str); 27] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.askPass", ""),
    // An empty command would be run; `true` lists no refs.
    ("core.alternateRefsCommand", "true"),
    ("credential.helper", ""),
    ("credential.interactive", "false"),
    ("protocol.allow", "never"),
    ("protocol.https.allow", "always"),
    // Descriptors that harvest passes, to reach a local repository.
    ("protocol.fd.allow", "always"),
    ("safe.directory", "*"),
    ("safe.bareRepository", "all"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("receive.autogc", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("transfer.bundleURI", "false"),
    ("transfer.credentialsInUrl", "die"),
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("http.followRedirects", "initial"),
    // Slower than 1000 bytes a second for a minute is dead.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    ("pack.threads", "2"),
    // Larger blobs are streamed rather than held in memory.
    ("core.bigFileThreshold", "64m"),
    ("init.defaultBranch", "main"),
];

/// What a command that has ended said.
pub(super) struct Finished {
    /// Whether it exited with 0.
    pub(super) ok: bool,
    /// Standard output, where it was captured.
    pub(super) stdout: String,
    /// The end of standard error, without the credential.
    pub(super) words: String,
}

impl Finished {
    /// Itself, or the error that its words explain.
    pub(super) fn success(self, doing: &str) -> Result<Self> {
        if self.ok { Ok(self) } else { Err(explain(doing, &self.words)) }
    }
}

/// Takes output as it arrives.
#[async_trait]
pub(super) trait Sink: Send {
    /// Takes the next bytes.
    async fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

struct Capture(Vec<u8>);

#[async_trait]
impl Sink for Capture {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.0.len() + bytes.len() > OUTPUT {
            return Err(CapabilityError::new(
                ErrorKind::TOO_LARGE,
                format!("git printed more than {OUTPUT} bytes; the repository has too many refs"),
            ));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Who a command runs as, where it is not the caller: the owner of a user's repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// User.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
}

/// The host's git.
#[derive(Debug)]
pub(super) struct Git {
    environment: BTreeMap<String, String>,
    home: OsString,
    settings: OnceLock<Settings>,
}

impl Git {
    /// `home` is an empty directory of the host's.
    /// Of `environment` (harvest's own) only PATH is handed on, and to commands that go online what [`Settings`] takes.
    pub(super) fn new(environment: BTreeMap<String, String>, home: &Path) -> Self {
        Self { environment, home: home.into(), settings: OnceLock::new() }
    }

    /// A command on the repository `directory` (bare).
    pub(super) fn on(&self, directory: &Path, time: Duration) -> GitCommand {
        let mut git = self.command(time);
        git.command.arg("--git-dir").arg(directory);
        git
    }

    /// A command on no repository.
    pub(super) fn command(&self, time: Duration) -> GitCommand {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", self.environment.get("PATH").map_or("/usr/bin:/bin", String::as_str))
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        GitCommand {
            command,
            config: CONFIG.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            time,
            input: None,
            inherited: None,
            masks: Vec::new(),
        }
    }

    /// How servers are reached.
    pub(super) fn settings(&self) -> &Settings {
        self.settings.get_or_init(|| Settings::read(&self.environment))
    }

    /// Lets `command` talk to `origin`, with the credential where there is one.
    pub(super) fn online(
        &self,
        mut git: GitCommand,
        origin: &str,
        credential: Option<&Secret>,
    ) -> GitCommand {
        let settings = self.settings();
        git.command.envs(settings.environment.iter().map(|(name, value)| (name, value)));
        git.config.extend(settings.config.iter().cloned());
        if origin.starts_with("http://") {
            git = git.config("protocol.http.allow", "always");
        }
        if let Some(credential) = credential {
            // A server of one's own may want a user's name too; tokens hold no colon.
            let (user, password) =
                credential.expose().split_once(':').unwrap_or(("x-access-token", credential.expose()));
            git.command.env("HARVEST_GIT_USER", user).env("HARVEST_GIT_PASSWORD", password);
            let basic = format!("{user}:{password}");
            git.masks = vec![base64::engine::general_purpose::STANDARD.encode(&basic), password.to_owned()];
            // Git asks this helper for this origin alone, so a redirect elsewhere gets nothing.
            git = git.config(&format!("credential.{origin}.helper"), HELPER);
        }
        git
    }
}

const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$HARVEST_GIT_USER" "$HARVEST_GIT_PASSWORD"; }; f"#;

/// One invocation being put together.
pub(super) struct GitCommand {
    command: Command,
    config: Vec<(String, String)>,
    time: Duration,
    input: Option<Vec<u8>>,
    inherited: Option<OwnedFd>,
    masks: Vec<String>,
}

impl GitCommand {
    /// Adds arguments.
    pub(super) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds a setting.
    pub(super) fn config(mut self, key: &str, value: &str) -> Self {
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Writes this to its standard input.
    pub(super) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Reads its standard input from where `file` stands.
    pub(super) fn input_file(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs it as someone else, whose own directory is `home`. Only root can.
    pub(super) fn owned_by(mut self, owner: Option<Owner>, home: &Path) -> Self {
        if let Some(owner) = owner {
            self.command.uid(owner.uid).gid(owner.gid).env("HOME", home).env("XDG_CONFIG_HOME", home);
        }
        self
    }

    /// Keeps `socket` open in it, under the number it has here.
    pub(super) fn inherit(mut self, socket: OwnedFd) -> Self {
        self.inherited = Some(socket);
        self
    }

    fn spawn(&mut self) -> Result<Child> {
        self.command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (index, (key, value)) in self.config.iter().enumerate() {
            self.command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let kept = self.inherited.as_ref().map(|socket| socket.as_raw_fd());
        let limits = libc::rlimit { rlim_cur: LARGEST_FILE, rlim_max: LARGEST_FILE };
        // SAFETY: between fork and exec only setrlimit and fcntl are called; both are async-signal-safe and allocate
        // nothing. A refused limit (a lower one is in force already) is no failure.
        unsafe {
            self.command.pre_exec(move || {
                libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limits);
                if let Some(number) = kept
                    && libc::fcntl(number, libc::F_SETFD, 0) < 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        self.command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                "git is not installed on this machine, or not in PATH; install it (apt install git)",
            ),
            _ => CapabilityError::io("run git", &error),
        })
    }

    /// Runs it to its end and captures what it prints.
    pub(super) async fn run(self) -> Result<Finished> {
        let mut capture = Capture(Vec::new());
        let mut finished = self.stream(&mut capture).await?;
        finished.stdout = String::from_utf8_lossy(&capture.0).into_owned();
        Ok(finished)
    }

    /// Runs it to its end and hands what it prints to `sink`.
    pub(super) async fn stream(mut self, sink: &mut dyn Sink) -> Result<Finished> {
        let mut running = Running(self.spawn()?);
        // The socket must be the child's alone, so that its end is seen.
        drop(self.inherited.take());
        let stdin = running.0.stdin.take();
        let stdout = running.0.stdout.take();
        let stderr = running.0.stderr.take();
        let input = self.input.take().unwrap_or_default();
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A command that ends early closes its input; its own words say why.
                    let _ = stdin.write_all(&input).await;
                    let _ = stdin.shutdown().await;
                }
                Ok(())
            };
            let drain = async {
                let Some(mut stdout) = stdout else { return Ok(()) };
                let mut piece = vec![0; PIECE];
                loop {
                    match stdout.read(&mut piece).await {
                        Ok(0) => return Ok(()),
                        Ok(length) => sink.take(&piece[..length]).await?,
                        Err(error) => return Err(CapabilityError::io("read what git prints", &error)),
                    }
                }
            };
            let listen = async {
                match stderr {
                    Some(stderr) => tail(stderr).await,
                    None => Ok(Vec::new()),
                }
            };
            let ((), (), words) = tokio::try_join!(feed, drain, listen)?;
            let status =
                running.0.wait().await.map_err(|error| CapabilityError::io("wait for git", &error))?;
            Ok((status, words))
        };
        let (status, words) = tokio::time::timeout(self.time, work).await.map_err(|_| {
            CapabilityError::new(
                ErrorKind::TIMED_OUT,
                format!("git took longer than {} minutes and was stopped", self.time.as_secs() / 60),
            )
        })??;
        let mut words = String::from_utf8_lossy(&words).into_owned();
        for mask in self.masks.iter().filter(|mask| !mask.is_empty()) {
            words = words.replace(mask, "***");
        }
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGXFSZ) {
            return Err(CapabilityError::new(
                ErrorKind::TOO_LARGE,
                format!("the repository needs a file larger than {} GiB", LARGEST_FILE >> 30),
            ));
        }
        Ok(Finished { ok: status.success(), stdout: String::new(), words })
    }

    /// Starts it as a server on `socket`, which becomes its standard input and output.
    pub(super) fn serve(mut self, socket: OwnedFd) -> Result<Server> {
        let twin = socket.try_clone().map_err(|error| CapabilityError::io("copy a socket", &error))?;
        self.command.stdin(socket).stdout(twin);
        let mut running = Running(self.spawn()?);
        let words = running.0.stderr.take().map(|stderr| tokio::spawn(tail(stderr)));
        Ok(Server { running, words })
    }
}

/// Reads to the end and keeps the last [`WORDS`] bytes.
async fn tail(mut stream: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) => return Ok(kept),
            Ok(length) => kept.extend_from_slice(&piece[..length]),
            Err(error) => return Err(CapabilityError::io("read what git says", &error)),
        }
        if kept.len() > 2 * WORDS {
            kept.drain(..kept.len() - WORDS);
        }
    }
}

/// A child whose process group goes with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The number is none once the child has been waited for, so it cannot be someone else's.
        if let Some(pid) = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The serving side of a transfer on this machine.
pub(super) struct Server {
    running: Running,
    words: Option<tokio::task::JoinHandle<Result<Vec<u8>>>>,
}

impl Server {
    /// Ends it, now that its client is gone, and returns what it said.
    pub(super) async fn words(mut self) -> String {
        const PATIENCE: Duration = Duration::from_secs(10);
        if tokio::time::timeout(PATIENCE, self.running.0.wait()).await.is_err() {
            return String::new();
        }
        match self.words.take() {
            Some(words) => {
                let words = tokio::time::timeout(PATIENCE, words).await;
                let bytes = words.ok().and_then(std::result::Result::ok).and_then(Result::ok);
                String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
            }
            None => String::new(),
        }
    }
}
