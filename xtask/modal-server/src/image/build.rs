//! Builds an image, command by command.

use super::Content;
use super::dockerfile::{Instruction, Words, expand, parse};
use crate::cloud::{Cloud, fresh_id};
use crate::proto::client::Image as Definition;
use harvest::capability::CapabilityError;
use harvest::capability::sandbox::{
    BuildLog, Chunk, ExecSpec, ExitStatus, ImageSpec, Network, Sandbox, SandboxProvider, SandboxSpec,
};
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::path::Path;

/// The PATH that images have which set none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of output quoted when a command fails.
const QUOTE_LIMIT: usize = 4 << 10;

/// What is known while an image is built.
struct Build<'a> {
    cloud: &'a Cloud,
    definition: &'a Definition,
    secrets: BTreeMap<String, Secret>,
    /// Whether commands run again that ran before.
    fresh: bool,
    log: BuildLog,
    args: BTreeMap<String, String>,
    content: Content,
}

/// Builds an image. The error is for the client, with the output of the command that failed.
pub(super) async fn run(
    cloud: &Cloud,
    definition: &Definition,
    secrets: BTreeMap<String, Secret>,
    fresh: bool,
    log: BuildLog,
) -> Result<Content, String> {
    let instructions = parse(&definition.dockerfile_commands)?;
    let (args, content) = (BTreeMap::new(), Content::default());
    let mut build = Build { cloud, definition, secrets, fresh, log, args, content };
    for instruction in instructions {
        build.instruction(instruction).await?;
    }
    if build.content.local.is_empty() {
        return Err("an image begins with FROM".into());
    }
    Ok(build.content)
}

fn said(error: CapabilityError) -> String {
    error.message
}

