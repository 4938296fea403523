//! Bundles to and from a sandbox. What comes out of one is hostile: bounded, read as a pack on standard input, checked
//! object by object, and never checked out.

use super::bare::{Bare, Origin};
use super::bundle::{Header, LONGEST_HEADER};
use super::command::{LOCAL_TIME, Sink};
use super::deliver::FileSink;
use super::local::LocalRepository;
use crate::capability::sandbox::{Chunk, ExecSpec, Process, Sandbox};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

/// Longest that moving a bundle may take.
const TIME: Duration = Duration::from_secs(30 * 60);
/// Most of a command's complaint that is kept, in bytes.
const COMPLAINT: usize = 1024;
/// Most commits that a bundle may build on.
const MOST_NEEDS: usize = 1000;

impl LocalRepository {
    /// See [`super::Repository::send`].
    pub(super) async fn send_bundle(&self, sandbox: &dyn Sandbox, sha: &str, path: &str) -> Result<()> {
        check_path(path)?;
        let bare = self.holding(sha, &[Origin::Fetched, Origin::Received]).await?;
        if let Some(boundary) = bare.boundary() {
            sandbox.write_file(&format!("{path}.shallow"), boundary.as_bytes(), 0o644).await?;
        }
        let write = "mkdir -p -- \"$(dirname -- \"$1\")\" && exec cat > \"$1\"";
        let command = ["sh", "-c", write, "sh", path].map(str::to_owned).to_vec();
        let process = sandbox.exec(ExecSpec { command, stdin: true, ..ExecSpec::default() }).await?;
        let mut upload = Upload(process);
        let work = async {
            let header = Header::text(sha, "refs/heads/harvest-base", &[]);
            upload.take(header.as_bytes()).await?;
            bare.git(LOCAL_TIME)
                .args(["pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset"])
                .input(format!("{sha}\n"))
                .stream(&mut upload)
                .await?
                .success("bundle the commit")?;
            upload.finish(path).await
        };
        in_time(work).await
    }

    /// See [`super::Repository::receive`].
    pub(super) async fn receive_bundle(&self, sandbox: &dyn Sandbox, path: &str) -> Result<String> {
        check_path(path)?;
        let name = format!("bundle-{}", ulid::Ulid::generate());
        let mut file = FileSink::create(self.places.scratch.join(name), self.places.largest_bundle).await?;
        let command = ["cat", "--", path].map(str::to_owned).to_vec();
        let mut process = sandbox.exec(ExecSpec { command, ..ExecSpec::default() }).await?;
        in_time(async {
            let complaint = download(&mut *process, &mut file).await?;
            ended(&mut *process, path, &complaint).await
        })
        .await?;
        drop(process);
        file.flush().await?;
        self.take_bundle(&file).await
    }

    async fn take_bundle(&self, file: &FileSink) -> Result<String> {
        let unreadable = |error: &std::io::Error| CapabilityError::io("read a bundle", error);
        let mut reader = std::fs::File::open(file.path()).map_err(|error| unreadable(&error))?;
        let mut start = Vec::new();
        reader
            .by_ref()
            .take(LONGEST_HEADER as u64)
            .read_to_end(&mut start)
            .map_err(|error| unreadable(&error))?;
        let header = Header::parse(&start)?;
        if header.needs.len() > MOST_NEEDS {
            return Err(CapabilityError::new(
                ErrorKind::TOO_LARGE,
                format!("the bundle builds on more than {MOST_NEEDS} commits; bundle one branch"),
            ));
        }
        reader.seek(SeekFrom::Start(header.length as u64)).map_err(|error| unreadable(&error))?;
        let bare = self.fitting(&header).await?;
        let _lock = bare.lock().await?;
        bare.git(LOCAL_TIME)
            .args(["index-pack", "--stdin", "--fix-thin", "--strict"])
            .args([format!("--max-input-size={}", self.places.largest_bundle)])
            .input_file(reader)
            .run()
            .await?
            .success("take the bundle")?;
        self.check_whole(bare, &header.sha).await?;
        bare.keep(Origin::Received, &header.sha).await?;
        Ok(header.sha)
    }

