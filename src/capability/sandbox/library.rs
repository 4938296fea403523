//! What the dynamic loader loads for a program, so that it can run where the host's file tree is not.

use super::local::{ENTRY, Library};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name of a program's loader, and its libraries with the loader among them; nothing for a static program.
pub(super) fn of(program: &Path) -> io::Result<(Option<String>, Vec<Library>)> {
    // With this variable set, the loader lists what it would load and does not start the program. A program without a
    // loader starts, finds no socket, and ends.
    let listed = Command::new(program)
        .arg(ENTRY)
        .env_clear()
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    Ok(parse(&String::from_utf8_lossy(&listed.stdout)))
}

/// Lines are `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` for the loader, or `NAME (ADDRESS)` for what the kernel provides.
fn parse(listed: &str) -> (Option<String>, Vec<Library>) {
    let mut loader = None;
    let mut libraries = Vec::new();
    for line in listed.lines() {
        let Some((line, _)) = line.trim().rsplit_once(" (") else { continue };
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if !path.starts_with('/') {
            continue;
        }
        let path = PathBuf::from(path);
        let file = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(file) = file else { continue };
        // The loader is the one that is not looked up by name.
        if name.starts_with('/') {
            loader = Some(file.clone());
        }
        libraries.push(Library { name: file, path });
    }
    (loader, libraries)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_loader_is_told_from_what_it_loads() {
        let (loader, libraries) = parse(
            "\tlinux-vdso.so.1 (0x00007ffd1)\n\
             \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f1)\n\
             \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f3)\n",
        );
        assert_eq!(loader.as_deref(), Some("ld-linux-x86-64.so.2"));
        let names: Vec<_> = libraries.iter().map(|library| library.name.as_str()).collect();
        assert_eq!(names, ["libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"]);
        assert_eq!(parse("\tstatically linked\n"), (None, Vec::new()));
    }
}
