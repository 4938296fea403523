//! Commands: their ends, their number, and the end of everything that they started.

use super::contract::sandbox::{collect, open, output, run, sh};
use super::local;
use harvest::capability::sandbox::{ExecSpec, ExitStatus, Sandbox};
use std::time::{Duration, Instant};

/// Commands that run at once.
const MANY: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn every_code_and_signal_is_told() {
    let provider = local();
    let sandbox = open(&*provider).await;
    for code in [0, 1, 2, 126, 127, 128, 137, 255] {
        assert_eq!(run(&*sandbox, sh(&format!("exit {code}"))).await.status, ExitStatus::Code(code));
    }
    // Those that end a process by default; with a core dump, and of the kernel's own kind too.
    for signal in [1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 24, 31, 34, 64] {
        let status = run(&*sandbox, sh(&format!("kill -{signal} $$"))).await.status;
        assert_eq!((status, status.code()), (ExitStatus::Signal(signal), 128 + signal));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_three_streams_and_nothing_else() {
    let provider = local();
    let sandbox = open(&*provider).await;
    // The directory that the shell lists is closed when its entry is read.
    let script = "for fd in /proc/self/fd/*; do l=$(readlink $fd) && echo ${fd##*/} ${l%%:*}; done; umask; ulimit -c; ulimit -n";
    let mut process = sandbox.exec(ExecSpec { stdin: true, ..sh(script) }).await.expect("starts");
    process.close_stdin();
    assert_eq!(collect(process).await.stdout, "0 pipe\n1 pipe\n2 pipe\n0022\n0\n1024\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_sandboxes_go_before_the_host() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let inside: i32 = output(&*sandbox, "cat /proc/self/oom_score_adj").await.trim().parse().unwrap();
    assert!(inside == 500 && own < inside, "{own} here, {inside} inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_commands_run_at_once() {
    let provider = local();
    let sandbox = open(&*provider).await;
    // Each waits until all have started: none of them can end before the last one runs.
    output(&*sandbox, "mkfifo /tmp/gate; mkdir /tmp/up").await;
    let commands = (0..MANY).map(|number| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move {
            let script = format!(": > /tmp/up/{number}; read go < /tmp/gate; echo {number}");
            sandbox.exec(sh(&script)).await
        })
    });
    let mut running = Vec::new();
    for command in commands.collect::<Vec<_>>() {
        running.push(command.await.expect("no panic").expect("starts"));
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while output(&*sandbox, "ls /tmp/up | wc -l").await.trim() != MANY.to_string() {
        assert!(Instant::now() < deadline, "all of them come up");
    }
    output(&*sandbox, "exec 3<> /tmp/gate; for n in $(seq 1000); do echo go >&3; done; while :; do read -t 0 x <&3 || break; done").await;
    for (number, process) in running.into_iter().enumerate() {
        let output = collect(process).await;
        assert_eq!((output.stdout, output.status), (format!("{number}\n"), ExitStatus::Code(0)));
    }
}

/// Processes in a sandbox, those that count included: by the names of directories, for a process that lives a few
/// milliseconds is gone before more can be read of it.
async fn count(sandbox: &dyn Sandbox) -> usize {
    output(sandbox, "ls /proc | grep -c '^[0-9]'").await.trim().parse().expect("a number")
}

/// Chains of processes that each live for a moment, ignore every signal that can be ignored, and leave a child in a session
/// of its own: nobody can name them all at any time. Not so many a second that a busy machine cannot bury them in time, for
/// then the sandbox is at its limit of processes and starts no command that counts them.
fn bomb() -> ExecSpec {
    let script = "import os, signal, sys, time\n\
         for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT): signal.signal(s, signal.SIG_IGN)\n\
         for chain in range(20):\n\
         \x20   if os.fork() == 0:\n\
         \x20       while True:\n\
         \x20           if os.fork() != 0: os._exit(0)\n\
         \x20           os.setsid(); time.sleep(0.02)\n\
         print('up', flush=True)\n\
         time.sleep(1000)".to_owned();
    ExecSpec { command: vec!["python3".into(), "-c".into(), script], ..ExecSpec::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_that_forks_on_is_killed_whole_and_its_neighbours_are_not() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let mut neighbour = sandbox
        .exec(ExecSpec { stdin: true, ..sh("while read line; do echo $line; done # neighbour") })
        .await
        .expect("starts");
    let before = count(&*sandbox).await;
    for end in [End::Killed, End::Dropped] {
        let mut process = sandbox.exec(bomb()).await.expect("starts");
        process.next().await.expect("output");
        assert!(count(&*sandbox).await >= before + 10);
        match end {
            End::Killed => {
                process.kill().await.expect("killed");
                assert_eq!(process.wait().await, Ok(ExitStatus::Signal(9)));
            }
            End::Dropped => drop(process),
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while count(&*sandbox).await > before {
            assert!(Instant::now() < deadline, "something survives");
        }
        neighbour.write(b"alive\n").await.expect("written");
        assert!(neighbour.next().await.expect("output").is_some(), "the neighbour answers");
    }
}

/// How a command is ended.
#[derive(Clone, Copy)]
enum End {
    Killed,
    Dropped,
}

/// The kernel ends what asked to go with its parent when the parent's *thread* ends, and a runtime ends idle threads.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_outlives_the_thread_that_opened_it() {
    let provider = local();
    let handle = tokio::runtime::Handle::current();
    let provider = &provider;
    let (thread, sandbox) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let open = || (rustix::thread::gettid(), handle.block_on(open(&**provider)));
            scope.spawn(open).join().expect("no panic")
        })
    });
    let task = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::path::Path::new(&task).exists() {
        assert!(Instant::now() < deadline, "the thread ends");
    }
    assert_eq!(output(&*sandbox, "echo alive").await, "alive\n");
    assert!(sandbox.is_open());
}
