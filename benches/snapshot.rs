//! How fast snapshots of an idle sandbox are: `cargo bench --bench snapshot [-- DIR]`, on the disk of DIR (default: the
//! temporary directory). 43,000 files of 557 MB are in the changes of the sandbox; usable means that the image is listed
//! and the sandbox takes commands again. Then a stack of a hundred of them. Without `--bench` all of it is small and runs
//! once, to show that it works.

use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{
    Chunk, ExecSpec, ExitStatus, Sandbox, SandboxProvider, SandboxSpec, SnapshotMode,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let parent = arguments.iter().find(|argument| !argument.starts_with('-'));
    let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
    let home = parent.join(format!("harvest-bench-{}", std::process::id()));
    // (files, bytes of each, snapshots of the large sandbox, snapshots in the stack)
    let (files, size, times, high) = if whole { (43_000, 12_950, 7, 100) } else { (50, 100, 2, 3) };
    let launcher = env!("CARGO_BIN_EXE_harvest").into();
    let provider = LocalProvider::new(&home, launcher, Vec::new()).expect("a provider");
    println!("{:<44}{:>10}{:>10}{:>10}", "", "median", "max", "count");

    let (mut saving, mut usable, mut opening) = (Vec::new(), Vec::new(), Vec::new());
    // What it costs to bring up a sandbox at all, taken in turn: on a busy machine, compare with that.
    let mut starting = Vec::new();
    for number in 0..times {
        let start = Instant::now();
        let sandbox = open(&provider, &format!("large-{number}"), "host").await;
        run(&*sandbox, "true").await;
        starting.push(start.elapsed());
        run(&*sandbox, &fill(files, size)).await;
        let start = Instant::now();
        let snapshot = sandbox.snapshot().await.expect("saved");
        saving.push(start.elapsed());
        run(&*sandbox, "true").await;
        usable.push(start.elapsed());
        assert_eq!(snapshot.mode, SnapshotMode::Stacked);
        let start = Instant::now();
        let copy = open(&provider, &format!("copy-{number}"), &snapshot.image).await;
        run(&*copy, "test -e /data/0/0").await;
        opening.push(start.elapsed());
        drop((sandbox, copy));
        remove_all(&provider).await;
    }
    let what = format!("{files} files, {} MB", files * size / 1_000_000);
    report("a new sandbox has run a command", starting);
    report(&format!("{what}: saved"), saving);
    report(&format!("{what}: saved, and a command has run"), usable);
    report(&format!("{what}: a sandbox from it has run a command"), opening);

    let sandbox = open(&provider, "stack", "host").await;
    let (mut saving, mut last) = (Vec::new(), String::new());
    for number in 0..high {
        run(&*sandbox, &format!("echo {number} > /root/{number}")).await;
        let start = Instant::now();
        last = sandbox.snapshot().await.expect("saved").image;
        saving.push(start.elapsed());
    }
    report(&format!("stack of {high}: saved"), saving);
    let mut opening = Vec::new();
    for number in 0..times {
        let start = Instant::now();
        let copy = open(&provider, &format!("top-{number}"), &last).await;
        run(&*copy, "test -e /root/0").await;
        opening.push(start.elapsed());
    }
    report(&format!("stack of {high}: a sandbox has run a command"), opening);
    drop(sandbox);
    remove_all(&provider).await;
    drop(provider);
    if let Err(error) = std::fs::remove_dir_all(&home) {
        eprintln!("cannot remove {}: {error}", home.display());
    }
}

/// Writes files in directories of a hundred.
fn fill(files: usize, size: usize) -> String {
    format!(
        "python3 -c \"\n\
         import os\n\
         for n in range({files}):\n\
         \x20   if n % 100 == 0: os.makedirs('/data/%d' % (n // 100))\n\
         \x20   open('/data/%d/%d' % (n // 100, n), 'wb').write(b'x' * {size})\n\
         \""
    )
}

async fn open(provider: &LocalProvider, id: &str, image: &str) -> Arc<dyn Sandbox> {
    let spec = SandboxSpec { id: id.into(), image: image.into(), ..SandboxSpec::default() };
    provider.open(spec).await.expect("a sandbox opens")
}

async fn run(sandbox: &dyn Sandbox, script: &str) {
    let command = vec!["sh".into(), "-c".into(), script.into()];
    let exec = ExecSpec { command, ..ExecSpec::default() };
    let mut process = sandbox.exec(exec).await.expect("starts");
    while let Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = process.next().await.expect("output") {
        eprint!("{}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(process.wait().await.expect("an end"), ExitStatus::Code(0), "{script}");
    process.kill().await.expect("gone");
}

async fn remove_all(provider: &LocalProvider) {
    for (id, _) in provider.list().await.expect("listed") {
        provider.remove(&id).await.expect("removed");
    }
    let now = jiff::Timestamp::now();
    let unused = provider.unused_images(now).await.expect("looked");
    provider.collect(&unused, now, false).await.expect("collected");
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let (median, max) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{what:<44}{:>10}{:>10}{:>10}", ms(median), ms(max), took.len());
}
