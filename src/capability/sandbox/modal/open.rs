//! How a sandbox of ours comes to be one of Modal's: made, found again, or made again from its saved files.

use super::super::SandboxSpec;
use super::super::local::shared::make_private;
use super::definition::{self, Parts};
use super::instance::{Held, State, files_lost};
use super::record::Record;
use super::remote::{self, Remote};
use super::{GENERATION_TAG, HOME_TAG, Inner, SANDBOX_TAG};
use crate::capability::modal::messages::client as api;
use crate::capability::modal::{Ended, Ending, Options, Router};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Code;

/// How long Modal may take to accept a new sandbox.
const CREATE_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long a sandbox may wait for a machine, and how often it is asked whether it has one.
const PLACE_LIMIT: Duration = Duration::from_secs(21 * 60);
const PLACE_PAUSE: Duration = Duration::from_millis(500);

/// One of Modal's sandboxes, before anything was done in it.
struct Made {
    sandbox: String,
    task: Option<String>,
    token: Option<String>,
    access: Option<api::CommandRouterAccess>,
    /// Whether an earlier process has worked in it.
    found: bool,
}

/// Opens a sandbox whose lock this process then holds.
pub(super) async fn open(inner: &Arc<Inner>, spec: SandboxSpec) -> Result<Arc<State>> {
    let id = spec.id.clone();
    let lock = inner.images.store.wait_for(&id).await?;
    let hold = inner.hold().await?;
    let mut record = match Record::read(&inner.images.store, &id)? {
        Some(record) => Record { spec: spec.clone(), ..record },
        None => inner.first_record(&spec).await?,
    };
    // What cannot be asked for leaves nothing behind, here or there.
    definition::check(&spec, &record.manifest)?;
    let volumes = inner.volumes.mounts(&spec).await?;
    let parts = Parts {
        manifest: &record.manifest,
        image: &record.image,
        volumes,
        name: Record::name(&inner.scope, &id),
        idle_timeout: inner.options.idle_timeout,
    };
    let definition = definition::definition(&spec, parts)?;
    make_private(&inner.images.store.sandbox(&id))?;
    record.write(&inner.images.store, &id)?;
    drop(hold);
    if let Some(leaving) = record.leaving.take() {
        remote::terminate(&inner.client, &id, &leaving, None).await?;
    }
    let made = match record.sandbox.clone() {
        Some(sandbox) => inner.find(&id, sandbox).await?,
        None => inner.create(&record, definition).await?,
    };
    record.sandbox = Some(made.sandbox.clone());
    record.write(&inner.images.store, &id)?;
    let found = made.found;
    let remote = inner.attach(&spec, made).await?;
    let state = Arc::new(State {
        inner: inner.clone(),
        remote: Arc::new(remote),
        manifest: record.manifest.clone(),
        network: Mutex::new(spec.network.clone()),
        spec,
        busy: Arc::default(),
        closed: AtomicBool::new(false),
        held: tokio::sync::Mutex::new(Some(Held { record, lock })),
    });
    state.prepare(found).await?;
    Ok(state)
}

impl Inner {
    async fn first_record(&self, spec: &SandboxSpec) -> Result<Record> {
        let manifest = self.manifest(&spec.image).await?;
        let image = self.modal_image(&manifest)?;
        Ok(Record {
            spec: spec.clone(),
            manifest,
            generation: 1,
            image,
            sandbox: None,
            suspended: false,
            leaving: None,
        })
    }

    /// Asks for a sandbox. The key is the same after a crash, and the name is taken by the one that runs.
    async fn create(&self, record: &Record, definition: api::Sandbox) -> Result<Made> {
        let id = &record.spec.id;
        let tag =
            |name: &str, value: &str| api::SandboxTag { tag_name: name.into(), tag_value: value.into() };
        let env = definition::environment(&record.spec, &record.manifest);
        let contents = api::StringMap { contents: env.into_iter().collect() };
        let env = api::SecretSource { source: Some(api::secret_source::Source::Env(contents)) };
        let request = api::SandboxCreateV2Request {
            app_id: self.client.app().await?.to_owned(),
            definition: Some(definition),
            tags: vec![
                tag(HOME_TAG, &self.scope),
                tag(SANDBOX_TAG, id),
                tag(GENERATION_TAG, &record.generation.to_string()),
            ],
            secret_sources: vec![env],
        };
        let key = Some(record.key(&self.scope, id));
        let options = Options { key, limit: CREATE_LIMIT, ..Options::default() };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        match self.client.call(&request, options).await {
            Ok(answer) => Ok(Made {
                sandbox: answer.sandbox_id,
                task: text(answer.task_id),
                token: text(answer.sandbox_token),
                access: answer.command_router_access,
                found: false,
            }),
            Err(fault) if fault.code == Code::AlreadyExists => self.adopt(record).await,
            Err(fault) => Err(fault.explain(format!("make sandbox {id}"))),
        }
    }

