//! The messages of Modal's API, made from `proto/modal` when harvest is built.
#![allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated code")]

use std::fmt;

/// Messages of the control plane.
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/modal.client.rs"));
}

/// Messages of the router of a worker.
pub mod task_command_router {
    include!(concat!(env!("OUT_DIR"), "/modal.task_command_router.rs"));
}

/// Prints a message that holds credentials as its name alone.
macro_rules! closed {
    ($($message:ty),+ $(,)?) => {
        $(
            impl fmt::Debug for $message {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(concat!(stringify!($message), " { .. }"))
                }
            }
        )+
    };
}

closed! {
    client::AuthTokenGetResponse,
    client::CommandRouterAccess,
    client::SandboxCreateV2Response,
    client::SandboxGetCommandRouterAccessResponse,
    client::SecretGetOrCreateRequest,
    client::StringMap,
    client::TaskGetCommandRouterAccessResponse,
    task_command_router::TaskExecStartRequest,
}
