//! The files of a sandbox: its own changes (`upper`) on a stack of layers, which a snapshot makes one higher.
//!
//! `image.json` holds what the sandbox is made from. A snapshot renames `upper` to a layer, and says so beforehand with a
//! link `stacked-N` to the layer's name; the rename is the moment from which on the layer belongs to the stack. A link
//! needs no sync to be whole, so nobody waits for the disk; `image.json` takes the layer in later. A process that dies
//! anywhere in between leaves a sandbox that has lost nothing.

use super::image::{Manifest, write_atomically, write_unsynced};
use super::points::reach;
use super::store::{self, Store, names_in};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What the names of links to new layers start with.
const STACKED: &str = "stacked-";

/// What a sandbox with files is made from, `None` where there is none. Finishes what a process that died has begun, so
/// the caller holds the sandbox's lock.
pub(super) fn open(store: &Store, id: &str) -> Result<Option<Manifest>> {
    let Some(mut manifest) = recorded(store, id)? else { return Ok(None) };
    let failed = |error: io::Error| CapabilityError::io(format!("read the layers of sandbox {id}"), &error);
    let links = links(store, id)?;
    let upper = store.sandbox(id).join("upper");
    for (number, (link, layer)) in links.iter().enumerate() {
        if manifest.layers.contains(layer) {
            continue;
        }
        if store.layers().join(layer).is_dir() {
            manifest.layers.insert(0, layer.clone());
        } else if number + 1 == links.len() && upper.is_dir() {
            // It was about to be renamed: the files are still its own.
            fs::remove_file(link).map_err(failed)?;
        } else {
            return Err(CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("layer {layer} of sandbox {id} is gone; remove the sandbox"),
            ));
        }
    }
    if !links.is_empty() {
        fold(store, id, &manifest).map_err(failed)?;
    }
    Ok(Some(manifest))
}

/// Records what a new sandbox is made from, and waits for no disk: [`settle`] does. Whoever ends a sandbox within that
/// time needs no record. After a loss of power within it the record is empty or absent, and so is the sandbox.
pub(super) fn begin(store: &Store, id: &str, manifest: &Manifest) -> Result<()> {
    // What a sandbox without a record has left would show through.
    let failed =
        |error: io::Error| CapabilityError::io(format!("record what sandbox {id} is made from"), &error);
    store::remove_tree(&store.sandbox(id)).map_err(failed)?;
    store.prepare_sandbox(id)?;
    let json = serde_json::to_vec(manifest).map_err(|error| failed(error.into()))?;
    write_unsynced(&file(store, id), &json).map_err(failed)
}

/// Waits until the record of a sandbox is on disk. Does nothing for one that is gone.
pub(super) fn settle(store: &Store, id: &str) -> io::Result<()> {
    let synced = fs::File::open(file(store, id))
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::File::open(store.sandbox(id))?.sync_all());
    match synced {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// Keeps what a sandbox is made from beside its files.
#[cfg(feature = "docker")]
pub(in crate::capability::sandbox) fn record(store: &Store, id: &str, manifest: &Manifest) -> Result<()> {
    serde_json::to_vec(manifest)
        .map_err(io::Error::from)
        .and_then(|json| write_atomically(&file(store, id), &json))
        .map_err(|error| CapabilityError::io(format!("record what sandbox {id} is made from"), &error))
}

/// Makes the changes of a sandbox without processes the layer `layer`, and gives it new, empty ones.
pub(super) fn push(store: &Store, id: &str, layer: &str) -> Result<()> {
    let failed = |error: io::Error| CapabilityError::io(format!("save the files of sandbox {id}"), &error);
    let directory = store.sandbox(id);
    let last = links(store, id)?.pop();
    let number = last.map_or(Some(1), |(link, _)| {
        link.file_name()?.to_str()?.strip_prefix(STACKED)?.parse::<u32>().ok()?.checked_add(1)
    });
    let link = directory.join(format!("{STACKED}{:08}", number.unwrap_or(u32::MAX)));
    symlink(layer, &link).map_err(failed)?;
    reach("linked");
    if let Err(error) = fs::rename(directory.join("upper"), store.layers().join(layer)) {
        drop(fs::remove_file(link));
        return Err(failed(error));
    }
    reach("renamed");
    // The old one belongs to a mount that the kernel may not have taken apart yet.
    store::remove_tree(&directory.join("work")).map_err(failed)?;
    reach("cleared");
    store.prepare_sandbox(id)?;
    reach("stacked");
    Ok(())
}

/// Takes new layers into the record. The caller holds the sandbox's lock.
pub(super) fn fold(store: &Store, id: &str, manifest: &Manifest) -> io::Result<()> {
    let links = links(store, id).map_err(|error| io::Error::other(error.message))?;
    write_atomically(&file(store, id), &serde_json::to_vec(manifest)?)?;
    reach("recorded");
    links.into_iter().try_for_each(|(link, _)| fs::remove_file(link))
}

/// Whether the record holds every layer of a sandbox.
pub(super) fn is_recorded(store: &Store, id: &str) -> Result<bool> {
    Ok(links(store, id)?.is_empty())
}

/// Names of all layers that a sandbox needs, whoever works with it.
pub(super) fn needed(store: &Store, id: &str) -> Result<Vec<String>> {
    // Links first: one that goes meanwhile has its layer in the record.
    let mut layers: Vec<String> = links(store, id)?.into_iter().map(|(_, layer)| layer).collect();
    layers.extend(recorded(store, id)?.into_iter().flat_map(|manifest| manifest.layers));
    Ok(layers)
}

fn file(store: &Store, id: &str) -> PathBuf {
    store.sandbox(id).join("image.json")
}

/// What a sandbox is made from as it was last recorded, `None` where there is none.
pub(in crate::capability::sandbox) fn recorded(store: &Store, id: &str) -> Result<Option<Manifest>> {
    let file = file(store, id);
    let failed = |error: io::Error| CapabilityError::io(format!("read {}", file.display()), &error);
    match fs::read(&file) {
        // What `begin` has written and the power has taken.
        Ok(json) if json.is_empty() => Ok(None),
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The links of a sandbox with the names of their layers, lowest first.
fn links(store: &Store, id: &str) -> Result<Vec<(PathBuf, String)>> {
    let directory = store.sandbox(id);
    let names = names_in(&directory)?;
    let links = names.iter().filter(|name| name.starts_with(STACKED)).map(|name| directory.join(name));
    Ok(links.filter_map(|link| Some((layer_of(&link)?, link))).map(|(layer, link)| (link, layer)).collect())
}

fn layer_of(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.to_str()?.to_owned())
}
