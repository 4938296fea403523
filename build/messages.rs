//! Turns the messages under `proto/` into Rust, one file a package in `OUT_DIR`. No `protoc` is needed.

use std::path::Path;

const FILES: [&str; 2] = ["modal/client.proto", "modal/task_command_router.proto"];
/// Messages that hold credentials: what prints them is written by hand and shows none.
const CLOSED: [&str; 8] = [
    "modal.client.AuthTokenGetResponse",
    "modal.client.CommandRouterAccess",
    "modal.client.SandboxCreateV2Response",
    "modal.client.SandboxGetCommandRouterAccessResponse",
    "modal.client.SecretGetOrCreateRequest",
    "modal.client.StringMap",
    "modal.client.TaskGetCommandRouterAccessResponse",
    "modal.task_command_router.TaskExecStartRequest",
];

pub(crate) fn generate(proto: &Path, out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", proto.display());
    let files = protox::compile(FILES, [proto]).map_err(|error| format!("proto/: {error}"))?;
    prost_build::Config::new()
        .out_dir(out)
        .bytes(["."])
        .skip_debug(CLOSED)
        .compile_fds(files)
        .map_err(|error| format!("proto/: {error}"))
}
