//! Archives as they are and as nobody should write them, unpacked as root and as an ordinary user.

mod hostile;
mod layouts;

use super::super::choose_ids;
use super::super::image::Images;
use super::super::store::Store;
use super::*;
use crate::capability::sandbox::local::plan::Ids;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tar::{EntryType, Header};
use unpack::Unpacked;

/// Writes archives entry by entry, with whatever names and links.
#[derive(Clone, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn entry(
        mut self,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        mode: u32,
        content: &[u8],
    ) -> Self {
        for (long, name) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, link)] {
            if name.len() > 100 {
                self = self.entry(long, b"././@LongLink", b"", 0, &[name, b"\0"].concat());
            }
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        for (field, name) in [(&mut gnu.name, path), (&mut gnu.linkname, link)] {
            let length = name.len().min(100);
            field[..length].copy_from_slice(&name[..length]);
        }
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), b"", 0o644, content.as_bytes())
    }

    pub(super) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), b"", mode, b"")
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    pub(super) fn pax(self, records: &str) -> Self {
        self.entry(EntryType::XHeader, b"pax", b"", 0, records.as_bytes())
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A directory for a layer, with things around it that must stay as they are.
pub(super) struct World {
    directory: tempfile::TempDir,
    before: BTreeMap<PathBuf, Seen>,
}

/// All of a file that anyone could see.
type Seen = (u32, u32, u32, i64, u64, Vec<u8>);

impl World {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["layer", "below/a/b", "outside/dir"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("outside/file"), "untouched").unwrap();
        std::os::unix::fs::symlink("../outside", at("below/lnk")).unwrap();
        let (uid, gid) = choose_ids().unwrap().root();
        for path in ["below", "below/a", "below/a/b", "below/lnk"] {
            std::os::unix::fs::lchown(at(path), Some(uid), Some(gid)).unwrap();
        }
        let before = seen(directory.path(), &["outside", "below"]);
        Self { directory, before }
    }

    pub(super) fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    pub(super) fn below(&self) -> PathBuf {
        self.directory.path().join("below")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    pub(super) fn unpack(&self, archive: &[u8]) -> Result<Unpacked> {
        unpack(archive, &self.layer(), &[self.below()], choose_ids().unwrap(), &Limits::default())
    }

    /// Whether nothing but the layer has changed.
    pub(super) fn is_untouched(&self) -> bool {
        let mut names: Vec<_> =
            fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names == ["below", "layer", "outside"]
            && seen(self.directory.path(), &["outside", "below"]) == self.before
    }
}

pub(super) fn seen(root: &Path, names: &[&str]) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            metadata.rdev().to_le_bytes().to_vec()
        };
        // A directory has as many names as it holds directories.
        let names = if metadata.is_dir() { 0 } else { metadata.nlink() };
        // The mark of a deletion is as old as the layer.
        let modified = if metadata.file_type().is_char_device() { 0 } else { metadata.mtime() };
        let value = (metadata.mode(), metadata.uid(), metadata.gid(), modified, names, content);
        found.insert(path.strip_prefix(root).unwrap().to_owned(), value);
    }
    found
}

pub(super) fn images() -> (tempfile::TempDir, Images) {
    let home = tempfile::tempdir().unwrap();
    let ids = choose_ids().unwrap();
    let store = Store::new(home.path(), ids).unwrap();
    (home, Images::open(store, ids).unwrap())
}

fn is_range() -> bool {
    choose_ids().unwrap() == Ids::Range
}

