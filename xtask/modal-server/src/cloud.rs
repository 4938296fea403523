//! Everything the server holds.

use crate::account::Account;
use crate::error::{Result, status};
use crate::fault::Faults;
use crate::image::Images;
use crate::proto::client::{ObjectCreationType, VolumeFsVersion, VolumeGetOrCreateRequest};
use crate::record::Record;
use crate::sandboxes::Sandboxes;
use crate::token::Tokens;
use crate::volume::Volumes;
use harvest::capability::sandbox::local::LocalProvider;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a test says beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where everything is kept.
    pub(crate) directory: PathBuf,
    /// The harvest binary.
    pub(crate) launcher: PathBuf,
    /// Pairs of id and secret that are accepted.
    pub(crate) tokens: Vec<(String, String)>,
    /// References of registries -> names of images of this machine.
    pub(crate) images: BTreeMap<String, String>,
    /// Name -> variables.
    pub(crate) secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Names of volumes of version 1.
    pub(crate) old_volumes: Vec<String>,
    pub(crate) image_builder_version: String,
    /// How long the token for calls about sandboxes is good.
    pub(crate) auth_life: Duration,
    /// How long a router token is good.
    pub(crate) router_life: Duration,
    /// Sandboxes on one page of a list.
    pub(crate) page: usize,
    /// 0 picks a free one.
    pub(crate) port: u16,
    /// Ports that a line of an allow-list opens, beside those of the web.
    pub(crate) ports: Vec<u16>,
}

/// The state of the server.
pub(crate) struct Cloud {
    pub(crate) settings: Settings,
    /// Where it listens, as clients are told.
    pub(crate) url: String,
    pub(crate) provider: LocalProvider,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Arc<Faults>,
    pub(crate) record: Record,
    pub(crate) account: Account,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) sandboxes: Sandboxes,
    runtime: tokio::runtime::Handle,
}

impl Cloud {
    pub(crate) fn new(settings: Settings, url: String, faults: Arc<Faults>) -> Result<Self> {
        let provider =
            LocalProvider::new(&settings.directory.join("home"), settings.launcher.clone(), Vec::new());
        let account = Account::default();
        for (name, variables) in &settings.secrets {
            account.add_secret(name, variables);
        }
        let volumes = Volumes::new(&settings.directory)?;
        for name in &settings.old_volumes {
            volumes.get_or_create(VolumeGetOrCreateRequest {
                deployment_name: name.clone(),
                object_creation_type: ObjectCreationType::CreateIfMissing.into(),
                version: VolumeFsVersion::V1.into(),
                ..Default::default()
            })?;
        }
        Ok(Self {
            provider: provider.map_err(status)?,
            url,
            tokens: Tokens::new(),
            faults,
            record: Record::default(),
            account,
            images: Images::default(),
            volumes,
            sandboxes: Sandboxes::default(),
            settings,
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Does something that starts tasks from a thread of a test.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        work()
    }
}

/// An id that nothing else has.
pub(crate) fn fresh_id(kind: &str) -> String {
    format!("{kind}-{}", ulid::Ulid::generate().to_string().to_ascii_lowercase())
}

/// Enters a lock; what another thread left half done when it panicked has failed a test already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
