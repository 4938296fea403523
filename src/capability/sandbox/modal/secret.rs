//! Secrets that Modal keeps by name. Their values go from Modal to a command; this machine knows their names alone.

use super::super::ExecSpec;
use crate::capability::modal::messages::client as api;
use crate::capability::modal::{Client, Options};
use crate::capability::secret::KeptSecret;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::collections::BTreeSet;
use tonic::Code;

/// Looks a secret up by its name. `not-found` where there is none of that name, or it has no such value.
pub(super) async fn find(client: &Client, name: &str, key: &str) -> Result<KeptSecret> {
    let request = api::SecretGetOrCreateRequest {
        deployment_name: name.into(),
        environment_name: client.settings().environment.clone(),
        object_creation_type: api::ObjectCreationType::Unspecified.into(),
        required_keys: vec![key.into()],
        ..Default::default()
    };
    let missing = |what: &str| {
        let message = format!("Modal: {what}; `modal secret create {name} {key}=...` makes one");
        CapabilityError::new(ErrorKind::NOT_FOUND, message)
    };
    let answer = match client.call(&request, Options::default()).await {
        Ok(answer) => answer,
        // Which of them a secret without the key is told by is Modal's choice.
        Err(fault)
            if matches!(fault.code, Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument) =>
        {
            return Err(missing(&fault.message));
        }
        Err(fault) => return Err(fault.explain(format!("look up the secret {name}"))),
    };
    let keys = answer.metadata.unwrap_or_default().keys;
    if !keys.is_empty() && !keys.iter().any(|known| known == key) {
        return Err(missing(&format!("secret {name} has no {key}")));
    }
    Ok(KeptSecret { name: name.into(), id: answer.secret_id, key: key.into(), keys })
}

/// What a command is given of secrets that Modal keeps. A secret comes whole; what was not asked for is taken away again
/// before the command starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Modal's ids.
    pub(super) ids: Vec<String>,
    /// `VARIABLE=KEY` for each that the command is to have.
    pub(super) variables: String,
    /// The keys under which they come.
    pub(super) keys: String,
}

impl Given {
    /// `invalid` where a name is none that a shell can read.
    pub(super) fn of(spec: &ExecSpec) -> Result<Self> {
        let (mut ids, mut variables, mut keys) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for (variable, kept) in &spec.kept {
            for name in [variable, &kept.key] {
                if !is_variable(name) {
                    let message =
                        format!("`{name}` is no name of a variable: letters, digits and `_` make one");
                    return Err(CapabilityError::new(ErrorKind::INVALID, message));
                }
            }
            ids.insert(kept.id.clone());
            variables.push(format!("{variable}={}", kept.key));
            // What the command has a value of its own for hides the secret's.
            let own = |key: &&String| spec.env.contains_key(*key) || spec.secrets.contains_key(*key);
            let all = kept.keys.iter().chain([&kept.key]);
            keys.extend(all.filter(|key| is_variable(key) && !own(key)).cloned());
        }
        let keys: Vec<_> = keys.into_iter().collect();
        Ok(Self { ids: ids.into_iter().collect(), variables: variables.join(" "), keys: keys.join(" ") })
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn kept(key: &str) -> KeptSecret {
        let keys = ["A", "B", "C", "not-a-variable"].map(str::to_owned).into();
        KeptSecret { name: "team".into(), id: "st-1".into(), key: key.into(), keys }
    }

    #[test]
    fn a_secret_comes_once_and_its_other_values_are_named() {
        let spec = ExecSpec {
            kept: BTreeMap::from([("KEY".into(), kept("A")), ("B".into(), kept("B"))]),
            env: BTreeMap::from([("C".into(), "own".into())]),
            ..ExecSpec::default()
        };
        let given = Given::of(&spec).unwrap();
        assert_eq!(given.ids, ["st-1"]);
        assert_eq!((&*given.variables, &*given.keys), ("B=B KEY=A", "A B"));
        assert_eq!(Given::of(&ExecSpec::default()).unwrap(), Given::default());
    }

    #[test]
    fn what_a_shell_would_run_is_no_name() {
        for (variable, key) in [("A;reboot", "A"), ("1A", "A"), ("", "A"), ("A", "$(reboot)")] {
            let kept = BTreeMap::from([(variable.into(), kept(key))]);
            let error = Given::of(&ExecSpec { kept, ..ExecSpec::default() }).unwrap_err();
            assert_eq!(error.kind, ErrorKind::INVALID, "{variable} {key}");
        }
    }
}
