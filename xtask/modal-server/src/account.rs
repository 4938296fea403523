//! What an account has beside sandboxes: applications, environments, secrets.

use crate::cloud::{Cloud, fresh_id, lock};
use crate::error::Result;
use crate::proto::client::*;
use harvest::capability::secret::Secret;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use tonic::Status;

/// The environment of calls that name none.
pub(crate) const MAIN: &str = "main";

/// Name of an object within its environment.
pub(crate) type Name = (String, String);

/// A name in the environment it is asked for in.
pub(crate) fn named(environment: &str, name: &str) -> Name {
    let environment = if environment.is_empty() { MAIN } else { environment };
    (environment.to_owned(), name.to_owned())
}

/// Whether an object is to be made where there is none, and may be there already.
pub(crate) fn creation(kind: i32, what: &str, exists: bool) -> Result<bool> {
    use ObjectCreationType as Kind;
    match (Kind::try_from(kind).unwrap_or(Kind::Unspecified), exists) {
        (Kind::Unspecified, false) => Err(Status::not_found(format!("there is no {what}"))),
        (Kind::CreateFailIfExists, true) => Err(Status::already_exists(format!("{what} exists already"))),
        (Kind::CreateOverwriteIfExists, true) | (_, false) => Ok(true),
        (_, true) => Ok(false),
    }
}

#[derive(Default)]
pub(crate) struct Account {
    apps: Mutex<BTreeMap<Name, String>>,
    secrets: Mutex<Secrets>,
}

/// Values stay in memory.
#[derive(Default)]
struct Secrets {
    names: BTreeMap<Name, String>,
    values: HashMap<String, BTreeMap<String, Secret>>,
}

impl Account {
    /// A secret that is there from the start, in the main environment.
    pub(crate) fn add_secret(&self, name: &str, variables: &BTreeMap<String, String>) {
        let mut secrets = lock(&self.secrets);
        let id = fresh_id("st");
        secrets.names.insert(named(MAIN, name), id.clone());
        secrets.values.insert(id, values(variables.clone()));
    }

    pub(crate) fn app(&self, request: AppGetOrCreateRequest) -> Result<AppGetOrCreateResponse> {
        let name = named(&request.environment_name, &request.app_name);
        let mut apps = lock(&self.apps);
        let known = apps.get(&name).cloned();
        let what = format!("app {} in environment {}", name.1, name.0);
        let app_id = match known {
            Some(id) if !creation(request.object_creation_type, &what, true)? => id,
            _ => {
                creation(request.object_creation_type, &what, false)?;
                let id = fresh_id("ap");
                apps.insert(name.clone(), id.clone());
                id
            }
        };
        let metadata = AppHandleMetadata { app_id: app_id.clone(), environment_name: name.0 };
        Ok(AppGetOrCreateResponse { app_id, handle_metadata: Some(metadata) })
    }

    /// The application with this name.
    pub(crate) fn find_app(&self, environment: &str, name: &str) -> Option<String> {
        lock(&self.apps).get(&named(environment, name)).cloned()
    }

    /// Whether there is an application with this id.
    pub(crate) fn has_app(&self, id: &str) -> bool {
        lock(&self.apps).values().any(|known| known == id)
    }

    pub(crate) fn secret(&self, request: SecretGetOrCreateRequest) -> Result<SecretGetOrCreateResponse> {
        let mut secrets = lock(&self.secrets);
        let secret_id = if request.object_creation_type() == ObjectCreationType::Ephemeral {
            let id = fresh_id("st");
            secrets.values.insert(id.clone(), values(request.env_dict));
            id
        } else {
            let name = named(&request.environment_name, &request.deployment_name);
            let what = format!("secret {} in environment {}", name.1, name.0);
            let known = secrets.names.get(&name).cloned();
            if creation(request.object_creation_type, &what, known.is_some())? {
                let id = known.unwrap_or_else(|| fresh_id("st"));
                secrets.names.insert(name, id.clone());
                secrets.values.insert(id.clone(), values(request.env_dict));
                id
            } else {
                known.unwrap_or_default()
            }
        };
        let keys: Vec<String> =
            secrets.values.get(&secret_id).into_iter().flat_map(|all| all.keys().cloned()).collect();
        let missing: Vec<_> =
            request.required_keys.iter().filter(|key| !keys.contains(key)).cloned().collect();
        if !missing.is_empty() {
            let message = format!("secret {} lacks {}", request.deployment_name, missing.join(", "));
            return Err(Status::not_found(message));
        }
        let metadata = SecretMetadata { name: request.deployment_name, keys };
        Ok(SecretGetOrCreateResponse { secret_id, metadata: Some(metadata) })
    }

    /// The variables of these secrets; later ones win.
    pub(crate) fn variables(
        &self,
        ids: &[String],
        sources: &[SecretSource],
        env: &HashMap<String, String>,
    ) -> Result<BTreeMap<String, Secret>> {
        use secret_source::Source;
        let secrets = lock(&self.secrets);
        let by_id = |id: &String| {
            let found = secrets.values.get(id).cloned();
            found.ok_or_else(|| Status::not_found(format!("there is no secret {id}")))
        };
        let mut all = BTreeMap::new();
        for id in ids {
            all.extend(by_id(id)?);
        }
        for source in sources {
            match &source.source {
                Some(Source::SecretId(id)) => all.extend(by_id(id)?),
                Some(Source::Env(env)) => all.extend(values(env.contents.clone())),
                None => {}
            }
        }
        all.extend(values(env.clone()));
        Ok(all)
    }
}

fn values(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Secret> {
    variables.into_iter().map(|(name, value)| (name.clone(), Secret::new(name, value))).collect()
}

/// Any environment is there.
pub(crate) fn environment(
    cloud: &Cloud,
    request: &EnvironmentGetOrCreateRequest,
) -> EnvironmentGetOrCreateResponse {
    let (name, _) = named(&request.deployment_name, "");
    let settings =
        EnvironmentSettings { image_builder_version: cloud.settings.image_builder_version.clone() };
    EnvironmentGetOrCreateResponse {
        environment_id: format!("en-{name}"),
        metadata: Some(EnvironmentMetadata { name, settings: Some(settings) }),
    }
}
