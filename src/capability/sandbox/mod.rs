//! Sandboxes: isolated file trees in which commands run. The model is Modal's, so that any provider can serve it.

mod archive;
#[cfg(feature = "docker")]
pub mod docker;
pub mod gvisor;
mod library;
pub mod local;
pub mod modal;
mod refusal;

use super::meter::Account;
use super::secret::{KeptSecret, Secret};
use super::{CapabilityError, Result};
pub use crate::isolation::Isolation;
pub use crate::network::Network;
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
pub use refusal::{RefusalSink, Refused};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Everything that makes a sandbox what it is. Equal specs make equal sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Unique on this host: `[a-z0-9_-]{1,100}`. Opening the same id again re-attaches to its files.
    pub id: String,
    /// Image name or digest; `host` is this machine's own userland, read-only.
    pub image: String,
    /// Mount path in the sandbox -> volume name. Volumes are made when missing.
    pub volumes: BTreeMap<String, String>,
    /// Environment of every exec; never holds secrets.
    pub env: BTreeMap<String, String>,
    /// Network policy.
    pub network: Network,
    /// Cores, as a limit; `None` is no limit.
    pub cpu: Option<f64>,
    /// Bytes of memory, as a limit; `None` is the provider's default.
    pub memory: Option<u64>,
    /// Bytes that its own files may take, volumes excluded; `None` is no limit.
    #[serde(default)]
    pub disk: Option<u64>,
    /// Longest life; `None` is the provider's default.
    pub timeout: Option<Duration>,
    /// Working directory of execs that name none.
    pub workdir: Option<String>,
    /// User name or number inside; `None` is the image's.
    pub user: Option<String>,
}

/// One command to run in a sandbox.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// Program and arguments; the program is looked up in the sandbox's PATH.
    pub command: Vec<String>,
    /// Added to the sandbox's environment.
    pub env: BTreeMap<String, String>,
    /// Secrets by variable name, for this exec alone.
    pub secrets: BTreeMap<String, Secret>,
    /// The same for secrets that the provider keeps itself; `invalid` where it keeps none.
    pub kept: BTreeMap<String, KeptSecret>,
    /// Working directory; `None` is the sandbox's.
    pub workdir: Option<String>,
    /// Whether the caller will write to stdin; otherwise it is `/dev/null`.
    pub stdin: bool,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes from standard output, at most 64 KiB.
    Stdout(Bytes),
    /// Bytes from standard error, at most 64 KiB.
    Stderr(Bytes),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell would report: 128 + n for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A command running in a sandbox. Dropping it kills its whole tree of processes.
#[async_trait]
pub trait Process: Send {
    /// The next piece of output, in order of arrival; `None` once both streams are at their end. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Chunk>>;
    /// Writes all of `data` to standard input.
    async fn write(&mut self, data: &[u8]) -> Result<()>;
    /// Closes standard input.
    fn close_stdin(&mut self);
    /// Sends a signal to the command (not its tree): SIGINT to interrupt, SIGTERM to ask.
    async fn signal(&mut self, signal: i32) -> Result<()>;
    /// Kills the whole tree, daemonised children included, and returns when none is left.
    async fn kill(&mut self) -> Result<()>;
    /// How it ended. Output not yet read is discarded. Cancel-safe.
    async fn wait(&mut self) -> Result<ExitStatus>;
    /// The limit of its sandbox at which processes were killed while it ran, as an error of kind `quota` that names the
    /// limit and what to write. Ask where it did not end well.
    fn limit(&self) -> Option<CapabilityError> {
        None
    }
}

/// A header that the gateway of an upstream adds to each request, in place of one that the sandbox sent.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Header name, such as `x-api-key`.
    pub header: String,
    /// Text before the secret, such as `Bearer `.
    pub prefix: String,
    /// The value; it stays on the host.
    pub secret: Secret,
}

impl Credential {
    /// The header as requests carry it, marked so that no log shows it. `invalid` where the text fits into none.
    pub fn header(&self) -> Result<(HeaderName, HeaderValue)> {
        let invalid = || {
            CapabilityError::new(
                ErrorKind::INVALID,
                format!("secret {} does not fit into header `{}`", self.secret.name(), self.header),
            )
        };
        let name = HeaderName::try_from(&self.header).map_err(|_| invalid())?;
        let text = format!("{}{}", self.prefix, self.secret.expose());
        let mut value = HeaderValue::try_from(text).map_err(|_| invalid())?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// A way to an upstream without a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The upstream's base URL.
    pub base_url: String,
    /// Its host, as a line of an allow-list.
    pub host: String,
}

/// How the files of a sandbox became an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotMode {
    /// Nothing ran: the changes became a layer as they were, nothing was copied, and the sandbox goes on on top of it.
    Stacked,
    /// A command ran: all processes were held still while the files were shared on disk.
    Reflink,
    /// All processes were held still while the files were copied: a command ran, or the provider knows no other way.
    Copied,
}

