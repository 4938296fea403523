//! A sandbox with no walls: commands run as they are. The git capability needs no more of a sandbox than that it runs
//! commands; what holds them in is tested where sandboxes are.

use async_trait::async_trait;
use bytes::Bytes;
use harvest::capability::Result;
use harvest::capability::meter::Account;
use harvest::capability::sandbox::{
    Chunk, Credential, ExecSpec, ExitStatus, Isolation, Process, Sandbox, Snapshot,
};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

pub(crate) struct Tree;

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

#[async_trait]
impl Process for Running {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        let mut piece = vec![0; 64 << 10];
        if let Some(stdout) = &mut self.stdout {
            let length = stdout.read(&mut piece).await.unwrap();
            if length > 0 {
                return Ok(Some(Chunk::Stdout(Bytes::copy_from_slice(&piece[..length]))));
            }
            self.stdout = None;
        }
        if let Some(stderr) = &mut self.stderr {
            let length = stderr.read(&mut piece).await.unwrap();
            if length > 0 {
                return Ok(Some(Chunk::Stderr(Bytes::copy_from_slice(&piece[..length]))));
            }
            self.stderr = None;
        }
        Ok(None)
    }

    async fn write(&mut self, data: &[u8]) -> Result<()> {
        self.stdin.as_mut().unwrap().write_all(data).await.unwrap();
        Ok(())
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
    }

    async fn signal(&mut self, _: i32) -> Result<()> {
        unreachable!("git needs no signals")
    }

    async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.unwrap();
        Ok(())
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.unwrap();
        Ok(status.code().map_or_else(|| ExitStatus::Signal(status.signal().unwrap()), ExitStatus::Code))
    }
}

#[async_trait]
impl Sandbox for Tree {
    fn id(&self) -> &str {
        "tree"
    }

    fn is_open(&self) -> bool {
        true
    }

    fn isolation(&self) -> Isolation {
        unreachable!("nothing asks")
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        let mut child = Command::new(&spec.command[0])
            .args(&spec.command[1..])
            .envs(&spec.env)
            .stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Box::new(Running { child, stdin, stdout, stderr }))
    }

    async fn read_file(&self, path: &str, _: u64) -> Result<Bytes> {
        Ok(std::fs::read(path).unwrap().into())
    }

    async fn write_file(&self, path: &str, content: &[u8], _: u32) -> Result<()> {
        std::fs::write(path, content).unwrap();
        Ok(())
    }

    async fn forward(
        &self,
        _: &str,
        _: Vec<Credential>,
        _: Option<std::sync::Arc<Account>>,
    ) -> Result<String> {
        unreachable!("git needs no gateway")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        unreachable!("git needs no image")
    }

    async fn terminate(&self) -> Result<()> {
        Ok(())
    }
}
