//! What snapshots, squashing and collecting leave when the process dies or the power goes between two steps, and that
//! several layers and the one made of them show the same.

mod kill;
mod merging;
mod power;

use super::choose_ids;
use super::image::{Images, Manifest};
use super::store::Store;
use super::{saving, stack};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The sandbox of these tests.
const ID: &str = "box";

/// A home as the next process of this boot opens it.
fn open(home: &Path) -> Images {
    let ids = choose_ids().unwrap();
    let store = Store::new(home, ids).unwrap();
    store.sweep().unwrap();
    Images::open(store, ids).unwrap()
}

/// Gives the sandbox files as a command would.
fn write(images: &Images, files: &[(&str, &str)]) {
    for (name, content) in files {
        fs::write(images.store.sandbox(ID).join("upper").join(name), content).unwrap();
    }
}

/// A sandbox with one file from an earlier snapshot, whose id is returned, and two changes since.
fn prepare(images: &Images) -> String {
    stack::begin(&images.store, ID, &Manifest::default()).unwrap();
    write(images, &[("old", "1"), ("changed", "1")]);
    let first = snapshot(images);
    write(images, &[("changed", "2"), ("new", "2")]);
    first
}

/// Saves the files of the sandbox, which has no processes, and records it.
fn snapshot(images: &Images) -> String {
    let manifest = stack::open(&images.store, ID).unwrap().unwrap();
    let (manifest, image) = saving::stack_files(images, ID, manifest, || ()).unwrap();
    let image = image.unwrap();
    stack::fold(&images.store, ID, &manifest).unwrap();
    image
}

/// The files that are seen through layers, topmost first; none of these tests deletes any.
fn seen<'a>(layers: impl IntoIterator<Item = &'a Path>) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for layer in layers {
        for entry in fs::read_dir(layer).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            seen.entry(name).or_insert_with(|| fs::read_to_string(path).unwrap());
        }
    }
    seen
}

/// The files of the sandbox, opened as the next process would.
fn files(images: &Images) -> BTreeMap<String, String> {
    let manifest = stack::open(&images.store, ID).unwrap().unwrap();
    let mut layers = vec![images.store.prepare_sandbox(ID).unwrap().join("upper")];
    layers.extend(manifest.layers.iter().map(|layer| images.store.layers().join(layer)));
    seen(layers.iter().map(AsRef::as_ref))
}

/// The files of an image.
fn files_of(images: &Images, image: &str) -> BTreeMap<String, String> {
    let manifest = images.manifest(image).unwrap();
    let lower = images.lower(&manifest).unwrap();
    // The last is the base.
    seen(lower[..lower.len() - 1].iter().map(AsRef::as_ref))
}

fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, content)| ((*name).into(), (*content).into())).collect()
}

/// What the sandbox holds after [`prepare`], saved or not.
fn all() -> BTreeMap<String, String> {
    expected(&[("changed", "2"), ("new", "2"), ("old", "1")])
}
