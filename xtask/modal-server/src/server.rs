//! The server: a thread with a runtime of its own, on a port of the loopback address.

use crate::cloud::{Cloud, Settings};
use crate::connection::{Connection, Cut};
use crate::control::Control;
use crate::edge;
use crate::fault::Faults;
use crate::proto::client::generic_result::GenericStatus;
use crate::proto::client::modal_client_server::ModalClientServer;
use crate::proto::task_command_router::task_command_router_server::TaskCommandRouterServer;
use crate::record::Recorded;
use crate::router::Router;
use crate::sandbox::ended;
use crate::volume;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, put};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tower_service::Service;

/// Bytes of one message, as Modal's own clients have it.
const MESSAGE_LIMIT: usize = 100 << 20;
/// Calls that a connection carries at once: what servers commonly allow.
const STREAM_LIMIT: u32 = 100;
/// How long sandboxes may take to end when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Builder(Settings);

impl Builder {
    /// Accepts a pair of token id and secret.
    #[must_use]
    pub fn token(mut self, id: &str, secret: &str) -> Self {
        self.0.tokens.push((id.into(), secret.into()));
        self
    }

    /// Lets a reference to a registry, as in `FROM debian:bookworm-slim`, stand for an image of the server's directory:
    /// `host` is this machine's own userland.
    #[must_use]
    pub fn image(mut self, reference: &str, image: &str) -> Self {
        self.0.images.insert(reference.into(), image.into());
        self
    }

    /// A secret of the main environment.
    #[must_use]
    pub fn secret<const N: usize>(mut self, name: &str, variables: [(&str, &str); N]) -> Self {
        let variables: BTreeMap<_, _> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        self.0.secrets.insert(name.into(), variables);
        self
    }

    /// A volume of version 1 in the main environment.
    #[must_use]
    pub fn first_generation_volume(mut self, name: &str) -> Self {
        self.0.old_volumes.push(name.into());
        self
    }

    /// Sandboxes on one page of a list, 100 where it is not said.
    #[must_use]
    pub fn page(mut self, sandboxes: usize) -> Self {
        self.0.page = sandboxes;
        self
    }

    /// How long router tokens are good, an hour where it is not said. Modal's Python client asks for another only in
    /// the last 30 seconds.
    #[must_use]
    pub fn router_token_life(mut self, life: Duration) -> Self {
        self.0.router_life = life;
        self
    }

    /// How long the tokens of AuthTokenGet are good, an hour where it is not said.
    #[must_use]
    pub fn auth_token_life(mut self, life: Duration) -> Self {
        self.0.auth_life = life;
        self
    }

    /// A port that allow-lists open too. A name of Modal's stands for all ports; here it is 80, 443 and those said here.
    #[must_use]
    pub fn open_port(mut self, port: u16) -> Self {
        self.0.ports.push(port);
        self
    }

    /// The port; a free one where it is not said.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    /// Starts it. Fails where the loopback address cannot be bound, or this machine has no sandboxes.
    pub fn start(self) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.0.port))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let faults = Arc::new(Faults::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let cloud = {
            let _entered = runtime.enter();
            Cloud::new(self.0, url, faults.clone())
                .map_err(|status| io::Error::other(status.message().to_owned()))?
        };
        let cloud = Arc::new(cloud);
        let (stop, stopped) = oneshot::channel();
        let thread = serve(runtime, listener, cloud.clone(), stopped)?;
        Ok(Server { cloud, faults, stop: Some(stop), thread: Some(thread) })
    }
}

/// A running server. Dropping it ends its sandboxes and frees its port.
pub struct Server {
    cloud: Arc<Cloud>,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// What a server is started with: the directory that it keeps everything in, and the harvest binary.
    pub fn builder(directory: impl Into<PathBuf>, launcher: impl Into<PathBuf>) -> Builder {
        let hour = Duration::from_secs(60 * 60);
        Builder(Settings {
            directory: directory.into(),
            launcher: launcher.into(),
            tokens: Vec::new(),
            images: BTreeMap::new(),
            secrets: BTreeMap::new(),
            old_volumes: Vec::new(),
            image_builder_version: "2025.06".into(),
            auth_life: hour,
            router_life: hour,
            page: 100,
            port: 0,
            ports: Vec::new(),
        })
    }

    /// The value for MODAL_SERVER_URL.
    pub fn url(&self) -> &str {
        &self.cloud.url
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// All calls so far, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.cloud.record.all()
    }

    /// Lets the router tokens that clients hold expire.
    pub fn expire_router_tokens(&self) {
        self.cloud.tokens.expire_routers();
    }

    /// Ends a sandbox as a lost worker would, under whatever runs in it; `false` where there is none of this id.
    pub fn kill_sandbox(&self, id: &str) -> bool {
        let Ok(sandbox) = self.cloud.sandboxes.find(id) else { return false };
        self.cloud.enter(|| sandbox.finish(&self.cloud, ended(GenericStatus::Terminated, 0)));
        true
    }

    /// Ids of the sandboxes that have not ended.
    pub fn running(&self) -> Vec<String> {
        self.cloud.sandboxes.running().iter().map(|sandbox| sandbox.id.clone()).collect()
    }

    /// A file of a volume of the main environment, as it was last committed.
    pub fn volume_file(&self, volume: &str, path: &str) -> Option<Vec<u8>> {
        self.cloud.volumes.file(volume, path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn serve(
    runtime: Runtime,
    listener: TcpListener,
    cloud: Arc<Cloud>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("modal-server".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, &cloud) => {}
                _ = stopped => {}
            }
            let running = cloud.sandboxes.running();
            for sandbox in &running {
                sandbox.finish(&cloud, ended(GenericStatus::Terminated, 0));
            }
            for sandbox in &running {
                drop(sandbox.wait(STOP_LIMIT).await);
            }
        });
        runtime.shutdown_timeout(STOP_LIMIT);
    })
}

async fn accept(listener: TcpListener, cloud: &Arc<Cloud>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime has I/O enabled");
    let control = ModalClientServer::new(Control(cloud.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let router = TaskCommandRouterServer::new(Router(cloud.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let blocks = axum::Router::new()
        .route("/blocks/{name}", put(volume::put))
        .route("/blocks/{name}/{from}/{to}", get(volume::get))
        .layer(DefaultBodyLimit::max(MESSAGE_LIMIT))
        .with_state(cloud.clone());
    let routes = Routes::new(control)
        .add_service(router)
        .into_axum_router()
        .layer(from_fn_with_state(cloud.clone(), edge::pass))
        .merge(blocks);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if cloud.faults.is_gone() {
            continue;
        }
        // A failure only delays small messages.
        drop(stream.set_nodelay(true));
        let (routes, cut, faults) = (routes.clone(), Cut::default(), cloud.faults.clone());
        tokio::spawn(async move {
            let connection = TokioIo::new(Connection::new(stream, cut.clone()));
            let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(cut.clone());
                routes.clone().call(request)
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(STREAM_LIMIT);
            tokio::select! {
                // Clients hang up as they like, and cuts are meant to fail here.
                _ = builder.serve_connection(connection, service) => {}
                () = faults.gone() => {}
            }
        });
    }
}
