//! Requests about files and ports, served by a process inside the sandbox: paths and links resolve in its own tree, with
//! its own rights, so nothing that a sandbox plants can lead to a file of the host.

use super::super::plan::{FilePath, Listen, Reply};
use super::super::wire;
use super::Failure;
use crate::step::ErrorKind;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn parts(fds: &[OwnedFd]) -> Result<(FilePath, &OwnedFd, File), Failure> {
    let [details, host, content] = fds else {
        return Err(Failure::new(ErrorKind::INVALID, "a file request came without its content"));
    };
    let details = wire::recall(details).map_err(|error| Failure::io("read the request", error))?;
    let content = content.try_clone().map_err(|error| Failure::io("read the request", error))?;
    Ok((details, host, content.into()))
}

fn done(host: &OwnedFd, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), Failure> {
    wire::send(host.as_fd(), &Reply::Done, fds).map_err(|error| Failure::io("answer the host", error))
}

/// Copies a file of the sandbox into the memory file.
pub(super) fn read(fds: &[OwnedFd]) -> Result<(), Failure> {
    let (request, host, mut content) = parts(fds)?;
    let path = &request.path;
    let failed = |error: io::Error| Failure::io(format!("read {path} in the sandbox"), error);
    // Without O_NONBLOCK, opening a pipe would wait for a writer that never comes.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::new(ErrorKind::INVALID, format!("{path} in the sandbox is not a regular file")));
    }
    let copied = io::copy(&mut file.take(request.limit.saturating_add(1)), &mut content).map_err(failed)?;
    if copied > request.limit {
        return Err(Failure::new(
            ErrorKind::TOO_LARGE,
            format!("{path} in the sandbox is larger than the limit of {} bytes", request.limit),
        ));
    }
    done(host, &[])
}

/// Writes a file of the sandbox from the memory file: whole, or not at all.
pub(super) fn write(fds: &[OwnedFd]) -> Result<(), Failure> {
    let (request, host, mut content) = parts(fds)?;
    let failed = |error: io::Error| Failure::io(format!("write {} in the sandbox", request.path), error);
    // A link stays a link: what it points to is replaced, as with a plain write.
    let path = fs::canonicalize(&request.path).unwrap_or_else(|_| PathBuf::from(&request.path));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::new(ErrorKind::INVALID, format!("{} names no file", request.path)));
    };
    if path.is_dir() {
        return Err(Failure::new(
            ErrorKind::INVALID,
            format!("{} in the sandbox is a directory", request.path),
        ));
    }
    fs::create_dir_all(parent).map_err(failed)?;
    let temporary = Path::new(parent).join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(request.mode & 0o7777)
            .open(&temporary)?;
        content.seek(SeekFrom::Start(0))?;
        io::copy(&mut (&mut content).take(u64::MAX), &mut file)?;
        file.flush()?;
        // The umask has taken bits off the mode at creation.
        file.set_permissions(fs::Permissions::from_mode(request.mode & 0o7777))?;
        fs::rename(&temporary, &path)
    })();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written.map_err(failed)?;
    done(host, &[])
}

/// Listens on the sandbox's loopback and hands the socket to the host.
pub(super) fn listen(fds: &[OwnedFd]) -> Result<(), Failure> {
    let [details, host] = fds else {
        return Err(Failure::new(ErrorKind::INVALID, "a listen request came with extra descriptors"));
    };
    let request: Listen = wire::recall(details).map_err(|error| Failure::io("read the request", error))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, request.port)).map_err(|error| {
        Failure::io(format!("listen on 127.0.0.1:{} in the sandbox", request.port), error)
    })?;
    done(host, &[listener.as_fd()])
}
