//! Tries Claude Code the way a workflow uses it: the step `claude/run` itself, in a sandbox of the agent image. Its model
//! API is one of our own that refuses every request, so that nothing is spent and no model is needed: a CLI that is
//! understood ends with that refusal and nothing else.

use super::Probe;
use crate::app::{AppError, setup};
use crate::capability::registry::FileRegistry;
use crate::capability::sandbox::local::LocalProvider;
use crate::capability::sandbox::{Chunk, ExecSpec, ExitStatus, SandboxProvider, SandboxSpec};
use crate::capability::stream::{Content, MemoryStreams, StreamStore};
use crate::config::Home;
use crate::host::{Components, HostExecutor, Library, RunSetup};
use crate::id::{RunId, StepId};
use crate::step::{Executor, StepCall, StepResult};
use crate::workflow::types::Catalog;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The image that agent sessions use.
const IMAGE: &str = "agent";
/// MCP servers that are programs of the image and need no key.
const SERVERS: [&str; 4] = ["memory", "filesystem", "playwright", "devtools"];
/// The version of the CLI that harvest is tested with.
const TESTED: &str = "2.1.330";
/// How long one session may take.
const SESSION_LIMIT: Duration = Duration::from_secs(120);
/// How long the CLI may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// What the refusing API says, and what must come out at the other end.
const REFUSAL: &str = "harvest doctor refuses every request";
/// Bytes of a request that are read before it is refused; the CLI's first is 80 KB.
const REQUEST_MAX: usize = 4 << 20;

/// What the component is called here, so that what it keeps is apart from what real sessions keep.
const NAME: &str = "doctor";
/// Where it keeps the transcripts of its trials, which nobody will go on with.
const TRANSCRIPTS: &str = "harvest-doctor-transcripts";

/// Tries the CLI, its credential, its streaming format, its exit codes and its MCP servers; with `live` also the real API,
/// for a cent or so.
pub async fn probes(home: &Home, live: bool) -> Vec<Probe> {
    let mut probes = vec![credential()];
    let refusing = match refuse_everything() {
        Ok(address) => format!("http://{address}"),
        Err(error) => {
            let found = Err(format!("cannot listen on the loopback interface: {error}"));
            probes.push(Probe::new("claude stream", found, "free a port"));
            return probes;
        }
    };
    match Trial::begin(home, &refusing) {
        Ok(trial) => {
            trial.run(&mut probes).await;
            trial.end().await;
        }
        Err(error) => probes.push(Probe::new("claude", Err(error.to_string()), "see the probes above")),
    }
    if live {
        probes.push(live_session(home).await);
    }
    probes
}

fn credential() -> Probe {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let found = match (set("ANTHROPIC_API_KEY"), set("CLAUDE_CODE_OAUTH_TOKEN")) {
        (true, true) => Ok("ANTHROPIC_API_KEY, which goes before CLAUDE_CODE_OAUTH_TOKEN".into()),
        (true, false) => Ok("ANTHROPIC_API_KEY".into()),
        (false, true) => Ok("CLAUDE_CODE_OAUTH_TOKEN".into()),
        (false, false) => Err("neither ANTHROPIC_API_KEY nor CLAUDE_CODE_OAUTH_TOKEN is set".to_owned()),
    };
    let remedy = "set one of them where harvest runs (`claude setup-token` makes the second), or name a secret in the workflow; \
                  `--live` tries it";
    Probe::new("claude credential", found, remedy)
}

