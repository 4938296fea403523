//! The end of a sandbox, watched from the moment it is there: whatever waits for something in it waits for this as well.

use super::client::{Client, Options, PATIENCE};
use super::fault::Fault;
use super::messages::client as api;
use api::generic_result::GenericStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Code;

/// How long the server may keep one question open, and how long we wait for its answer.
const POLL: Duration = Duration::from_secs(10);
const POLL_LIMIT: Duration = Duration::from_secs(15);
/// Before a question is asked again that nobody answered.
const PAUSE: Duration = Duration::from_secs(1);

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// As the server says.
    With(api::GenericResult),
    /// The server knows no such sandbox.
    Unknown,
    /// Nobody could be asked for too long.
    Unreachable(String),
}

/// Watches one sandbox until it has ended or nobody cares.
pub(crate) struct Ending {
    seen: watch::Receiver<Option<Ended>>,
    watching: tokio::task::AbortHandle,
}

impl Ending {
    /// Begins to watch.
    pub(crate) fn watch(client: Client, sandbox: String, sandbox_token: Option<String>) -> Arc<Self> {
        let (tell, seen) = watch::channel(None);
        let watching = tokio::spawn(async move {
            let ended = wait(&client, &sandbox, sandbox_token).await;
            tell.send_replace(Some(ended));
        });
        Arc::new(Self { seen, watching: watching.abort_handle() })
    }

    /// How it ended, where it has.
    pub(crate) fn now(&self) -> Option<Ended> {
        self.seen.borrow().clone()
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) -> Ended {
        let mut seen = self.seen.clone();
        let ended = seen.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Ended::Unreachable("it is not watched any more".into()))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn wait(client: &Client, sandbox: &str, sandbox_token: Option<String>) -> Ended {
    let clock = client.clock();
    let mut answered = clock.now();
    loop {
        match poll(client, sandbox, sandbox_token.clone(), POLL).await {
            Ok(Some(result)) => return Ended::With(result),
            Ok(None) => answered = clock.now(),
            Err(fault) if fault.code == Code::NotFound => return Ended::Unknown,
            Err(fault) if clock.now() - answered >= PATIENCE => {
                return Ended::Unreachable(fault.message);
            }
            Err(_) => clock.pause(PAUSE).await,
        }
    }
}

/// How a sandbox ended, `None` where it runs after `time`.
pub(crate) async fn poll(
    client: &Client,
    sandbox: &str,
    sandbox_token: Option<String>,
    time: Duration,
) -> Result<Option<api::GenericResult>, Fault> {
    let request = api::SandboxWaitRequest { sandbox_id: sandbox.into(), timeout: time.as_secs_f32() };
    let options = Options { limit: POLL_LIMIT, sandbox_token, ..Options::default() };
    let result = client.call(&request, options).await?.result;
    Ok(result.filter(|result| result.status() != GenericStatus::Unspecified))
}
