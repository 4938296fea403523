//! Removes images and layers that nothing needs.
//!
//! It happens under a lock that everybody shares who works with layers that nothing names yet. Images go before their
//! layers, and a layer is renamed before its files are deleted, so that a kill at any point leaves no image that lacks a
//! layer and no layer that lacks files; what it leaves is found by the next process.

use super::image::Images;
use super::points::reach;
use super::store::{self, GOING, Store, names_in, unique};
use super::{base, copy, durable, squash, stack};
use crate::capability::sandbox::{Collected, Garbage};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long to wait for those who are opening or saving a sandbox. A build takes longer, and is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks at whether they are done.
const PAUSE: Duration = Duration::from_millis(5);

/// Ids of images without a name that were neither made nor asked for since `since`, oldest use first.
pub(in crate::capability::sandbox) fn unused(images: &Images, since: jiff::Timestamp) -> Result<Vec<String>> {
    let named: BTreeSet<String> = images.names()?.into_values().collect();
    let mut unused = Vec::new();
    for file in names_in(&images.store.images())? {
        let Some(id) = file.strip_suffix(".json").and_then(Digest::parse) else { continue };
        let used = used_at(&images.store.images().join(&file));
        let id = id.to_string();
        if let Some(used) = used.filter(|used| *used < SystemTime::from(since) && !named.contains(&id)) {
            unused.push((used, id));
        }
    }
    unused.sort();
    Ok(unused.into_iter().map(|(_, id)| id).collect())
}

fn used_at(image: &Path) -> Option<SystemTime> {
    fs::metadata(image).and_then(|found| found.modified()).ok()
}

/// Removes those of `unwanted` that are still unused, and all layers that no image and no sandbox needs.
pub(in crate::capability::sandbox) fn collect(
    images: &Images,
    unwanted: &[String],
    since: jiff::Timestamp,
    dry: bool,
) -> Result<Collected> {
    let failed = |error: io::Error| CapabilityError::io("remove layers that nothing needs", &error);
    let store = &images.store;
    if !dry {
        for (image, stored) in images.unsettled()? {
            durable::settle(store, &image, &stored.manifest.layers, &images.disk()?).map_err(failed)?;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let exclusive = loop {
        match store.try_exclude()? {
            Some(lock) => break lock,
            None if Instant::now() > deadline => return Ok(Collected { busy: true, ..Collected::default() }),
            None => std::thread::sleep(PAUSE),
        }
    };
    let unused: BTreeSet<String> = unused(images, since)?.into_iter().collect();
    let going: BTreeSet<&String> = unwanted.iter().filter(|id| unused.contains(*id)).collect();
    let needed = needed(images, &going)?;
    let layers: Vec<String> =
        names_in(&store.layers())?.into_iter().filter(|layer| !needed.contains(layer)).collect();
    let mut garbage: Vec<Garbage> =
        going.iter().map(|id| Garbage { kind: "image".into(), of: (*id).clone(), bytes: 0 }).collect();
    if dry {
        drop(exclusive);
        for layer in layers {
            let bytes = copy::disk_usage(&store.layers().join(&layer)).unwrap_or(0);
            garbage.push(Garbage { kind: "layer".into(), of: layer, bytes });
        }
        return Ok(Collected { garbage, busy: false });
    }
    for image in going.iter().filter_map(|id| images.path(id)) {
        fs::remove_file(image).map_err(failed)?;
        reach("image removed");
    }
    File::open(store.images()).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let mut moved = Vec::new();
    for layer in layers {
        let place = store.layers().join(unique(GOING));
        fs::rename(store.layers().join(&layer), &place).map_err(failed)?;
        reach("layer renamed");
        moved.push((layer, place));
    }
    File::open(store.layers()).and_then(|directory| directory.sync_all()).map_err(failed)?;
    // Nobody can find them any more, so nobody has to wait for the rest.
    drop(exclusive);
    for (layer, place) in moved {
        let bytes = copy::disk_usage(&place).unwrap_or(0);
        store::remove_tree(&place).map_err(failed)?;
        reach("layer removed");
        garbage.push(Garbage { kind: "layer".into(), of: layer, bytes });
    }
    Ok(Collected { garbage, busy: false })
}

/// Names of all layers that are needed without these images.
fn needed(images: &Images, without: &BTreeSet<&String>) -> Result<BTreeSet<String>> {
    let store = &images.store;
    let mut needed = BTreeSet::new();
    for file in names_in(&store.images())? {
        let Some(id) = file.strip_suffix(".json").and_then(Digest::parse) else { continue };
        if !without.contains(&id.to_string()) {
            let manifest = images.load(&store.images().join(&file))?.manifest;
            needed.extend(squash::flat(store, &manifest.layers));
        }
    }
    for id in store.sandboxes()? {
        // What its files were written on, however equal another stack is.
        let layers = stack::needed(store, &id)?;
        needed.extend(squash::flat(store, &layers));
        needed.extend(layers);
    }
    needed.extend(bases(images)?);
    Ok(needed)
}

/// The base that sandboxes get now, and all others while a sandbox runs: nothing says on which one it was started.
fn bases(images: &Images) -> Result<Vec<String>> {
    let store = &images.store;
    let current = base::layer(store, images.ids)?;
    let name = current.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let current = [format!("{}{name}", base::ENGINE), name];
    if !any_runs(store)? {
        return Ok(current.into());
    }
    let layers = names_in(&store.layers())?;
    Ok(layers.into_iter().filter(|layer| layer.starts_with(base::PREFIX)).chain(current).collect())
}

fn any_runs(store: &Store) -> Result<bool> {
    for id in store.sandboxes()? {
        if store.try_lock(&id)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}
