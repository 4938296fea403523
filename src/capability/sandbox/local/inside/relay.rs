//! Connections to a port of a sandbox whose kernel can take descriptors from the host and give none: gVisor. For each
//! connection the host sends one end of a socket pair, and threads here pass the bytes on.

use super::super::plan::{Listen, Reply};
use super::super::wire;
use super::Failure;
use crate::step::ErrorKind;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes passed on at a time.
const BUFFER: usize = 64 << 10;

/// Listens on the sandbox's loopback, for as long as the host keeps the socket of the request.
pub(super) fn listen(fds: &[OwnedFd]) -> Result<(), Failure> {
    let [details, host] = fds else {
        return Err(Failure::new(ErrorKind::INVALID, "a listen request came with extra descriptors"));
    };
    let request: Listen = wire::recall(details).map_err(|error| Failure::io("read the request", error))?;
    let failed =
        |error: io::Error| Failure::io(format!("listen on 127.0.0.1:{} in the sandbox", request.port), error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, request.port)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    wire::send(host.as_fd(), &Reply::Listening { port }, &[])
        .map_err(|error| Failure::io("answer the host", error))?;
    // The host's end closes with the sandbox; a process that waits for a connection then ends with all others.
    while let Ok((inside, _)) = listener.accept() {
        if wire::send(host.as_fd(), &Reply::Connection, &[]).is_err() {
            break;
        }
        let Ok(Some(((), mut received))) = wire::receive::<()>(host.as_fd()) else { break };
        let Some(outside) = received.pop() else { continue };
        // Without a thread, the connection is closed: the sandbox has too many processes.
        drop(std::thread::Builder::new().spawn(move || pass_on(inside, outside.into())));
    }
    Ok(())
}

fn pass_on(inside: TcpStream, outside: UnixStream) {
    let _ = inside.set_nodelay(true);
    let (Ok(inside_too), Ok(outside_too)) = (inside.try_clone(), outside.try_clone()) else { return };
    let back = std::thread::Builder::new().spawn(move || {
        copy(outside_too, &inside_too);
        let _ = inside_too.shutdown(Shutdown::Write);
    });
    if back.is_ok() {
        copy(inside, &outside);
        let _ = outside.shutdown(Shutdown::Write);
    }
}

/// Copies until the end or an error of either side, which closes the other.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
