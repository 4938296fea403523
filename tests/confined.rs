//! What a workflow file says of the network and the limits of its sandboxes, carried out by the real binary.

mod harness;

use harness::{Home, text};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

/// An address of this machine that sandboxes do not take for their own loopback.
const HERE: &str = "127.0.0.2";

/// A server at that address that answers everything with `here`.
fn server() -> u16 {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nhere")
                .unwrap();
        }
    });
    port
}

/// Asks for a URL; fails where that is refused.
fn fetch(port: u16) -> String {
    format!(
        "exec python3 -c \"import urllib.request; print(urllib.request.urlopen('http://{HERE}:{port}/').read().decode())\""
    )
}

fn workflow(home: &Home, name: &str, rest: &str) -> PathBuf {
    home.file(&format!("{name}.yaml"), &format!("harvest: 1\nname: {name}\n{rest}"))
}

fn error(last: &Value) -> (&str, &str) {
    (
        last["error"]["kind"].as_str().unwrap_or_default(),
        last["error"]["message"].as_str().unwrap_or_default(),
    )
}

#[test]
fn a_step_has_a_network_of_its_own_while_it_works() {
    let (home, port) = (Home::new(), server());
    let fetch = fetch(port);
    let file = workflow(
        &home,
        "phases",
        &format!(
            r#"steps:
  install:
    uses: exec/run
    network: {{ allow: ["{HERE}:{port}"] }}
    with: {{ command: [sh, -c, {fetch:?}] }}
  work:
    uses: exec/run
    needs: [install]
    with: {{ command: [sh, -c, {fetch:?}] }}
"#
        ),
    );
    let (code, last) = home.finish(&file, &[]);
    assert_eq!(code, 1, "{last}");
    let run = last["run"].as_str().unwrap();
    let shown = home.json(&["show", run, "--json"]);
    assert_eq!(shown["steps"]["install"]["outputs"]["stdout"], "here\n");
    // What to write is in the error, and each refused connection in the log.
    let (kind, message) = error(&last);
    assert_eq!(kind, "exited");
    let hint = format!("write in the sandbox `box`: network: {{ allow: [\"{HERE}:{port}\"] }}");
    assert!(message.contains(&hint), "{message}");
    let logs = text(&home.run(&["logs", run, "work"]).stdout);
    let refused = format!("work | sandbox `box` refused a connection to {HERE}:{port}: ");
    assert!(logs.contains(&refused), "{logs}");
    let plan = text(&home.run(&["check", "--plan", file.to_str().unwrap()]).stdout);
    assert!(
        plan.contains(&format!("  reaches meanwhile: network {{\"allow\":[\"{HERE}:{port}\"]}}")),
        "{plan}"
    );
    let entries = text(&home.run(&["logs", run, "install", "--isolation", "--json"]).stdout);
    assert!(entries.contains("\"isolation\":{\"ids\":\""), "{entries}");
}

#[test]
fn each_destination_is_told_of_once() {
    let home = Home::new();
    let script = "for n in 1 2 3; do for to in a.example b.example:8080; do python3 -c \
                  \"import urllib.request; urllib.request.urlopen('http://$to/')\" 2>/dev/null; done; done; exit 3";
    let file = workflow(
        &home,
        "once",
        &format!(
            r#"sandboxes:
  box: {{ network: {{ allow: ["*.example.org"] }} }}
steps:
  look:
    uses: exec/run
    with: {{ command: [sh, -c, {script:?}] }}
"#
        ),
    );
    let (code, last) = home.finish(&file, &[]);
    let (_, message) = error(&last);
    assert_eq!(code, 1, "{last}");
    let line = "network: { allow: [\"*.example.org\", a.example, \"b.example:8080\"] }";
    assert!(message.ends_with(line), "{message}");
    let logs = text(&home.run(&["logs", last["run"].as_str().unwrap()]).stdout);
    assert_eq!(logs.matches("refused a connection").count(), 2, "{logs}");
    // The line is one that the file takes.
    let mended =
        std::fs::read_to_string(&file).unwrap().replace("network: { allow: [\"*.example.org\"] }", line);
    std::fs::write(&file, mended).unwrap();
    assert_eq!(home.run(&["check", file.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn a_step_that_is_killed_at_a_limit_fails_with_the_line_to_write() {
    let home = Home::new();
    let hog = "exec python3 -c 'import time; x = bytearray(400 << 20); time.sleep(1000)'";
    let fill = "dd if=/dev/zero of=/root/file bs=1M count=300 2>/dev/null; sleep 1000";
    for (limit, script, expected) in
        [("memory", hog, "write `memory: 200MiB`"), ("disk", fill, "write `disk: 200MiB`")]
    {
        let file = workflow(
            &home,
            limit,
            &format!(
                "sandboxes:\n  box: {{ {limit}: 100MiB }}\nsteps:\n  a:\n    uses: exec/run\n    with: {{ command: [sh, -c, {script:?}] }}\n"
            ),
        );
        let (code, last) = home.finish(&file, &[]);
        let (kind, message) = error(&last);
        assert_eq!((code, kind), (1, "quota"), "{last}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_this_machine_cannot_hold_is_refused_before_anything_runs() {
    let home = Home::new();
    let demanding = "sandboxes:\n  box: { disk: 1GiB, require: { disk: quota } }\nsteps:\n  a: { uses: exec/run, with: { command: [\"true\"] } }\n";
    let file = workflow(&home, "demanding", demanding);
    workflow(&home, "outer", "steps:\n  a: { uses: ./demanding.yaml }\n");
    for name in ["demanding", "outer"] {
        let file = home.scratch().join(format!("{name}.yaml"));
        let refused = home.run(&["run", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(4));
        let said = text(&refused.stderr);
        assert!(
            said.contains(
                "demanding: sandbox `box`: it requires `disk: quota`, and here it would be `watchdog`"
            ) && said.contains("write `require: { disk: watchdog }`"),
            "{said}"
        );
    }
    assert_eq!(text(&home.run(&["runs", "--json"]).stdout).trim(), "[]", "nothing has begun");
    let plan = text(&home.run(&["check", "--plan", file.to_str().unwrap()]).stdout);
    assert!(plan.contains("a run would end with exit code 4: it requires `disk: quota`"), "{plan}");
    // Runs that only try their workflow out open no sandbox.
    let answers = home.file("answers.yaml", "a: { outputs: { exit_code: 0, stdout: '', stderr: '' } }\n");
    assert_eq!(home.finish(&file, &["--mock", answers.to_str().unwrap()]).0, 0);

    let modest = "sandboxes:\n  box: { disk: 1GiB, require: { disk: watchdog, ids: emulated, pids: rlimit, provider: local } }\nsteps:\n  a: { uses: exec/run, with: { command: [\"true\"] } }\n";
    assert_eq!(home.finish(&workflow(&home, "modest", modest), &[]).0, 0);
}