    /// The sandbox that has our name: made by a process that did not hear that it was.
    async fn adopt(&self, record: &Record) -> Result<Made> {
        let id = &record.spec.id;
        let doing = || format!("find sandbox {id} again");
        let request = api::SandboxGetFromNameRequest {
            sandbox_name: Record::name(&self.scope, id),
            environment_name: self.client.settings().environment.clone(),
            app_name: self.client.settings().app.clone(),
            include_terminated: false,
        };
        let named = self.client.call(&request, Options::default()).await;
        let sandbox = named.map_err(|fault| fault.explain(doing()))?.sandbox_id;
        let request = api::SandboxTagsGetRequest { sandbox_id: sandbox.clone() };
        let tags = self.client.call(&request, Options::default()).await;
        let tags = tags.map_err(|fault| fault.explain(doing()))?.tags;
        let generation = record.generation.to_string();
        let ours = [(HOME_TAG, &*self.scope), (SANDBOX_TAG, id), (GENERATION_TAG, &generation)];
        let is =
            |name: &str, value: &str| tags.iter().any(|tag| tag.tag_name == name && tag.tag_value == value);
        if !ours.iter().all(|(name, value)| is(name, value)) {
            let message =
                format!("sandbox {sandbox} on Modal has the name of {id} and is another: terminate it there");
            return Err(CapabilityError::new(ErrorKind::CONFLICT, message));
        }
        Ok(Made { sandbox, task: None, token: None, access: None, found: true })
    }

    /// A sandbox that an earlier process has worked in, where it still runs.
    async fn find(&self, id: &str, sandbox: String) -> Result<Made> {
        match crate::capability::modal::poll(&self.client, &sandbox, None, Duration::ZERO).await {
            Ok(None) => Ok(Made { sandbox, task: None, token: None, access: None, found: true }),
            Ok(Some(result)) => Err(files_lost(id, &Ended::With(result))),
            Err(fault) if fault.code == Code::NotFound => Err(files_lost(id, &Ended::Unknown)),
            Err(fault) => Err(fault.explain(format!("find sandbox {id} again"))),
        }
    }

    /// Connects to a sandbox, as soon as it has a machine.
    async fn attach(&self, spec: &SandboxSpec, made: Made) -> Result<Remote> {
        let ending = Ending::watch(self.client.clone(), made.sandbox.clone(), made.token.clone());
        let task = match made.task {
            Some(task) => task,
            None => {
                let placing =
                    tokio::time::timeout(PLACE_LIMIT, self.task(&spec.id, &made.sandbox, &made.token));
                tokio::select! {
                    task = placing => task.map_err(|_| {
                        let message = format!("sandbox {} got no machine on Modal within {} min", spec.id, PLACE_LIMIT.as_secs() / 60);
                        CapabilityError::new(ErrorKind::UNAVAILABLE, message)
                    })??,
                    ended = ending.ended() => return Err(remote::lost(&spec.id, &ended)),
                }
            }
        };
        let router = Router::new(self.client.clone(), made.sandbox.clone(), made.token.clone(), made.access);
        Ok(Remote {
            id: spec.id.clone(),
            sandbox: made.sandbox,
            token: made.token,
            task,
            client: self.client.clone(),
            router: Arc::new(router),
            ending,
            mounts: spec.volumes.keys().cloned().collect(),
            closing: AtomicBool::new(false),
        })
    }

    async fn task(&self, id: &str, sandbox: &str, token: &Option<String>) -> Result<String> {
        let request = api::SandboxGetTaskIdRequest { sandbox_id: sandbox.into(), ..Default::default() };
        loop {
            let options = Options { sandbox_token: token.clone(), ..Options::default() };
            let answer = self.client.call(&request, options).await;
            let answer =
                answer.map_err(|fault| fault.explain(format!("find the machine of sandbox {id}")))?;
            if let Some(task) = answer.task_id.filter(|task| !task.is_empty()) {
                return Ok(task);
            }
            if let Some(result) = answer.task_result {
                return Err(remote::lost(id, &Ended::With(result)));
            }
            self.client.clock().pause(PLACE_PAUSE).await;
        }
    }

    /// Ends what a record says is running.
    pub(super) async fn end_recorded(&self, id: &str) -> Result<()> {
        let Some(record) = Record::read(&self.images.store, id)? else { return Ok(()) };
        for sandbox in record.sandbox.iter().chain(&record.leaving) {
            remote::terminate(&self.client, id, sandbox, None).await?;
        }
        if record.sandbox.is_some() || record.suspended {
            return Ok(());
        }
        // It may have been made for somebody who did not hear of it.
        match self.adopt(&record).await {
            Ok(Made { sandbox, .. }) => remote::terminate(&self.client, id, &sandbox, None).await,
            Err(error) if [ErrorKind::NOT_FOUND, ErrorKind::CONFLICT].contains(&error.kind) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Volumes as Modal's definition has them: mount path -> Modal's id.
pub(super) type Mounts = BTreeMap<String, String>;
