//! Squashes long stacks of snapshots: the layers that snapshots made, one on the other, become one layer.
//!
//! It is named by a hash of the names of the layers it stands for, as every other layer is by what made it, and appears
//! by a rename once it is on disk. So nothing that names the old layers has to change: an image keeps its id and its
//! manifest, and [`flat`] finds what to use instead of them. Once that is there, `harvest gc` may drop the old ones.

use super::image::{Images, Manifest};
use super::merge::merge;
use super::store::Store;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// How high stacks of layers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heights {
    /// Layers of an image beyond which those of snapshots are squashed.
    pub(super) max: usize,
    /// Layers that are worth it: a file is copied at most once in so many snapshots.
    worth: usize,
    /// Layers with which a sandbox can still be opened.
    pub(super) limit: usize,
}

/// Mounting takes about 80 us a layer, and every look-up of a name that does not exist goes through all of them. The
/// kernel stacks 500.
const HEIGHTS: Heights = Heights { max: 64, worth: 16, limit: 400 };
/// Before Linux 6.5 all layers are named in one option of 256 bytes, which holds 14 and the base.
const OLD_HEIGHTS: Heights = Heights { max: 8, worth: 4, limit: 12 };

/// What this machine's kernel can stack.
pub(super) fn heights() -> Heights {
    heights_of(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn heights_of(release: &str) -> Heights {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 5) { HEIGHTS } else { OLD_HEIGHTS }
}

/// What the names of layers from snapshots start with.
pub(super) const SAVED: &str = "saved";
/// What the names of squashed layers start with.
const SQUASHED: &str = "squash-";

/// Layers next to each other that can become one, by their places in a manifest.
struct Stretch {
    from: usize,
    to: usize,
}

fn can_be_squashed(layer: &str) -> bool {
    layer.starts_with("saved-") || layer.starts_with(SQUASHED)
}

/// All stretches of at least two, topmost first.
fn stretches(layers: &[String]) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut from = 0;
    while from < layers.len() {
        let to = from + layers[from..].iter().take_while(|layer| can_be_squashed(layer)).count();
        if to - from >= 2 {
            found.push(Stretch { from, to });
        }
        from = to + 1;
    }
    found
}

/// Names of the layers that stand for the lowest 1, 2, ... layers of a stretch.
fn names(stretch: &[String]) -> impl Iterator<Item = String> {
    let mut chain = String::new();
    stretch.iter().rev().map(move |layer| {
        chain = Digest::of(format!("{chain} {layer}").as_bytes()).hex()[..40].to_owned();
        format!("{SQUASHED}{chain}")
    })
}

/// The same layers with those squashed that have been.
pub(super) fn flat(store: &Store, layers: &[String]) -> Vec<String> {
    let mut flat = Vec::with_capacity(layers.len());
    let mut copied = 0;
    for Stretch { from, to } in stretches(layers) {
        flat.extend_from_slice(&layers[copied..from]);
        let squashed = names(&layers[from..to]).enumerate().skip(1);
        let best = squashed.filter(|(_, name)| store.layers().join(name).is_dir()).last();
        match best {
            Some((count, name)) => {
                flat.extend_from_slice(&layers[from..to - count - 1]);
                flat.push(name);
            }
            None => flat.extend_from_slice(&layers[from..to]),
        }
        copied = to;
    }
    flat.extend_from_slice(&layers[copied..]);
    flat
}

/// Whether a stack is so high that it is to be squashed, and would get lower.
pub(super) fn is_due(layers: &[String]) -> bool {
    let Heights { max, worth, .. } = heights();
    layers.len() > max && stretches(layers).iter().any(|stretch| stretch.to - stretch.from >= worth)
}

/// Squashes the layers of a manifest, unless it is told to stop. Done by two at once, it is done twice and kept once.
pub(super) fn squash(images: &Images, manifest: &Manifest, stop: &AtomicBool) -> Result<()> {
    // Nobody may drop one of the layers while it is being read.
    let _hold = images.store.hold()?;
    let (lower, worth) = (images.lower(manifest)?, heights().worth);
    // Where layers of the manifest are gone, what stands for them is there.
    if images.layers(manifest)? != manifest.layers {
        return Ok(());
    }
    for Stretch { from, to } in stretches(&manifest.layers) {
        let Some(name) = names(&manifest.layers[from..to]).last().filter(|_| to - from >= worth) else {
            continue;
        };
        images.store.publish_layer(&name, |target| {
            let (layers, below): (&[PathBuf], &[PathBuf]) = (&lower[from..to], &lower[to..]);
            merge(layers, below, target, stop)
                .map(drop)
                .map_err(|error| CapabilityError::io("squash layers of a sandbox", &error))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_stack_fewer_layers() {
        for (release, heights) in [
            ("5.14.0-362.el9.x86_64", OLD_HEIGHTS),
            ("6.4.16", OLD_HEIGHTS),
            ("6.5.0-14-generic", HEIGHTS),
            ("6.18.3\n", HEIGHTS),
            ("10.0", HEIGHTS),
            ("", OLD_HEIGHTS),
        ] {
            assert_eq!(heights_of(release), heights, "{release}");
        }
    }

    #[test]
    fn only_layers_of_snapshots_next_to_each_other_are_squashed() {
        let layers =
            ["saved-d", "saved-c", "run-x", "squash-b", "saved-a", "copy-y", "saved-0"].map(String::from);
        let found: Vec<_> = stretches(&layers).iter().map(|stretch| (stretch.from, stretch.to)).collect();
        assert_eq!(found, [(0, 2), (3, 5)]);
        // The name of the lowest two does not depend on what is above.
        let all: Vec<_> = names(&["saved-3", "saved-2", "saved-1"].map(String::from)).collect();
        let two: Vec<_> = names(&["saved-2", "saved-1"].map(String::from)).collect();
        assert_eq!(all[..2], two);
        assert_eq!(all.len(), 3);
    }
}
