//! Snapshots while commands run: the files of one moment.

use super::*;

/// Writes a number to one file, then to another, as fast as it can. Whenever it is stopped, they differ by one at most.
const COUNT: &str = "mkdir -p /data; python3 -c \"\n\
    import os\n\
    a = os.open('/data/a', os.O_CREAT | os.O_RDWR); b = os.open('/data/b', os.O_CREAT | os.O_RDWR)\n\
    n = 0\n\
    while True:\n\
    \x20   n += 1\n\
    \x20   os.pwrite(a, b'%012d' % n, 0)\n\
    \x20   os.pwrite(b, b'%012d' % n, 0)\n\
    \x20   if n == 1000: print('up', flush=True)\n\
    \"";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_one_moment_of_commands_that_go_on() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    let mut counters: Vec<Box<dyn Process>> = Vec::new();
    for place in ["data", "more"] {
        let script = COUNT.replace("data", place);
        let mut counter = sandbox.exec(sh(&script)).await.expect("starts");
        assert!(counter.next().await.expect("output").is_some());
        counters.push(counter);
    }
    // One that was stopped before stays so.
    let script = "setsid sh -c 'echo $$ > /data/stopped; kill -STOP $$' & \
        while ! grep -q 'State:.*T' /proc/$(cat /data/stopped)/status; do :; done 2> /dev/null; echo up; read end";
    let mut keeper = sandbox.exec(ExecSpec { stdin: true, ..sh(script) }).await.expect("starts");
    assert!(keeper.next().await.expect("output").is_some());
    let mut last = 0;
    for _ in 0..3 {
        let Snapshot { image, mode } = sandbox.snapshot().await.expect("saved");
        assert_ne!(mode, SnapshotMode::Stacked);
        let copy = provider.open_image(&image).await;
        let seen =
            output(&*copy, "cat /data/a; echo; cat /data/b; echo; cat /more/a; echo; cat /more/b").await;
        let numbers: Vec<u64> = seen.lines().map(|line| line.parse().expect("a number")).collect();
        assert!(numbers[0] - numbers[1] <= 1 && numbers[2] - numbers[3] <= 1, "{numbers:?}");
        assert!(numbers[0] > last, "it has gone on");
        last = numbers[0];
    }
    let state = output(&*sandbox, "grep State: /proc/$(cat /data/stopped)/status").await;
    assert!(state.contains("T (stopped)"), "{state}");
    counters.push(keeper);
    for mut counter in counters {
        counter.kill().await.expect("killed");
    }
    assert_eq!(provider.layers().iter().filter(|layer| layer.starts_with("saved-")).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_come_and_go_are_held_too() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    let script = "mkdir /data; echo up; for i in 1 2 3; do (while :; do (echo x > /data/$i; rm /data/$i; /bin/true); done) & done; wait";
    let mut forks = sandbox.exec(sh(script)).await.expect("starts");
    forks.next().await.expect("output");
    for _ in 0..5 {
        let image = sandbox.snapshot().await.expect("saved").image;
        let copy = provider.open_image(&image).await;
        // What it shows is what it holds: a name without a file would be a torn copy.
        output(&*copy, "cd /data && for f in *; do test ! -e $f || test -f $f; done").await;
    }
    forks.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_the_sandbox_ends_a_long_copy() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    output(&*sandbox, "for i in $(seq 3000); do echo $i > /root/$i; done").await;
    let mut command = sandbox.exec(ExecSpec { stdin: true, ..sh("read end") }).await.expect("starts");
    let (saved, ended) = tokio::join!(sandbox.snapshot(), sandbox.terminate());
    ended.expect("ends");
    assert!(saved.is_ok() || !sandbox.is_open());
    assert!(command.wait().await.is_err());
    let hidden = fs::read_dir(provider.home.path().join("layers")).expect("layers");
    let hidden = hidden.map(|entry| entry.expect("a layer").file_name().into_string().expect("a name"));
    assert_eq!(hidden.filter(|name| name.starts_with(".making")).count(), 0);
}
