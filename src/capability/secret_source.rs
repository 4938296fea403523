//! Where secret values come from on this machine. Reads values; prints only where it looked.

use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Bytes of one secret.
const SECRET_MAX: usize = 64 << 10;
/// How long a `command:` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The value behind the first source that has one, `None` where none does. Sources: `env:NAME`, `file:PATH` (relative
/// to `directory`), `command:TEXT` (run by `sh -c`), `modal:SECRET/KEY` (never on this machine).
///
/// # Errors
/// Where a source exists and cannot be read: a secret that is there but broken is no reason to try the next.
pub async fn resolve(sources: &[String], directory: &Path) -> Result<Option<String>> {
    for source in sources {
        let found = match source.split_once(':') {
            Some(("env", name)) => std::env::var(name).ok(),
            Some(("file", path)) => read_file(&directory.join(path)).await?,
            Some(("command", command)) => Some(run(command, directory).await?),
            _ => None,
        };
        let Some(value) = found else { continue };
        let value = value.trim_end_matches(['\n', '\r']).to_owned();
        if value.len() > SECRET_MAX {
            let message = format!("the secret from {source} is larger than {} KiB", SECRET_MAX >> 10);
            return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
        }
        if !value.is_empty() {
            return Ok(Some(value));
        }
    }
    Ok(None)
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

    #[tokio::test]
    async fn the_first_source_with_a_value_wins() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "from-file\n").unwrap();
        let sources = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let get = async |list: &[&str]| resolve(&sources(list), home.path()).await.unwrap();
        assert_eq!(
            get(&["env:HARVEST_NO_SUCH", "modal:a/B", "file:token"]).await.as_deref(),
            Some("from-file")
        );
        assert_eq!(get(&["file:none", "command:printf '%s\\n' made"]).await.as_deref(), Some("made"));
        assert_eq!(get(&["env:HARVEST_NO_SUCH"]).await, None);
        let error = resolve(&sources(&["command:exit 3", "file:token"]), home.path()).await.unwrap_err();
        assert_eq!(
            error.message,
            "the secret command `exit 3` failed with exit status: 3; run it by hand to see why"
        );
    }
}