/// The files of a sandbox as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Id of the image.
    pub image: String,
    /// How it was made.
    pub mode: SnapshotMode,
}

/// An open sandbox. Dropping the last reference ends its processes and keeps its files.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// The id it was opened with.
    fn id(&self) -> &str;
    /// Whether it is still there; one that has ended is opened again by its id.
    fn is_open(&self) -> bool;
    /// What holds it in, now.
    fn isolation(&self) -> Isolation;
    /// Sets what it may reach from now on; returns once connections that this does not allow are cut. The network of
    /// the host can be neither entered nor left (`invalid`); `unavailable` where the provider cannot change it.
    async fn set_network(&self, network: Network) -> Result<()> {
        let _ = network;
        let message = format!("the network of sandbox {} cannot be changed while it lives", self.id());
        Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message))
    }
    /// Calls `sink` for every connection that the policy refuses from now on, before the program inside learns of it. A
    /// later sink replaces it. Providers that see no connections never call it.
    fn on_refusal(&self, sink: RefusalSink) {
        drop(sink);
    }
    /// Starts a command.
    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>>;
    /// Reads a file of at most `limit` bytes (`too-large` beyond). Paths resolve inside the sandbox.
    async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes>;
    /// Writes a file whole with these permission bits, making its parent directories.
    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()>;
    /// Opens a gateway on the sandbox's loopback to an upstream the operator configured (such as `anthropic`) and
    /// returns its base URL. Requests leave through the host, which adds `credentials`: the sandbox never sees them. What
    /// they cost is charged to `account`, and the gateway closes with it.
    async fn forward(
        &self,
        upstream: &str,
        credentials: Vec<Credential>,
        account: Option<Arc<Account>>,
    ) -> Result<String>;
    /// The way to an upstream that the operator configured, for programs inside that hold the credential themselves. `None`
    /// where a gateway leads there: the credential stays outside then.
    fn direct(&self, name: &str) -> Option<Direct> {
        let _ = name;
        None
    }
    /// Saves the files as an image. It holds files alone, no processes and no environment, and can be used at once; the
    /// sandbox stays usable. Where a command runs, it is held still meanwhile and goes on.
    async fn snapshot(&self) -> Result<Snapshot>;
    /// Kills every process; the files stay until [`SandboxProvider::remove`].
    async fn terminate(&self) -> Result<()>;
}

/// An image definition: a base, commands run on top of it one after the other, and an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// `host`, or the name or digest of another image.
    pub base: String,
    /// Each runs as `sh -c` with network `host` and is cached by (parent, command, env).
    #[serde(default)]
    pub commands: Vec<String>,
    /// Environment of commands and of sandboxes made from the image.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files or directories of the host copied in before the commands: path in the image -> path on the host. Part of
    /// the cache key by content.
    #[serde(default)]
    pub copy: BTreeMap<String, String>,
    /// Directories that sandboxes made from the image can read and not change, whoever they are inside.
    #[serde(default)]
    pub read_only: Vec<String>,
    /// Working directory of sandboxes made from the image.
    #[serde(default)]
    pub workdir: Option<String>,
    /// User of sandboxes made from the image.
    #[serde(default)]
    pub user: Option<String>,
}

/// An image in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePull {
    /// `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`, abbreviated as Docker does.
    pub reference: String,
    /// Whether to speak plain http with a registry that is not this machine.
    pub plain_http: bool,
    /// A `config.json` of Docker's, with credentials in its `auths`.
    pub auth_file: Option<PathBuf>,
}

/// An image as `harvest image list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Content id, `sha256:...`.
    pub id: String,
    /// Names that point to it.
    pub names: Vec<String>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// Layers above the base.
    pub layers: usize,
    /// Bytes of its own layers on disk.
    pub bytes: u64,
    /// Whether it survives the loss of power. One that does not yet is usable all the same, and whole or gone afterwards.
    pub durable: bool,
}

