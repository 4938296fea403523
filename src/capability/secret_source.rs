//! Where secrets come from: values from this machine, names from the provider of the run's sandboxes. Reads values; prints
//! only where it looked.

use super::sandbox::SandboxProvider;
use super::secret::{KeptSecret, RunSecret, Secret};
use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Bytes of one secret.
const SECRET_MAX: usize = 64 << 10;
/// How long a `command:` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Who keeps secrets by a name of their own.
#[derive(Clone, Copy)]
pub enum Keeper<'a> {
    /// Nobody does.
    Nobody,
    /// The provider of this name would; it is not asked yet, and taken to have them all.
    Foreseen(&'a str),
    /// This provider, which is asked.
    Provider(&'a dyn SandboxProvider),
}

/// What sources came to.
#[derive(Debug)]
pub enum Found {
    /// This.
    Secret(RunSecret),
    /// Nothing: the sources in order, each with a reason where it has one of its own.
    Nothing(Vec<String>),
}

/// What the first source has that has anything. Sources: `env:NAME`, `file:PATH` (relative to `directory`),
/// `command:TEXT` (run by `sh -c`), `PROVIDER:SECRET/KEY` (a name with the provider, never a value on this machine). Behind
/// a name, the value of a later source is taken too, for what is done on this machine.
///
/// # Errors
/// Where a source exists and cannot be read: a secret that is there but broken is no reason to try the next.
pub async fn resolve(name: &str, sources: &[String], directory: &Path, keeper: Keeper<'_>) -> Result<Found> {
    let (mut kept, mut tried) = (None, Vec::new());
    for source in sources {
        let found = match source.split_once(':') {
            Some(("env", name)) => std::env::var(name).ok(),
            Some(("file", path)) => read_file(&directory.join(path)).await?,
            Some(("command", command)) => Some(run(command, directory).await?),
            Some((scheme, named)) if kept.is_none() => {
                match ask(keeper, scheme, named).await? {
                    Ok(found) => kept = Some(found),
                    Err(why) => tried.push(format!("{source} ({why})")),
                }
                continue;
            }
            _ => continue,
        };
        let value = found.unwrap_or_default().trim_end_matches(['\n', '\r']).to_owned();
        if value.len() > SECRET_MAX {
            let message = format!("the secret from {source} is larger than {} KiB", SECRET_MAX >> 10);
            return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
        }
        if !value.is_empty() {
            let here = Secret::new(name, value);
            return Ok(Found::Secret(match kept {
                None => RunSecret::Here(here),
                Some(kept) => RunSecret::Kept { name: name.into(), kept, here: Some(here) },
            }));
        }
        tried.push(source.clone());
    }
    Ok(match kept {
        Some(kept) => Found::Secret(RunSecret::Kept { name: name.into(), kept, here: None }),
        None => Found::Nothing(tried),
    })
}

/// What a provider keeps by a name, or why that is nothing.
async fn ask(
    keeper: Keeper<'_>,
    scheme: &str,
    named: &str,
) -> Result<std::result::Result<KeptSecret, String>> {
    let elsewhere = || Ok(Err(format!("only with `--provider {scheme}`")));
    let Some((name, key)) = named.split_once('/') else { return elsewhere() };
    match keeper {
        Keeper::Foreseen(provider) if provider == scheme => {
            let (name, key) = (name.to_owned(), key.to_owned());
            Ok(Ok(KeptSecret { name, key, id: String::new(), keys: Vec::new() }))
        }
        Keeper::Provider(provider) if provider.name() == scheme => {
            match provider.kept_secret(name, key).await {
                Ok(kept) => Ok(Ok(kept)),
                Err(error) if error.kind == ErrorKind::NOT_FOUND => Ok(Err(error.message)),
                Err(error) => Err(error),
            }
        }
        _ => elsewhere(),
    }
}

async fn read_file(path: &Path) -> Result<Option<String>> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CapabilityError::io(format!("read the secret file {}", path.display()), &error)),
    }
}

async fn run(command: &str, directory: &Path) -> Result<String> {
    let mut shell = tokio::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(command)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let failed = |what: String| {
        CapabilityError::new(ErrorKind::AUTH_ERROR, format!("the secret command `{command}` {what}"))
    };
    let output = tokio::time::timeout(COMMAND_TIMEOUT, shell.output())
        .await
        .map_err(|_| failed(format!("took longer than {} s", COMMAND_TIMEOUT.as_secs())))?
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed with {}; run it by hand to see why", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("printed something that is no text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(sources: &[&str], directory: &Path, keeper: Keeper<'_>) -> Found {
        let sources: Vec<_> = sources.iter().map(|source| (*source).to_owned()).collect();
        resolve("key", &sources, directory, keeper).await.unwrap()
    }

    fn value(found: &Found) -> Option<&str> {
        match found {
            Found::Secret(secret) => secret.here().map(Secret::expose),
            Found::Nothing(_) => None,
        }
    }

    #[tokio::test]
    async fn the_first_source_with_a_value_wins() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "from-file\n").unwrap();
        let get = async |list: &[&str]| found(list, home.path(), Keeper::Nobody).await;
        assert_eq!(value(&get(&["env:HARVEST_NO_SUCH", "modal:a/B", "file:token"]).await), Some("from-file"));
        assert_eq!(value(&get(&["file:none", "command:printf '%s\\n' made"]).await), Some("made"));
        let Found::Nothing(tried) = get(&["env:HARVEST_NO_SUCH", "modal:a/B"]).await else { panic!("found") };
        assert_eq!(tried, ["env:HARVEST_NO_SUCH", "modal:a/B (only with `--provider modal`)"]);
        let sources = ["command:exit 3", "file:token"].map(str::to_owned);
        let error = resolve("key", &sources, home.path(), Keeper::Nobody).await.unwrap_err();
        assert_eq!(
            error.message,
            "the secret command `exit 3` failed with exit status: 3; run it by hand to see why"
        );
    }

    #[tokio::test]
    async fn a_name_goes_with_the_value_behind_it_and_not_with_one_before_it() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "from-file").unwrap();
        let get = async |list: &[&str]| match found(list, home.path(), Keeper::Foreseen("modal")).await {
            Found::Secret(secret) => secret,
            Found::Nothing(tried) => panic!("{tried:?}"),
        };
        let alone = get(&["modal:team/KEY", "env:HARVEST_NO_SUCH"]).await;
        assert_eq!(alone.kept().map(|kept| (&*kept.name, &*kept.key)), Some(("team", "KEY")));
        let error = alone.value().unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID);
        insta::assert_snapshot!(error.message, @"secret `key` is kept by the provider as `team/KEY` and is needed on this machine, which never has it: give it a value here too, from a source such as `env:KEY` in its `from`");
        let both = get(&["modal:team/KEY", "modal:other/KEY", "file:token"]).await;
        assert_eq!(both.kept().map(|kept| &*kept.name), Some("team"));
        assert_eq!(both.value().unwrap().expose(), "from-file");
        assert!(get(&["file:token", "modal:team/KEY"]).await.kept().is_none());
    }
}
