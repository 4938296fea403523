//! Says what this machine offers for sandboxes and what to do about what is missing. Changes nothing.
//!
//! [`machine`] looks, [`judge`] decides what it means and what to say: so every message is tested, also those about
//! machines that nobody here has.

mod judge;
mod machine;

use super::LocalProvider;
use crate::capability::CapabilityError;
use crate::capability::sandbox::{ExecSpec, ExitStatus, SandboxProvider, SandboxSpec};
use machine::Machine;
use std::path::Path;

/// One thing that sandboxes need or use, as `harvest doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was looked at.
    pub name: &'static str,
    /// Whether sandboxes work with what was found.
    pub ok: bool,
    /// Whether harvest does well without it.
    pub optional: bool,
    /// What was found.
    pub detail: String,
    /// What to do: never empty where they do not work. Where they do, it says how they would hold more.
    pub remedy: String,
}

impl Probe {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self::could_be_better(name, detail, "")
    }

    fn could_be_better(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, ok: true, optional: false, detail: detail.into(), remedy: remedy.into() }
    }

    fn bad(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { ok: false, ..Self::could_be_better(name, detail, remedy) }
    }

    /// Something that only those need who ask for it.
    pub(in crate::capability::sandbox) fn optional(
        name: &'static str,
        found: Result<String, String>,
        remedy: &str,
    ) -> Self {
        let probe = match found {
            Ok(detail) => Self::good(name, detail),
            Err(detail) => {
                // Where it is an error it says what to do itself; here that has a line of its own.
                let cause =
                    detail.strip_suffix(remedy).map_or(&*detail, |cause| cause.trim_end_matches("; "));
                Self::bad(name, cause.to_owned(), remedy)
            }
        };
        Self { optional: true, ..probe }
    }
}

/// Looks at what sandboxes with their state under `home` need.
pub fn probes(home: &Path) -> Vec<Probe> {
    judge::all(&Machine::look(home))
}

impl LocalProvider {
    /// Opens a sandbox, runs a command in it and removes it: the one probe that proves everything.
    pub async fn check(&self) -> Probe {
        let name = "sandbox";
        let spec = SandboxSpec {
            id: format!("doctor-{}", std::process::id()),
            image: "host".into(),
            ..SandboxSpec::default()
        };
        let id = spec.id.clone();
        let result = async {
            let sandbox = self.open(spec).await?;
            let exec = ExecSpec { command: vec!["true".into()], ..ExecSpec::default() };
            let status = sandbox.exec(exec).await?.wait().await?;
            Ok::<_, CapabilityError>((status, sandbox.isolation()))
        }
        .await;
        let removed = self.remove(&id).await;
        match result.and_then(|found| removed.map(|()| found)) {
            Ok((ExitStatus::Code(0), isolation)) => Probe::good(name, isolation.to_string()),
            Ok((status, _)) => Probe::bad(
                name,
                format!("`true` ended with {} inside", status.code()),
                "see whether /usr of this machine is complete",
            ),
            Err(error) => Probe::bad(name, error.message, "see the probes above, or use `--provider modal`"),
        }
    }
}