/// Something of a provider that nothing needs any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// `image` or `layer`.
    pub kind: String,
    /// The id of the image or the name of the layer.
    pub of: String,
    /// Bytes on disk; those of an image are in its layers.
    pub bytes: u64,
}

/// What [`SandboxProvider::collect`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What went, or would go.
    pub garbage: Vec<Garbage>,
    /// Whether somebody was making or opening an image, so that nothing could go.
    pub busy: bool,
}

/// Where the output of an image build goes, line by line.
pub type BuildLog = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes sandboxes, images and volumes of one kind.
#[async_trait]
pub trait SandboxProvider: Send + Sync {
    /// Its name, as `require: { provider: NAME }` has it.
    fn name(&self) -> &'static str;
    /// What an operator should know of its sandboxes before a run, as sentences about a sandbox.
    fn caveats(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether it takes the operator's credentials: `auth-error` where it does not. Those without any say yes.
    async fn admitted(&self) -> Result<()> {
        Ok(())
    }
    /// The secret that it keeps under this name, for the value called `key`. `not-found` where it keeps none such.
    async fn kept_secret(&self, name: &str, key: &str) -> Result<KeptSecret> {
        let message = format!("the provider `{}` keeps no secrets, so not `{name}/{key}`", self.name());
        Err(CapabilityError::new(ErrorKind::NOT_FOUND, message))
    }
    /// How well a sandbox like this would be held in, without opening it.
    async fn isolation(&self, spec: &SandboxSpec) -> Result<Isolation>;
    /// Opens a sandbox: a fresh one, or the files of an earlier one with this id. Fails with `unavailable` and the
    /// missing feature where the machine cannot isolate; never runs anything less isolated instead.
    async fn open(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>>;
    /// Ids of sandboxes whose files exist, with whether one is running.
    async fn list(&self) -> Result<Vec<(String, bool)>>;
    /// Ends a sandbox and deletes its files. Succeeds where there is none.
    async fn remove(&self, id: &str) -> Result<()>;
    /// Builds (or finds in the cache) an image and names it. Returns its id and whether it was all cached.
    async fn build_image(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: BuildLog,
    ) -> Result<(String, bool)>;
    /// Makes an image of a root file system (an archive) or of an OCI layout, and names it. Returns its id and whether it
    /// was there already. `unavailable` where the provider's images do not come from files.
    async fn import_image(&self, _source: &Path, _name: &str, _log: BuildLog) -> Result<(String, bool)> {
        Err(no_files("import"))
    }
    /// Makes an image of one in a registry, fetching the layers that are missing, and names it, by its reference where no
    /// name is given. Returns its id and whether it was there already.
    async fn pull_image(
        &self,
        _pull: &ImagePull,
        _name: Option<&str>,
        _log: BuildLog,
    ) -> Result<(String, bool)> {
        Err(no_files("pull"))
    }
    /// Writes an image as an OCI layout: an archive where `target` ends in `.tar`, else a new directory. `invalid` for
    /// images that stand on this machine's own userland.
    async fn export_image(&self, _image: &str, _target: &Path, _log: BuildLog) -> Result<()> {
        Err(no_files("export"))
    }
    /// Takes a name away, and with the last one the image; an id goes with all its names. Returns the id of an image that
    /// is gone. Sandboxes and images made from it keep what they need.
    async fn remove_image(&self, _image: &str) -> Result<Option<String>> {
        Err(no_files("remove"))
    }
    /// Points `name` at an image.
    async fn tag_image(&self, image: &str, name: &str) -> Result<()>;
    /// The id behind a name or id, `None` where there is none.
    async fn find_image(&self, image: &str) -> Result<Option<String>>;
    /// All images, newest first.
    async fn list_images(&self) -> Result<Vec<ImageInfo>>;
    /// Ids of images without a name that were neither made nor asked for since `since`, oldest use first.
    async fn unused_images(&self, since: jiff::Timestamp) -> Result<Vec<String>>;
    /// Removes these images, as far as they still have no name and were not used since `since`, and every layer that no
    /// image and no sandbox needs. With `dry` it only says what would go.
    async fn collect(&self, images: &[String], since: jiff::Timestamp, dry: bool) -> Result<Collected>;
    /// The volumes that its sandboxes mount.
    fn volumes(&self) -> Arc<dyn super::volume::VolumeStore>;
}

fn no_files(doing: &str) -> CapabilityError {
    let message = format!("this provider cannot {doing} images; the local one can");
    CapabilityError::new(ErrorKind::UNAVAILABLE, message)
}