#[test]
fn what_an_archive_says_is_what_lies_there() {
    let world = World::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let archive = Archive::new()
        .directory("./", 0o750)
        .directory("bin/", 0o555)
        .entry(EntryType::Regular, b"bin/tool", b"", 0o4755, b"#!")
        .hard_link("bin/other", "bin/tool")
        .symlink("bin/link", "../../outside//file")
        .pax("19 path=named/file\n30 mtime=1234567890.123456789\n")
        .file("ignored", "named")
        .directory(&long[..121], 0o700)
        .file(&long, "long")
        .entry(EntryType::Char, b"dev/null", b"", 0o666, b"")
        .entry(EntryType::Fifo, b"pipe", b"", 0o666, b"");
    let unpacked = world.unpack(&archive.end()).unwrap();
    let layer = world.layer();
    let stat = |path: &str| fs::symlink_metadata(layer.join(path)).unwrap();
    let owner = if is_range() { (1_000_007, 1_000_008) } else { choose_ids().unwrap().root() };
    let tool = stat("bin/tool");
    assert_eq!(
        (tool.mode() & 0o7777, (tool.uid(), tool.gid()), tool.mtime()),
        (0o4755, owner, 1_000_000_000)
    );
    assert_eq!((stat("bin/other").ino(), stat("bin/link").mtime()), (tool.ino(), 1_000_000_000));
    assert_eq!((stat("bin/link").uid(), stat("bin/link").gid()), owner);
    assert_eq!(fs::read_link(layer.join("bin/link")).unwrap().as_os_str(), "../../outside//file");
    let (bin, root) = if is_range() { (0o555, 0o750) } else { (0o755, 0o750) };
    assert_eq!((stat("bin").mode() & 0o7777, stat("").mode() & 0o7777), (bin, root));
    assert_eq!((stat("bin").mtime(), (stat("bin").uid(), stat("bin").gid())), (1_000_000_000, owner));
    assert_eq!((stat("named/file").mtime(), stat("named/file").mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(fs::read(layer.join(&long)).unwrap(), b"long");
    assert!(!layer.join("dev/null").exists() && !layer.join("pipe").exists());
    assert_eq!(unpacked.skipped.unwrap(), "left out 2 devices and pipes (dev/null, pipe)");
    assert!(unpacked.leans_on_layers_below, "`named` is no entry");
    assert!(world.is_untouched());
}

#[test]
fn deletions_become_marks_of_overlayfs() {
    let world = World::new();
    let archive = Archive::new()
        .file(".wh.gone", "")
        .directory("emptied", 0o755)
        .file("emptied/.wh..wh..opq", "")
        .file("emptied/new", "x")
        .file(".wh.replaced", "")
        .directory("replaced", 0o755)
        .file("replaced/new", "x")
        .directory("late", 0o755)
        .file(".wh.late", "")
        .file(".wh.file", "")
        .file("file", "new")
        .file(".wh..wh.aufs", "");
    world.unpack(&archive.end()).unwrap();
    let layer = world.layer();
    let gone = fs::symlink_metadata(layer.join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for (name, opaque) in [("emptied", true), ("replaced", true), ("late", true), ("", false)] {
        assert_eq!(is_opaque(&layer.join(name)).unwrap(), opaque, "{name}");
    }
    assert_eq!(fs::read(layer.join("file")).unwrap(), b"new");
    let mut names: Vec<_> = fs::read_dir(&layer).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["emptied", "file", "gone", "late", "replaced"]);
}

#[test]
fn a_directory_that_is_only_on_the_way_looks_like_the_one_it_covers() {
    let world = World::new();
    fs::set_permissions(world.below().join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .unwrap();
    let unpacked = world.unpack(&Archive::new().file("a/b/file", "x").end()).unwrap();
    assert!(unpacked.leans_on_layers_below);
    assert_eq!(fs::metadata(world.layer().join("a")).unwrap().mode() & 0o7777, 0o1777);
    let world = World::new();
    let whole = Archive::new().file("a/file", "x").directory("a", 0o700).end();
    assert!(!world.unpack(&whole).unwrap().leans_on_layers_below, "said in the end");
    assert_eq!(fs::metadata(world.layer().join("a")).unwrap().mode() & 0o7777, 0o700);
}

/// Everything here once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    const USER: u32 = 12_345;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).unwrap();
    let test = place.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let module = module_path!().split_once("::").unwrap().1;
    let mut command = std::process::Command::new(test);
    command.args([module, "--skip", "all_of_it_as_an_ordinary_user"]).env_clear().env("TMPDIR", place.path());
    std::os::unix::process::CommandExt::uid(&mut command, USER);
    std::os::unix::process::CommandExt::gid(&mut command, USER);
    let output = command.current_dir(place.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains(" 0 passed"), "{said}");
}
