//! What goes wrong on purpose, by the name of the call it happens to.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tonic::{Code, Status};

/// Faults that are still to happen. Each is used up by the calls it happens to.
#[derive(Debug, Default)]
pub struct Faults {
    ahead: Mutex<Vec<Fault>>,
    /// Whether nobody is there any more.
    gone: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Fault {
    /// `*` is any call.
    rpc: String,
    effect: Effect,
    left: Left,
}

#[derive(Clone, Debug)]
enum Left {
    Calls(usize),
    Until(Instant),
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// It is refused.
    Refuse(Code, String),
    /// It is refused, with the request to call again after this many seconds.
    Throttle(f32),
    /// It is done, and the answer is lost.
    LoseReply,
    /// The connection breaks before it is done.
    Cut,
    /// The connection breaks once this many bytes of output were sent.
    CutOutput(usize),
    /// All connections break, and no further one is taken.
    Vanish,
}

impl Faults {
    /// The next calls of `rpc` (`*`: of any) fail with this code.
    pub fn fail(&self, rpc: &str, code: Code, times: usize) {
        self.add(
            rpc,
            Effect::Refuse(code, format!("{rpc} fails because a test says so")),
            Left::Calls(times),
        );
    }

    /// The next calls of `rpc` are throttled: RESOURCE_EXHAUSTED, and to be made again after so many seconds.
    pub fn throttle(&self, rpc: &str, times: usize, retry_after_secs: f32) {
        self.add(rpc, Effect::Throttle(retry_after_secs), Left::Calls(times));
    }

    /// All calls of `rpc` are throttled for a while.
    pub fn throttle_for(&self, rpc: &str, time: Duration, retry_after_secs: f32) {
        self.add(rpc, Effect::Throttle(retry_after_secs), Left::Until(Instant::now() + time));
    }

    /// The next calls of `rpc` are done, and answered UNAVAILABLE.
    pub fn lose_reply(&self, rpc: &str, times: usize) {
        self.add(rpc, Effect::LoseReply, Left::Calls(times));
    }

    /// The connection breaks at the next calls of `rpc`, before they are done.
    pub fn cut(&self, rpc: &str, times: usize) {
        self.add(rpc, Effect::Cut, Left::Calls(times));
    }

    /// The connection of the next reader of a command's output breaks once it was sent this many bytes, at least one.
    pub fn cut_output_after(&self, bytes: usize) {
        self.add("TaskExecStdioRead", Effect::CutOutput(bytes.max(1)), Left::Calls(1));
    }

    /// At the next call of `rpc`, before it is done, the server is gone: connections break, and further ones are not
    /// taken, until [`Self::clear`]. Sandboxes go on.
    pub fn vanish_at(&self, rpc: &str) {
        self.add(rpc, Effect::Vanish, Left::Calls(1));
    }

    /// Whether the server is gone.
    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Returns once the server is gone.
    pub(crate) async fn gone(&self) {
        // There is a sender as long as there is `self`.
        drop(self.gone.subscribe().wait_for(|gone| *gone).await);
    }

    /// Every call is refused, because the client is too old, until [`Self::clear`].
    pub fn refuse_version(&self) {
        let message = "this version of the client is too old: upgrade it";
        self.add("*", Effect::Refuse(Code::FailedPrecondition, message.into()), Left::Calls(usize::MAX));
    }

    /// Takes all faults back.
    pub fn clear(&self) {
        self.lock().clear();
        self.gone.send_replace(false);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, rpc: &str, effect: Effect, left: Left) {
        self.lock().push(Fault { rpc: rpc.into(), effect, left });
    }

    /// The fault of a call that was just made.
    pub(crate) fn take(&self, rpc: &str) -> Option<Effect> {
        let mut faults = self.lock();
        faults.retain(|fault| match fault.left {
            Left::Calls(calls) => calls > 0,
            Left::Until(end) => Instant::now() < end,
        });
        let fault = faults.iter_mut().find(|fault| fault.rpc == rpc || fault.rpc == "*")?;
        if let Left::Calls(calls) = &mut fault.left {
            *calls -= 1;
        }
        if matches!(fault.effect, Effect::Vanish) {
            self.gone.send_replace(true);
        }
        Some(fault.effect.clone())
    }
}

/// The status of a call that is to be made again later.
pub(crate) fn throttled(retry_after_secs: f32) -> Status {
    use crate::proto::client::{RpcRetryPolicy, RpcStatus};
    use prost::Message;
    let message = "too many calls";
    let detail = prost_types::Any {
        type_url: "type.modal.com/modal.client.RPCRetryPolicy".into(),
        value: RpcRetryPolicy { retry_after_secs }.encode_to_vec(),
    };
    let code = Code::ResourceExhausted;
    let status = RpcStatus { code: code as i32, message: message.into(), details: vec![detail] };
    Status::with_details(code, message, status.encode_to_vec().into())
}
