//! What runs that only wait cost a server: `cargo bench --bench waiting [RUNS]`. Half of them wait for a person, half for
//! a time as well. Prints resident memory with nothing to do and with all of them, and how long taking them up takes.

use harvest::id::RunId;
use harvest::journal::{Journal, Record, RunRow, SqliteJournal};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs where none are asked for.
const RUNS: usize = 10_000;
/// Runs in the journal that are written at a time.
const AT_ONCE: usize = 500;

const WORKFLOW: &str = "harvest: 1
name: waiting
inputs: { subject: { type: string, default: a subject that somebody wrote } }
steps:
  review:
    approve: { message: \"Shall ${{ inputs.subject }} go on?\", TIMEOUT }
  after:
    needs: [review]
    uses: exec/run
    with: { command: [echo, \"${{ inputs.subject }}\"] }
";

fn main() {
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(RUNS);
    let home = tempfile::tempdir().expect("a directory");
    let idle = Server::start(home.path());
    std::thread::sleep(Duration::from_secs(2));
    println!("idle server: {} KiB", idle.resident());
    drop(idle);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(fill(home.path(), runs));
    let begun = Instant::now();
    let mut server = Server::start(home.path());
    let mut asked = 0;
    while asked < runs {
        let mut line = String::new();
        assert_ne!(server.said.read_line(&mut line).expect("a line"), 0, "the server ended");
        asked += usize::from(line.contains(" asks: "));
    }
    println!("{runs} runs taken up in {:?}", begun.elapsed());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(2));
        println!("with {runs} waiting: {} KiB, {} ms of CPU", server.resident(), server.cpu_ms());
    }
}

/// Makes two runs that wait, and all the others after their model.
async fn fill(home: &Path, runs: usize) {
    let models = ["timeout: 720h", ""].map(|timeout| waiting(home, timeout));
    let journal = SqliteJournal::open(home).expect("a journal");
    let mut kinds = Vec::new();
    for run in models {
        let records = journal.read(&run, 0, 100).await.expect("records");
        kinds.push((records, journal.row(&run).await.expect("a row").expect("a row")));
    }
    let more: Vec<(Vec<Record>, RunRow)> = (2..runs)
        .map(|n| {
            let (records, row) = kinds[n % 2].clone();
            (records, RunRow { run: RunId::generate(), ..row })
        })
        .collect();
    for some in more.chunks(AT_ONCE) {
        let appends =
            some.iter().map(|(records, row)| journal.append(&row.run, 0, records.clone(), row.clone()));
        for appended in futures_util::future::join_all(appends).await {
            appended.expect("an append");
        }
    }
}

/// A run that asks and whose process is gone.
fn waiting(home: &Path, timeout: &str) -> RunId {
    let file = home.join("waiting.yaml");
    let text = WORKFLOW
        .replace(", TIMEOUT", &if timeout.is_empty() { String::new() } else { format!(", {timeout}") });
    std::fs::write(&file, text).expect("a file");
    let mut run =
        harvest(home).args(["run", "--json"]).arg(&file).stdout(Stdio::piped()).spawn().expect("a run");
    let lines = BufReader::new(run.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let asked = lines.into_iter().find(|line| line.contains("approval_requested")).expect("a question");
    run.kill().and_then(|()| run.wait()).expect("its end");
    let asked: serde_json::Value = serde_json::from_str(&asked).expect("JSON");
    RunId::new(asked["run"].as_str().expect("an id"))
}

fn harvest(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harvest"));
    command.arg("--home").arg(home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

struct Server {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Server {
    fn start(home: &Path) -> Self {
        let mut command = harvest(home);
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a server");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        stdout.read_line(&mut line).expect("its address");
        let said = BufReader::new(child.stderr.take().expect("its talk"));
        Self { child, said }
    }

    fn proc(&self, file: &str) -> String {
        let mut text = String::new();
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("a process");
        text
    }

    /// KiB of memory.
    fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Milliseconds of CPU, at 100 ticks a second.
    fn cpu_ms(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap_or(0) * 10).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
