//! Layers at random, and what is seen through them: by the merged one as by all of them.

use super::super::merge::merge;
use super::*;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// What lies at a path of a layer.
#[derive(Clone, Debug)]
enum Node {
    File(u8),
    Link(u8),
    Whiteout,
    Directory { mode: u32, opaque: bool, inside: BTreeMap<u8, Node> },
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Node::File),
        any::<u8>().prop_map(Node::Link),
        Just(Node::Whiteout),
        Just(Node::Whiteout),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| directory(inner, any::<bool>()))
}

fn directory(
    inner: impl Strategy<Value = Node>,
    opaque: impl Strategy<Value = bool>,
) -> impl Strategy<Value = Node> {
    let modes = prop::sample::select(vec![0o755, 0o700, 0o1777]);
    (modes, opaque, prop::collection::btree_map(0_u8..4, inner, 0..4))
        .prop_map(|(mode, opaque, inside)| Node::Directory { mode, opaque, inside })
}

/// A layer; its root is a directory like any other, and never opaque.
fn layer() -> impl Strategy<Value = Node> {
    directory(node(), Just(false))
}

fn build(node: &Node, at: &Path) {
    match node {
        Node::File(content) => fs::write(at, [*content]).unwrap(),
        Node::Link(to) => symlink(to.to_string(), at).unwrap(),
        Node::Whiteout => {
            rustix::fs::mknodat(CWD, at, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }
        Node::Directory { mode, opaque, inside } => {
            fs::create_dir(at).unwrap();
            for (name, node) in inside {
                build(node, &at.join(name.to_string()));
            }
            if *opaque {
                rustix::fs::lsetxattr(at, "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
            }
            rustix::fs::lsetxattr(at, "user.mine", mode.to_string().as_bytes(), XattrFlags::empty()).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

/// What is seen at each path. From the lowest layer up, as images are unpacked: the other way round than they are merged.
type View = BTreeMap<PathBuf, String>;

fn apply(view: &mut View, layer: &Path, path: &Path) {
    let real = layer.join(path);
    let metadata = fs::symlink_metadata(&real).unwrap();
    let forget = |view: &mut View| view.retain(|seen, _| seen == path || !seen.starts_with(path));
    let described = if metadata.is_dir() {
        let mut value = [0; 8];
        let opaque = rustix::fs::lgetxattr(&real, "user.overlay.opaque", &mut value).is_ok();
        if opaque || view.get(path).is_some_and(|seen| !seen.starts_with("directory")) {
            forget(view);
        }
        let length = rustix::fs::lgetxattr(&real, "user.mine", &mut value).unwrap();
        let mine = String::from_utf8_lossy(&value[..length]).into_owned();
        format!("directory {:o} {mine}", metadata.mode())
    } else {
        forget(view);
        match FileType::from_raw_mode(metadata.mode()) {
            FileType::CharacterDevice => {
                view.remove(path);
                return;
            }
            FileType::Symlink => format!("link {}", fs::read_link(&real).unwrap().display()),
            _ => format!("file {:?} {:o}", fs::read(&real).unwrap(), metadata.mode()),
        }
    };
    view.insert(path.to_owned(), described);
    if metadata.is_dir() {
        for entry in fs::read_dir(real).unwrap() {
            apply(view, layer, &path.join(entry.unwrap().file_name()));
        }
    }
}

/// Layers topmost first.
fn view(layers: &[PathBuf]) -> View {
    let mut view = View::new();
    layers.iter().rev().for_each(|layer| apply(&mut view, layer, Path::new("")));
    view
}

fn whiteouts(at: &Path, path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at.join(path)).unwrap() {
        let path = path.join(entry.unwrap().file_name());
        let metadata = fs::symlink_metadata(at.join(&path)).unwrap();
        if metadata.is_dir() {
            whiteouts(at, &path, found);
        } else if FileType::from_raw_mode(metadata.mode()) == FileType::CharacterDevice {
            found.push(path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_layer_shows_what_several_did(
        layers in prop::collection::vec(layer(), 1..5),
        below in prop::collection::vec(layer(), 0..3),
    ) {
        let place = tempfile::tempdir().unwrap();
        let make = |kind: &str, layers: &[Node]| -> Vec<PathBuf> {
            let paths = (0..layers.len()).map(|number| place.path().join(format!("{kind}-{number}")));
            let paths: Vec<_> = paths.collect();
            layers.iter().zip(&paths).for_each(|(layer, path)| build(layer, path));
            paths
        };
        let (layers, below) = (make("layer", &layers), make("below", &below));
        let merged = place.path().join("merged");
        fs::create_dir(&merged).unwrap();
        merge(&layers, &below, &merged, &AtomicBool::new(false)).unwrap();

        let all: Vec<_> = layers.iter().chain(&below).cloned().collect();
        let instead: Vec<_> = [&merged].into_iter().chain(&below).cloned().collect();
        prop_assert_eq!(view(&all), view(&instead));
        // The kernel lists a whiteout that hides nothing.
        let (mut left, beneath) = (Vec::new(), view(&below));
        whiteouts(&merged, Path::new(""), &mut left);
        for path in left {
            prop_assert!(beneath.contains_key(&path), "{} hides nothing", path.display());
        }
    }
}

#[test]
fn holes_names_times_and_attributes_come_over() {
    let place = tempfile::tempdir().unwrap();
    let (layer, merged) = (place.path().join("layer"), place.path().join("merged"));
    fs::create_dir(&layer).unwrap();
    fs::create_dir(&merged).unwrap();
    let file = fs::File::create(layer.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"far", 1 << 29).unwrap();
    fs::hard_link(layer.join("sparse"), layer.join("other")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(layer.join("sparse"), fs::Permissions::from_mode(0o4711)).unwrap();
    for (name, value) in
        [("user.mine", "1"), ("user.overlay.origin", "2"), ("user.overlay.overlay.opaque", "y")]
    {
        rustix::fs::lsetxattr(layer.join("sparse"), name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    rustix::fs::mknodat(CWD, layer.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    merge(&[layer], &[], &merged, &AtomicBool::new(false)).unwrap();

    let copy = fs::metadata(merged.join("sparse")).unwrap();
    assert_eq!((copy.len(), copy.mode() & 0o7777, copy.nlink(), copy.mtime()), (1 << 30, 0o4711, 2, 0));
    assert!(copy.blocks() < 100, "a hole stays a hole");
    let mut far = [0; 3];
    let file = fs::File::open(merged.join("other")).unwrap();
    std::os::unix::fs::FileExt::read_at(&file, &mut far, 1 << 29).unwrap();
    assert_eq!(&far, b"far");
    let mut names = [0; 200];
    let length = rustix::fs::llistxattr(merged.join("sparse"), &mut names).unwrap();
    let mut names: Vec<_> =
        names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort();
    assert_eq!(names, [&b"user.mine"[..], b"user.overlay.overlay.opaque"], "a layer's own marks stay behind");
    assert_eq!(fs::metadata(merged.join("pipe")).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn it_breaks_off_when_told_to() {
    let place = tempfile::tempdir().unwrap();
    let (layer, merged) = (place.path().join("layer"), place.path().join("merged"));
    fs::create_dir(&layer).unwrap();
    fs::create_dir(&merged).unwrap();
    fs::write(layer.join("file"), "x").unwrap();
    let error = merge(&[layer], &[], &merged, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
}