impl Build<'_> {
    async fn instruction(&mut self, instruction: Instruction) -> Result<(), String> {
        if self.content.local.is_empty()
            && !matches!(instruction, Instruction::From(_) | Instruction::Arg(..))
        {
            return Err("an image begins with FROM".into());
        }
        match instruction {
            Instruction::From(reference) => self.content = self.base(&self.expanded(&reference)).await?,
            Instruction::Run(words) => self.run(&words).await?,
            Instruction::Env(pairs) => {
                for (name, value) in pairs {
                    let value = self.expanded(&value);
                    self.content.env.insert(name, value);
                }
                self.layer(ImageSpec { env: self.content.env.clone(), ..ImageSpec::default() }).await?;
            }
            Instruction::Arg(name, default) => {
                let given = self.definition.build_args.get(&name).cloned().or(default);
                self.args.extend(given.map(|value| (name, value)));
            }
            Instruction::Workdir(path) => {
                let above = self.content.workdir.clone().unwrap_or_else(|| "/".into());
                let path = Path::new(&above).join(self.expanded(&path)).to_string_lossy().into_owned();
                self.content.workdir = Some(path.clone());
                self.layer(ImageSpec { workdir: Some(path), ..ImageSpec::default() }).await?;
            }
            Instruction::Copy { sources, target } => self.copy(&sources, &self.expanded(&target)).await?,
            Instruction::User(user) => {
                let user = Some(self.expanded(&user));
                self.layer(ImageSpec { user, ..ImageSpec::default() }).await?;
            }
            Instruction::Cmd(Words::Exec(words)) => self.content.command = words,
            Instruction::Cmd(Words::Shell(line)) => self.content.command = self.shell(line),
            Instruction::Shell(words) => self.content.shell = words,
            Instruction::Nothing => {}
        }
        Ok(())
    }

    /// Another image of this account, or one that stands for a reference to a registry.
    async fn base(&self, reference: &str) -> Result<Content, String> {
        if let Some(base) = self.definition.base_images.iter().find(|base| base.docker_tag == reference) {
            return self.cloud.images.ready(&base.image_id).map_err(|status| status.message().to_owned());
        }
        let missing =
            || format!("there is no image {reference}: this server knows those it was started with");
        let local = self.cloud.settings.images.get(reference).ok_or_else(missing)?;
        let found = self.cloud.provider.find_image(local).await.map_err(said)?;
        (self.log)(&format!("FROM {reference}"));
        let env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        // The machine's own userland has a name and no id.
        Ok(Content { local: found.unwrap_or_else(|| local.clone()), env, ..Content::default() })
    }

    fn expanded(&self, text: &str) -> String {
        let mut variables = self.args.clone();
        variables.extend(self.content.env.clone());
        expand(text, &variables)
    }

    fn shell(&self, line: String) -> Vec<String> {
        let shell = match self.content.shell.is_empty() {
            true => vec!["sh".into(), "-c".into()],
            false => self.content.shell.clone(),
        };
        shell.into_iter().chain([line]).collect()
    }

    /// Puts a layer of the provider's on top.
    async fn layer(&mut self, spec: ImageSpec) -> Result<(), String> {
        let spec = ImageSpec { base: self.content.local.clone(), ..spec };
        let (local, _) =
            self.cloud.provider.build_image(&spec, None, self.log.clone()).await.map_err(said)?;
        self.content.local = local;
        Ok(())
    }

    async fn run(&mut self, words: &Words) -> Result<(), String> {
        let command = match words {
            Words::Shell(line) if self.content.shell.is_empty() => line.clone(),
            Words::Shell(line) => quoted(&self.shell(line.clone())),
            Words::Exec(words) => quoted(words),
        };
        if self.fresh || !self.secrets.is_empty() {
            return self.run_unseen(&command).await;
        }
        // Arguments of the build are variables of its commands, and not of the image.
        let args = self
            .args
            .iter()
            .map(|(name, value)| format!("export {}; ", quoted(&[format!("{name}={value}")])));
        let command = args.collect::<String>() + &command;
        self.layer(ImageSpec { commands: vec![command], ..ImageSpec::default() }).await
    }

    /// Runs a command whose layer nobody else gets: with secrets, or because it is to run again.
    async fn run_unseen(&mut self, command: &str) -> Result<(), String> {
        let id = fresh_id("build");
        let spec = SandboxSpec {
            id: id.clone(),
            image: self.content.local.clone(),
            network: Network::Host,
            ..SandboxSpec::default()
        };
        (self.log)(&format!("$ {command}"));
        let sandbox = self.cloud.provider.open(spec).await.map_err(said)?;
        let exec = ExecSpec {
            command: vec!["sh".into(), "-c".into(), command.into()],
            env: self.args.clone(),
            secrets: self.secrets.clone(),
            ..ExecSpec::default()
        };
        let done = self.follow(&*sandbox, exec, command).await;
        let saved = match done {
            Ok(()) => sandbox.snapshot().await.map(|snapshot| snapshot.image).map_err(said),
            Err(message) => Err(message),
        };
        drop(sandbox);
        self.cloud.provider.remove(&id).await.map_err(said)?;
        self.content.local = saved?;
        Ok(())
    }

    async fn follow(&self, sandbox: &dyn Sandbox, exec: ExecSpec, command: &str) -> Result<(), String> {
        let mut process = sandbox.exec(exec).await.map_err(said)?;
        let mut tail = Vec::new();
        while let Some(chunk) = process.next().await.map_err(said)? {
            let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
            (self.log)(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
            tail.extend_from_slice(&bytes);
            tail.drain(..tail.len().saturating_sub(QUOTE_LIMIT));
        }
        let status = process.wait().await.map_err(said)?;
        process.kill().await.map_err(said)?;
        match status {
            ExitStatus::Code(0) => Ok(()),
            status => {
                let tail = String::from_utf8_lossy(&tail);
                Err(format!(
                    "`{command}` of the image ended with code {}:\n{}",
                    status.code(),
                    tail.trim_end()
                ))
            }
        }
    }

    /// Copies files that came with the definition.
    async fn copy(&mut self, sources: &[String], target: &str) -> Result<(), String> {
        let directory = self.cloud.settings.directory.join(fresh_id("context"));
        let failed = |error: std::io::Error| format!("cannot keep the files of an image: {error}");
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let below = Path::new(self.content.workdir.as_deref().unwrap_or("/")).join(target);
        let into = target.ends_with('/') || sources.len() > 1;
        let mut copy = BTreeMap::new();
        for (number, source) in sources.iter().enumerate() {
            let same = |name: &str| name.trim_start_matches("./").trim_start_matches('/').to_owned();
            let file = self.definition.context_files.iter().find(|file| same(&file.filename) == same(source));
            let file =
                file.ok_or_else(|| format!("there is no {source} among the files that came with the image"))?;
            let kept = directory.join(number.to_string());
            std::fs::write(&kept, &file.data).map_err(failed)?;
            let name = Path::new(source).file_name().unwrap_or_default();
            let target = if into { below.join(name) } else { below.clone() };
            copy.insert(target.to_string_lossy().into_owned(), kept.to_string_lossy().into_owned());
        }
        let done = self.layer(ImageSpec { copy, ..ImageSpec::default() }).await;
        std::fs::remove_dir_all(&directory).map_err(failed)?;
        done
    }
}

/// Words as a shell reads them back.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
