//! Saves the files of an open sandbox as an image.
//!
//! Where nothing runs, nothing is copied: the processes end, the changes become a layer by a rename, and new processes
//! come up on top of it. Where a command runs, all processes are held still while the changes are copied.

use super::super::{Snapshot, SnapshotMode};
use super::build::blocking;
use super::freeze::{FREEZE_LIMIT, Frozen, restless};
use super::image::{Images, Manifest};
use super::instance::LocalSandbox;
use super::merge::{Way, merge};
use super::plan::Request;
use super::store::{Lock, remove_tree, unique};
use super::{squash, stack, wire};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl LocalSandbox {
    /// Saves the files, by whichever way what runs allows.
    pub(super) async fn save(&self) -> Result<Snapshot> {
        let _saving = self.saving.lock().await;
        let _turn = self.guest.turn.write().await;
        if !self.guest.is_open() {
            return Err(self.guest.lost());
        }
        let high = squash::flat(&self.images.store, &self.manifest().layers).len();
        let limit = squash::heights().limit;
        if high >= limit {
            return Err(CapabilityError::new(
                ErrorKind::QUOTA,
                format!(
                    "sandbox {} lies on {high} layers, and this machine mounts no more than {limit}; they are being \
                     squashed, so try again later",
                    self.guest.id
                ),
            ));
        }
        let snapshot = match self.guest.files.try_write() {
            Ok(_idle) => self.save_idle().await,
            Err(_) => self.save_busy().await,
        }?;
        tracing::debug!(sandbox = self.guest.id, image = snapshot.image, mode = ?snapshot.mode, "saved the files");
        Ok(snapshot)
    }

    fn manifest(&self) -> Manifest {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the processes, makes the changes a layer, and brings up new processes on top, whatever went wrong between.
    async fn save_idle(&self) -> Result<Snapshot> {
        let running = self.running();
        let lock = running.share_lock().ok_or_else(|| self.guest.lost())?;
        self.guest.replacing.store(true, Ordering::SeqCst);
        let result = match running.life.end().await {
            Ok(()) => {
                let saved = self.stack().await;
                let up = self.bring_up(lock).await;
                saved.and_then(|snapshot| up.map(|()| snapshot))
            }
            Err(error) => Err(error),
        };
        self.guest.replacing.store(false, Ordering::SeqCst);
        if self.guest.life().is_gone() {
            self.guest.ended.send_replace(true);
        }
        result
    }

    async fn stack(&self) -> Result<Snapshot> {
        let (images, id, manifest, this) =
            (self.images.clone(), self.guest.id.clone(), self.manifest(), self.this.clone());
        let recorded = move || {
            if let Some(sandbox) = this.upgrade() {
                sandbox.record();
            }
        };
        let (manifest, image) = blocking(move || stack_files(&images, &id, manifest, recorded)).await?;
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = manifest;
        Ok(Snapshot { image: image?, mode: SnapshotMode::Stacked })
    }

    async fn bring_up(&self, lock: Lock) -> Result<()> {
        let running = Arc::new(self.launch.start(self.images.lower(&self.manifest())?, lock).await?);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running.clone();
        self.hold(&running);
        self.guest.go_on_with(running.life.clone()).await
    }

    /// Takes the layers of snapshots into the record of what the sandbox is made from. Called from a thread that may wait.
    fn record(&self) {
        let _saving = self.saving.blocking_lock();
        let Some(_lock) = self.running().share_lock() else { return };
        if let Err(error) = stack::fold(&self.images.store, &self.guest.id, &self.manifest()) {
            tracing::warn!(sandbox = self.guest.id, "layers are not recorded yet: {error}");
        }
    }

    /// Copies the changes while nothing moves.
    async fn save_busy(&self) -> Result<Snapshot> {
        let frozen = self.freeze().await?;
        let (images, mut manifest) = (self.images.clone(), self.manifest());
        let (upper, stop) = (self.launch.plan.directory.join("upper"), self.ending.clone());
        let below = images.lower(&manifest)?;
        blocking(move || {
            let store = &images.store;
            let (_hold, disk) = (store.hold()?, images.disk()?);
            let failed = |error: io::Error| match error.kind() {
                io::ErrorKind::PermissionDenied => CapabilityError::new(
                    ErrorKind::DENIED,
                    format!(
                        "cannot copy the files of a sandbox: {error}; make it readable for its owner, or save the \
                         files while no command runs"
                    ),
                ),
                _ => CapabilityError::io("copy the files of a sandbox", &error),
            };
            let (temporary, layer) = (store.layers().join(unique(".making")), store.unused_layer(squash::SAVED));
            fs::create_dir(&temporary).map_err(failed)?;
            let copied = merge(&[upper], &below, &temporary, &stop);
            drop(frozen);
            let made = copied.and_then(|way| {
                fs::rename(&temporary, store.layers().join(&layer))?;
                Ok(way)
            });
            if made.is_err() {
                drop(remove_tree(&temporary));
            }
            let mode = match made.map_err(failed)? {
                Way::Reflink => SnapshotMode::Reflink,
                Way::Copied => SnapshotMode::Copied,
            };
            manifest.layers.insert(0, layer);
            Ok(Snapshot { image: images.save_unsynced(manifest, disk, || ())?, mode })
        })
        .await
    }

    /// Holds all processes still.
    async fn freeze(&self) -> Result<Frozen> {
        if let Some(freezer) = &self.running().groups.freezer {
            return Frozen::group(freezer).await;
        }
        let nothing = wire::memory(&[]).map_err(|error| CapabilityError::io("stop a sandbox", &error))?;
        let channel = self.guest.request(Request::Freeze, nothing, &[]).await?;
        tokio::time::timeout(FREEZE_LIMIT, self.guest.answer(&channel)).await.map_err(|_| restless())??;
        Ok(Frozen::Stopped(channel))
    }
}

/// Makes the changes of a sandbox without processes a layer of an image and of what the sandbox is made from. Returns
/// that, and the id of the image. `then` is done once all of it is on disk.
pub(super) fn stack_files(
    images: &Images,
    id: &str,
    mut manifest: Manifest,
    then: impl FnOnce() + Send + 'static,
) -> Result<(Manifest, Result<String>)> {
    let store = &images.store;
    let (_hold, disk) = (store.hold()?, images.disk()?);
    // The new processes stand on new mounts, so this is when layers can be swapped for one that is equal.
    if stack::is_recorded(store, id)? {
        manifest.layers = squash::flat(store, &manifest.layers);
    }
    let layer = store.unused_layer(squash::SAVED);
    stack::push(store, id, &layer)?;
    manifest.layers.insert(0, layer);
    let image = images.save_unsynced(manifest.clone(), disk, then);
    Ok((manifest, image))
}