    /// The copy that has what a bundle builds on, among the commits of this run.
    async fn fitting(&self, header: &Header) -> Result<&Bare> {
        if header.needs.is_empty() {
            // History from its beginning; made whole by itself.
            self.whole().lock().await?;
            return Ok(self.whole());
        }
        for bare in self.copies() {
            let mut all = true;
            for need in &header.needs {
                all = all
                    && (bare.contains(Origin::Fetched, need).await?
                        || bare.contains(Origin::Received, need).await?);
            }
            if all {
                return Ok(bare);
            }
        }
        Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("the bundle builds on {}, which this run has not fetched", header.needs.join(", ")),
        ))
    }

    /// Refuses a commit that is none or whose history has holes.
    async fn check_whole(&self, bare: &Bare, sha: &str) -> Result<()> {
        if bare.commit(sha).await?.as_deref() != Some(sha) {
            return Err(CapabilityError::new(ErrorKind::INVALID, "the bundle's ref leads to no commit"));
        }
        let finished = bare
            .git(LOCAL_TIME)
            .args(["rev-list", "--objects", "--quiet", "--stdin"])
            .input(format!("{sha}\n--not\n--all\n"))
            .run()
            .await?;
        if finished.ok {
            return Ok(());
        }
        Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("the bundle lacks objects of its own commits: {}", finished.words.trim()),
        ))
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(TIME, work).await.unwrap_or_else(|_| {
        let minutes = TIME.as_secs() / 60;
        Err(CapabilityError::new(
            ErrorKind::TIMED_OUT,
            format!("moving a bundle to or from the sandbox took longer than {minutes} minutes"),
        ))
    })
}

fn check_path(path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(CapabilityError::new(ErrorKind::INVALID, format!("{path:?} is no absolute path in the sandbox")))
}

/// Reads all of a command's output into `file` and returns the start of its complaint.
async fn download(process: &mut dyn Process, file: &mut FileSink) -> Result<String> {
    let mut complaint = Vec::new();
    while let Some(chunk) = process.next().await? {
        match chunk {
            Chunk::Stdout(bytes) => file.take(&bytes).await?,
            Chunk::Stderr(bytes) => {
                let room = COMPLAINT.saturating_sub(complaint.len()).min(bytes.len());
                complaint.extend_from_slice(&bytes[..room]);
            }
        }
    }
    Ok(String::from_utf8_lossy(&complaint).into_owned())
}

async fn ended(process: &mut dyn Process, path: &str, complaint: &str) -> Result<()> {
    if process.wait().await?.code() == 0 {
        return Ok(());
    }
    let complaint: String = complaint.trim().chars().filter(|c| !c.is_control()).collect();
    let kind = if complaint.contains("No such file") {
        ErrorKind::NOT_FOUND
    } else if complaint.contains("No space left") {
        ErrorKind::QUOTA
    } else {
        ErrorKind::OTHER
    };
    Err(CapabilityError::new(kind, format!("cannot move the bundle at {path} of the sandbox: {complaint}")))
}

/// A file in the sandbox being written through a command there.
struct Upload(Box<dyn Process>);

impl Upload {
    async fn finish(&mut self, path: &str) -> Result<()> {
        self.0.close_stdin();
        let mut complaint = Vec::new();
        while let Some(chunk) = self.0.next().await? {
            if let Chunk::Stderr(bytes) = chunk {
                let room = COMPLAINT.saturating_sub(complaint.len()).min(bytes.len());
                complaint.extend_from_slice(&bytes[..room]);
            }
        }
        ended(&mut *self.0, path, &String::from_utf8_lossy(&complaint)).await
    }
}

#[async_trait]
impl Sink for Upload {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes).await
    }
}
