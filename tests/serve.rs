//! `harvest serve`: whatever begins is driven, whatever is killed goes on, and what waits costs nothing.

mod harness;

use harness::{Home, Running, processes_with, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// A server of a home, ended with the test.
struct Server {
    child: Child,
    address: String,
    said: BufReader<std::process::ChildStderr>,
}

impl Server {
    fn start(home: &Home) -> Self {
        let mut command = home.harvest();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, address, said }
    }

    /// Reads what it says until one line holds this.
    fn wait_until_said(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended before it said {words:?}");
            if line.contains(words) {
                return line;
            }
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A step that works, a question, and another that finds what the first has left. The marker is in a command line.
fn asking(home: &Home, marker: &str) -> PathBuf {
    home.file(
        "asking.yaml",
        &format!(
            "harvest: 1
name: asking
steps:
  before:
    uses: exec/run
    with: {{ command: [sh, -c, 'echo {marker} >> /root/left'] }}
  review:
    needs: [before]
    approve: {{ message: \"Go on?\" }}
  after:
    needs: [review]
    uses: exec/run
    with: {{ command: [cat, /root/left] }}
outputs:
  left: \"${{{{ steps.after.stdout }}}}\"
"
        ),
    )
}

fn detached(home: &Home, file: &PathBuf) -> String {
    let output = home.harvest().args(["run", "--detach"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Sandboxes of this home that have processes: they hold a lock as long as they do.
fn sandboxes_of(home: &Home) -> usize {
    let Ok(entries) = std::fs::read_dir(home.path().join("sandboxes")) else { return 0 };
    let locks = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "lock"));
    let held = |path: &PathBuf| {
        std::fs::File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
    };
    locks.filter(held).count()
}

#[test]
fn a_detached_run_is_handed_over_waits_without_a_process_and_goes_on_when_answered() {
    let home = Home::new();
    let mut server = Server::start(&home);
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200") && server.get("/readyz").contains("ready"));
    let run = detached(&home, &asking(&home, "one"));
    assert!(server.wait_until_said("begins").contains(&run));
    server.wait_until_said(&format!("run {run} asks: Go on?: `harvest approve {run} 'review'`"));
    // Its sandbox ends when it is put aside, a moment after it has asked.
    while sandboxes_of(&home) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "waiting");
    let approved = home.run(&["approve", &run, "review"]);
    assert_eq!(text(&approved.stderr).trim(), format!("approved review of run {run}"));
    server.wait_until_said(&format!("run {run} (asking) succeeded"));
    assert_eq!(home.json(&["show", &run, "--json"])["outputs"]["left"], "one\n");
}

#[test]
fn what_a_killed_process_left_goes_on_by_itself() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let file = home.file(
        "hangs.yaml",
        "harvest: 1\nname: hangs\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sh, -c, 'if ! [ -e /root/tried ]; then touch /root/tried; echo hanging; sleep 71.41; fi; echo done'] }\n",
    );
    let mut running = home.start(&file);
    let run = running.wait_for("step_started", Some("a"))["run"].as_str().unwrap().to_owned();
    home.wait_until_said(&run, "hanging");
    running.kill();
    server.wait_until_said(&format!("run {run} (hangs) goes on"));
    server.wait_until_said(&format!("run {run} (hangs) succeeded"));
    assert_eq!(processes_with("71.41"), Vec::<String>::new());
}

#[test]
fn a_killed_server_loses_nothing_and_the_next_one_goes_on() {
    let home = Home::new();
    let mut first = Server::start(&home);
    let waiting = detached(&home, &asking(&home, "two"));
    first.wait_until_said("asks");
    let file = home.file(
        "works.yaml",
        "harvest: 1\nname: works\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sh, -c, 'if ! [ -e /root/tried ]; then touch /root/tried; echo hanging; sleep 71.42; fi; echo done'] }\n",
    );
    let working = detached(&home, &file);
    home.wait_until_said(&working, "hanging");
    assert!(sandboxes_of(&home) > 0, "one at work has its sandbox");
    first.kill();
    let approved = home.run(&["approve", &waiting, "review"]);
    assert!(text(&approved.stderr).contains("`harvest resume`"), "nobody drives it now");
    let mut second = Server::start(&home);
    let mut ended = [waiting.clone(), working.clone()].map(|run| (run, false));
    while ended.iter().any(|(_, done)| !done) {
        let line = second.wait_until_said("succeeded");
        ended.iter_mut().filter(|(run, _)| line.contains(run.as_str())).for_each(|(_, done)| *done = true);
    }
    assert_eq!(home.json(&["show", &waiting, "--json"])["outputs"]["left"], "two\n", "`before` ran once");
    assert_eq!(
        home.json(&["show", &working, "--json"])["steps"]["a"]["attempts"][0]["error"]["kind"],
        "host-lost"
    );
}

#[test]
fn a_cancelled_run_that_waits_is_ended_with_its_files() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let run = detached(&home, &asking(&home, "three"));
    server.wait_until_said("asks");
    assert_eq!(text(&home.run(&["cancel", &run]).stderr).trim(), format!("run {run} was asked to stop"));
    server.wait_until_said(&format!("run {run} (asking) cancelled"));
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "cancelled");
}

#[test]
fn one_server_at_a_time_and_a_signal_leaves_runs_as_they_are() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let second = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(4));
    assert!(text(&second.stderr).contains("another `harvest serve` works on"), "{}", text(&second.stderr));
    let run = detached(&home, &asking(&home, "four"));
    server.wait_until_said("asks");
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(home.json(&["show", &run, "--json"])["state"], "waiting");
    // Without a server, what is detached gets a process of its own again.
    let quick = home.file(
        "quick.yaml",
        "harvest: 1\nname: quick\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [echo, hi] }\n",
    );
    let quick = detached(&home, &quick);
    assert!(text(&home.run(&["logs", "-f", &quick]).stdout).contains("a | hi"));
    home.run(&["cancel", &run]);
}

#[test]
fn a_run_that_lacks_a_secret_is_named_and_tried_again() {
    let home = Home::new();
    let secret = home.file(
        "secret.yaml",
        "harvest: 1\nname: secret\nsecrets: { token: { from: env:HARVEST_TEST_LACKING } }\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sleep, '71.43'] }\n    secrets: { TOKEN: token }\n",
    );
    let mut command = home.harvest();
    command.env("HARVEST_TEST_LACKING", "value-of-it").args(["run", "--json"]).arg(secret);
    let mut lacking = Running::of(command);
    let run = lacking.wait_for("step_started", Some("a"))["run"].as_str().unwrap().to_owned();
    lacking.kill();
    let mut server = Server::start(&home);
    let said = server.wait_until_said("cannot go on");
    assert!(said.contains(&run) && said.contains("secret `token` has no value"), "{said}");
    assert!(said.contains("; tried again at "), "{said}");
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    home.run(&["cancel", &run]);
    server.wait_until_said(&format!("run {run} (secret) cancelled"));
}
