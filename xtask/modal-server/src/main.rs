//! The server, to be used by hand: `modal-server [--port N] [--directory DIR] [--open-port N] [--image REFERENCE=IMAGE]...`.
//! It prints what to export, and serves until standard input ends. An open port is one of this machine that sandboxes reach,
//! for a model that answers there.

use harvest::capability::sandbox::local;
use modal_server::Server;
use std::io::Read;
use std::process::ExitCode;

const USAGE: &str =
    "usage: modal-server [--port N] [--directory DIR] [--open-port N] [--image REFERENCE=IMAGE]...";

fn main() -> ExitCode {
    // The first processes of a sandbox are this binary too.
    if std::env::args_os().nth(1).is_some_and(|first| first == local::ENTRY) {
        local::sandbox_main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut open = None;
    let (mut port, mut directory) = (0, std::env::temp_dir().join("modal-server"));
    let mut images = vec![("debian:bookworm-slim".to_owned(), "host".to_owned())];
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match &*option {
            "--port" => port = value.parse().map_err(|_| USAGE)?,
            "--open-port" => open = Some(value.parse().map_err(|_| USAGE)?),
            "--directory" => directory = value.into(),
            "--image" => {
                let (reference, image) = value.split_once('=').ok_or(USAGE)?;
                images.push((reference.into(), image.into()));
            }
            _ => return Err(USAGE.into()),
        }
    }
    let mut builder = Server::builder(directory, "/proc/self/exe").token("ak-test", "as-test").port(port);
    if let Some(open) = open {
        builder = builder.open_port(open);
    }
    for (reference, image) in &images {
        builder = builder.image(reference, image);
    }
    let server = builder.start().map_err(|error| format!("cannot start the server: {error}"))?;
    println!("export MODAL_SERVER_URL={} MODAL_TOKEN_ID=ak-test MODAL_TOKEN_SECRET=as-test", server.url());
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    for request in server.requests() {
        eprintln!("{}", request.rpc);
    }
    Ok(())
}