async fn live_session(home: &Home) -> Probe {
    let base = crate::config::anthropic_base_url();
    let found = match Trial::begin(home, &base) {
        Ok(trial) => {
            let result = trial.session(json!({ "mcp": [], "max_turns": 1 })).await;
            trial.end().await;
            result.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let told = found.map(|outputs| {
        format!("{base} answered, for {:.4} USD", outputs["cost_usd"].as_f64().unwrap_or_default())
    });
    Probe::new("claude session", told, "check the credential, ANTHROPIC_BASE_URL, and what this host reaches")
}

/// A run of its own, with one sandbox.
struct Trial {
    executor: HostExecutor,
    provider: Arc<LocalProvider>,
    components: Components,
    streams: Arc<MemoryStreams>,
    run: RunId,
    spec: SandboxSpec,
    artifacts: PathBuf,
}

impl Trial {
    fn begin(home: &Home, api: &str) -> Result<Self, AppError> {
        let mut upstreams = crate::app::upstreams();
        for upstream in upstreams.iter_mut().filter(|upstream| upstream.name == "anthropic") {
            api.clone_into(&mut upstream.base_url);
        }
        let provider = Arc::new(LocalProvider::new(home.path(), setup::launcher(), upstreams)?);
        let library = Library::open(home.path()).map_err(|error| AppError::Config(error.to_string()))?;
        let components = Components::new(library.clone(), home.path());
        let streams = Arc::new(MemoryStreams::default());
        let registry = Arc::new(FileRegistry::new(home.path()));
        let executor = setup::host(home, library, provider.clone(), registry, streams.clone())?;
        let executor =
            Arc::into_inner(executor).ok_or_else(|| AppError::Config("a trial is shared".into()))?;
        let run = RunId::generate();
        let spec = SandboxSpec { id: format!("{run}-box"), image: IMAGE.into(), ..SandboxSpec::default() };
        let artifacts = home.join("artifacts").join(run.as_str());
        let sandboxes = BTreeMap::from([("box".to_owned(), spec.clone())]);
        let claude = components.component("claude").map_err(|error| AppError::Config(error.to_string()))?;
        let names = BTreeMap::from([(claude.digest, NAME.to_owned())]);
        let setup =
            RunSetup { sandboxes, components: names, artifacts: artifacts.clone(), ..RunSetup::default() };
        executor.register(&run, setup)?;
        Ok(Self { executor, provider, components, streams, run, spec, artifacts })
    }

    /// Takes away what the trial has left.
    async fn end(self) {
        self.executor.release(&self.run, false).await;
        let volumes = self.provider.volumes();
        for entry in volumes.entries(TRANSCRIPTS, "").await.unwrap_or_default() {
            drop(volumes.remove(TRANSCRIPTS, &entry.path).await);
        }
        drop(std::fs::remove_dir_all(&self.artifacts));
    }

    async fn run(&self, probes: &mut Vec<Probe>) {
        let remedy =
            "build the image from a file like images/agent.yaml: `harvest image build FILE --name agent`";
        match self.provider.find_image(IMAGE).await {
            Ok(Some(id)) => probes.push(Probe::new("claude image", Ok(format!("`{IMAGE}` is {id:.19}")), "")),
            Ok(None) => {
                probes.push(Probe::new("claude image", Err(format!("there is no image `{IMAGE}`")), remedy));
                return;
            }
            Err(error) => {
                probes.push(Probe::new("claude image", Err(error.message), remedy));
                return;
            }
        }
        let version = self.version().await;
        let missing = version.is_err();
        let remedy = format!(
            "put the program `claude` into the image's PATH; harvest is tested with Claude Code {TESTED}"
        );
        probes.push(Probe::new("claude version", version, &remedy));
        if missing {
            return;
        }
        let remedy = format!(
            "use Claude Code {TESTED} in the image, or a newer harvest: this version says what harvest does not understand"
        );
        probes.push(Probe::new("claude stream", self.stream().await, &remedy));
        for server in SERVERS {
            let remedy = "add the server to the image, or leave it out of `mcp`; browsers need /usr/bin/chromium or CHROMIUM_PATH";
            let found =
                refused(self.session(json!({ "mcp": [server] })).await).map(|()| "connected".to_owned());
            probes.push(Probe::new(&format!("claude MCP {server}"), found, remedy));
        }
    }

    async fn version(&self) -> Result<String, String> {
        let command = ["claude", "--version"].map(str::to_owned).into();
        let said = async {
            let sandbox = self.provider.open(self.spec.clone()).await?;
            let mut process = sandbox.exec(ExecSpec { command, ..ExecSpec::default() }).await?;
            let mut said = Vec::new();
            while let Some(chunk) = process.next().await? {
                let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
                said.extend_from_slice(&bytes);
            }
            let status = process.wait().await?;
            Ok::<_, crate::capability::CapabilityError>((status, said))
        };
        match tokio::time::timeout(VERSION_LIMIT, said).await {
            Ok(Ok((ExitStatus::Code(0), said))) => Ok(String::from_utf8_lossy(&said).trim().to_owned()),
            Ok(Ok((status, said))) => Err(format!(
                "`claude --version` ended with {}: {}",
                status.code(),
                String::from_utf8_lossy(&said).trim()
            )),
            Ok(Err(error)) => Err(error.message),
            Err(_) => Err(format!("`claude --version` took longer than {} s", VERSION_LIMIT.as_secs())),
        }
    }

    /// Whether its events and its exit code are understood.
    async fn stream(&self) -> Result<String, String> {
        refused(self.session(json!({ "mcp": [] })).await)?;
        let entries = self.streams.read(&self.run, 0, 1_000).await.map_err(|error| error.message)?;
        let init = entries.iter().find_map(|(_, entry)| match &entry.content {
            Content::Data(event) if event["kind"] == "init" => Some(event),
            _ => None,
        });
        let init = init.ok_or("it did not say with what it starts (`system/init`)")?;
        let of = |name: &str| init[name].as_str().unwrap_or("unknown").to_owned();
        Ok(format!(
            "events, result and exit code of version {} are understood; its default model is {}",
            of("version"),
            of("model")
        ))
    }

    /// One prompt by the step that workflows use.
    async fn session(&self, more: Value) -> StepResult {
        let component = self.components.component("claude");
        let component = component.map_err(|error| {
            crate::step::StepError::new(crate::step::ErrorKind::INVALID, error.to_string())
        })?;
        let mut arguments = Map::from_iter([
            ("cwd".to_owned(), json!("/workspace")),
            ("prompt".to_owned(), json!("Answer with the word ready, and nothing else.")),
        ]);
        arguments.extend(more.as_object().cloned().unwrap_or_default());
        let call = StepCall {
            run: self.run.clone(),
            workflow: "doctor".into(),
            at: StepId::new("session").into(),
            attempt: 1,
            // Each has a conversation of its own.
            idempotency_key: Some(format!("{}/{more}", self.run)),
            component: component.digest,
            function: "run".into(),
            arguments,
            sandboxes: BTreeMap::from([("box".to_owned(), "box".to_owned())]),
            secrets: BTreeMap::new(),
            permissions: Vec::new(),
            timeout: Some(SESSION_LIMIT),
            idle_timeout: None,
            network: None,
            lose_sandboxes: false,
            spent_before: 0,
            expenses: Default::default(),
        };
        self.executor.execute(call, CancellationToken::new()).await
    }
}

/// Whether a session failed as it must: with the refusal of the API, as an error of the API.
fn refused(result: StepResult) -> Result<(), String> {
    match result {
        Err(error) if error.kind.as_str() == "api-error" && error.message.contains(REFUSAL) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("it took an API that refuses every request for a success".into()),
    }
}

/// An API that answers every request with an error that is not tried again. Lives as long as this process.
fn refuse_everything() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("doctor-api".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up before it is refused has lost nothing.
            std::thread::spawn(move || drop(refuse(stream)));
        }
    })?;
    Ok(address)
}

fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let error = json!({ "type": "invalid_request_error", "message": REFUSAL });
    let body = json!({ "type": "error", "error": error }).to_string();
    read_request(&mut stream)?;
    write!(
        stream,
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads a request to its end: who is answered before may never read the answer.
fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 16 << 10];
    while request.len() < REQUEST_MAX && !is_whole(&request) {
        match stream.read(&mut buffer)? {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(())
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match header("content-length").and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => request.len() >= end + 4 + length,
        None if header("transfer-encoding").is_some() => request.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{ErrorKind, StepError};

    #[test]
    fn only_the_refusal_itself_is_good() {
        let failed = |kind, message: &str| refused(Err(StepError::new(kind, message)));
        assert_eq!(failed(ErrorKind::new("api-error"), &format!("the model API failed: {REFUSAL}")), Ok(()));
        assert!(failed(ErrorKind::new("api-error"), "something else").is_err());
        assert!(failed(ErrorKind::new("startup-error"), REFUSAL).is_err());
        assert!(refused(Ok(Map::new())).is_err());
    }

    #[test]
    fn requests_are_read_to_their_end() {
        assert!(!is_whole(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"));
        assert!(is_whole(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
        assert!(!is_whole(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"));
        assert!(is_whole(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
        assert!(is_whole(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n"));
    }
}
