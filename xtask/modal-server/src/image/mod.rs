//! Images: built from Dockerfile commands, each a layer of this machine's own images, or made of a sandbox's files.

mod build;
mod dockerfile;

use crate::cloud::{Cloud, fresh_id, lock};
use crate::error::Result;
use crate::proto::client::generic_result::GenericStatus;
use crate::proto::client::*;
use crate::sandboxes::bounded;
use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tonic::Status;

/// Seconds that a snapshot lives whose maker does not say.
const SNAPSHOT_LIFE: i64 = 30 * 24 * 60 * 60;

#[derive(Default)]
pub(crate) struct Images {
    all: Mutex<HashMap<String, Arc<Image>>>,
    /// What was asked for -> the image.
    built: Mutex<HashMap<Vec<u8>, String>>,
}

/// An image, or one on its way.
pub(crate) struct Image {
    id: String,
    content: OnceLock<Content>,
    /// Lines so far, and the end.
    progress: watch::Sender<Progress>,
    expires: Option<SystemTime>,
}

#[derive(Clone, Default)]
struct Progress {
    lines: Vec<String>,
    result: Option<GenericResult>,
}

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// The provider's id of it.
    pub(crate) local: String,
    /// What sandboxes run that name no command.
    pub(crate) command: Vec<String>,
    /// Its own variables, which later commands may refer to.
    env: BTreeMap<String, String>,
    workdir: Option<String>,
    /// What runs its `RUN` commands, where it is not `sh -c`.
    shell: Vec<String>,
}

/// How long a snapshot is kept, `None` for ever.
pub(crate) fn life(ttl_seconds: Option<i64>) -> Result<Option<Duration>> {
    match ttl_seconds.unwrap_or(SNAPSHOT_LIFE) {
        -1 => Ok(None),
        seconds if seconds > 0 => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        _ => Err(Status::invalid_argument(
            "ttl_seconds is a time in seconds, or -1 to keep the image for ever",
        )),
    }
}

impl Images {
    fn add(&self, content: OnceLock<Content>, expires: Option<SystemTime>) -> Arc<Image> {
        let image = Image { id: fresh_id("im"), content, progress: watch::Sender::default(), expires };
        let image = Arc::new(image);
        lock(&self.all).insert(image.id.clone(), image.clone());
        image
    }

    /// The files of a sandbox made from `parent`, as an image.
    pub(crate) fn add_snapshot(&self, parent: &str, local: String, life: Option<Duration>) -> Result<String> {
        let content = Content { local, ..self.ready(parent).unwrap_or_default() };
        let image = self.add(content.into(), life.map(|life| SystemTime::now() + life));
        let result = crate::sandbox::ended(GenericStatus::Success, 0);
        image.progress.send_replace(Progress { lines: Vec::new(), result: Some(result) });
        Ok(image.id.clone())
    }

    fn find(&self, id: &str) -> Result<Arc<Image>> {
        let found = lock(&self.all).get(id).cloned();
        let alive = found.filter(|image| image.expires.is_none_or(|expires| SystemTime::now() < expires));
        alive.ok_or_else(|| Status::not_found(format!("there is no image {id}")))
    }

    /// An image that can be used.
    pub(crate) fn ready(&self, id: &str) -> Result<Content> {
        let content = self.find(id)?.content.get().cloned();
        content.ok_or_else(|| Status::failed_precondition(format!("image {id} is not built")))
    }
}

/// Builds an image, or finds the one that was built from the same.
pub(crate) fn get_or_create(
    cloud: &Arc<Cloud>,
    request: ImageGetOrCreateRequest,
) -> Result<ImageGetOrCreateResponse> {
    let definition = request.image.ok_or_else(|| Status::invalid_argument("an image needs a definition"))?;
    let secrets = cloud.account.variables(&definition.secret_ids, &[], &HashMap::new())?;
    let key = key(&definition);
    let mut built = lock(&cloud.images.built);
    let fresh = request.force_build || request.ignore_cache;
    let known = built.get(&key).filter(|_| !fresh).and_then(|id| cloud.images.find(id).ok());
    let usable = |image: &Arc<Image>| {
        image.progress.borrow().result.as_ref().is_none_or(|result| result.status() == GenericStatus::Success)
    };
    let image = known.filter(usable).unwrap_or_else(|| {
        let image = cloud.images.add(OnceLock::new(), None);
        built.insert(key, image.id.clone());
        let (cloud, image_built) = (cloud.clone(), image.clone());
        tokio::spawn(async move {
            let log = image_built.clone();
            let say = Arc::new(move |line: &str| {
                log.progress.send_modify(|progress| progress.lines.push(format!("{line}\n")));
            });
            let result = match build::run(&cloud, &definition, secrets, fresh, say).await {
                Ok(content) => {
                    // Nobody else sets it.
                    let _ = image_built.content.set(content);
                    crate::sandbox::ended(GenericStatus::Success, 0)
                }
                Err(message) => {
                    GenericResult { exception: message, ..crate::sandbox::ended(GenericStatus::Failure, 1) }
                }
            };
            image_built.progress.send_modify(|progress| progress.result = Some(result));
        });
        image
    });
    let result = image.progress.borrow().result.clone();
    Ok(ImageGetOrCreateResponse {
        image_id: image.id.clone(),
        result,
        metadata: Some(ImageMetadata::default()),
    })
}

/// Everything that makes an image what it is.
fn key(definition: &crate::proto::client::Image) -> Vec<u8> {
    let args: BTreeMap<_, _> = definition.build_args.iter().collect();
    let rest = crate::proto::client::Image { build_args: HashMap::new(), ..definition.clone() };
    Sha256::new().chain_update(rest.encode_to_vec()).chain_update(format!("{args:?}")).finalize().to_vec()
}

/// The log of a build from an entry on, and its end where that comes within the time asked for. Entries are lines, known
/// by how many came before.
pub(crate) fn join(
    cloud: &Cloud,
    request: &ImageJoinStreamingRequest,
) -> Result<BoxStream<'static, Result<ImageJoinStreamingResponse>>> {
    let image = cloud.images.find(&request.image_id)?;
    let seen = request.last_entry_id.parse().unwrap_or(0_usize);
    let deadline = tokio::time::Instant::now() + bounded(request.timeout);
    let progress = image.progress.subscribe();
    // The image is kept, so that its progress has a sender.
    let stream = stream::unfold(Some((image, progress, seen)), move |state| async move {
        let (image, mut progress, seen) = state?;
        let changed = progress.wait_for(|progress| progress.lines.len() > seen || progress.result.is_some());
        let Progress { lines, result } = match tokio::time::timeout_at(deadline, changed).await {
            Ok(Ok(progress)) => progress.clone(),
            _ => return None,
        };
        let entry_id = lines.len().to_string();
        let log = |data: &String| TaskLogs {
            data: data.clone(),
            file_descriptor: FileDescriptor::Stdout.into(),
            ..TaskLogs::default()
        };
        let task_logs: Vec<_> = lines.iter().skip(seen).map(log).collect();
        // The end comes alone: clients read no log beside it.
        let result = result.filter(|_| task_logs.is_empty());
        let eof = result.is_some();
        let state = (!eof).then_some((image, progress, lines.len()));
        Some((Ok(ImageJoinStreamingResponse { result, task_logs, entry_id, eof, metadata: None }), state))
    });
    Ok(stream.boxed())
}
