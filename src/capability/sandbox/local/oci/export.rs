//! Writes an image as an OCI layout, which other programs read: one archive per layer, with the marks of overlayfs as the
//! format's deletions. Equal images give equal bytes.

use super::super::image::{Images, Manifest, Root};
use super::super::plan::Ids;
use super::super::store::{names_in, remove_tree, unique};
use super::document::{
    CONFIG, Configuration, Descriptor, INDEX, LAYER, MANIFEST, NAME_ANNOTATION, PLATFORM, Platform,
    READ_ONLY_LABEL, RootFs, Settings,
};
use super::invalid;
use super::layout::path_of;
use super::unpack::{OPAQUE_MARK, beneath};
use crate::capability::sandbox::BuildLog;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use flate2::{Compression, write::GzEncoder};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use tar::{EntryType, Header};

/// Deepest directory.
const DEPTH_LIMIT: usize = 256;
/// Bytes of a name that the header of an entry holds.
const SHORT_NAME: usize = 100;

/// Writes the image to `target`: an archive where it ends in `.tar`, else a new directory. It is there whole or not at all.
pub(super) fn export(images: &Images, image: &str, target: &Path, log: &BuildLog) -> Result<()> {
    let (manifest, created) = images.dated(image)?;
    if manifest.root == Root::Host {
        return Err(invalid(format!(
            "image `{image}` stands on this machine's own /usr, which cannot be taken elsewhere: import a root file system \
             (`harvest image import ROOTFS.tar --name NAME`), build the image on it (`base: NAME`), and export that"
        )));
    }
    let archive = target.extension().is_some_and(|extension| extension == "tar");
    let occupied = if archive { target.symlink_metadata().is_ok() } else { !is_free(target)? };
    if occupied {
        let message = format!("{} exists already; remove it, or export to another place", target.display());
        return Err(CapabilityError::new(ErrorKind::CONFLICT, message));
    }
    let failed = |error: io::Error| CapabilityError::io(format!("export to {}", target.display()), &error);
    let beside = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = beside.join(unique(".harvest-export"));
    fs::create_dir(&draft).map_err(failed)?;
    let name = Digest::parse(image).is_none().then_some(image);
    let written = layout(images, &manifest, created, name, &draft, log).and_then(|()| {
        if !archive {
            return fs::rename(&draft, target).map_err(failed);
        }
        let packed = beside.join(unique(".harvest-export"));
        let done = pack(&draft, &packed).and_then(|()| fs::rename(&packed, target));
        if done.is_err() {
            drop(fs::remove_file(&packed));
        }
        done.map_err(failed)
    });
    if archive || written.is_err() {
        remove_tree(&draft).map_err(failed)?;
    }
    written
}

fn is_free(target: &Path) -> Result<bool> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(CapabilityError::io(format!("look into {}", target.display()), &error)),
    }
}

/// Fills an empty directory.
fn layout(
    images: &Images,
    manifest: &Manifest,
    created: jiff::Timestamp,
    name: Option<&str>,
    directory: &Path,
    log: &BuildLog,
) -> Result<()> {
    let failed = |error: io::Error| CapabilityError::io("write the exported image", &error);
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed)?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    let names = images.layers(manifest)?;
    for (number, layer) in names.iter().rev().enumerate() {
        log(&format!("packing layer {} of {}", number + 1, names.len()));
        let draft = blobs.join(".draft");
        let file = File::create(&draft).map_err(failed)?;
        let packed = pack_layer(&images.store.layers().join(layer), images.ids, file)
            .map_err(|error| CapabilityError::io(format!("pack layer {layer}"), &error))?;
        fs::rename(&draft, directory.join(path_of(&packed.digest))).map_err(failed)?;
        layers.push(Descriptor::new(LAYER, &packed.digest, packed.size));
        diff_ids.push(packed.diff_id.to_string());
    }
    let document = |media_type: &str, value: &serde_json::Value| {
        let json = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        let digest = Digest::of(&json);
        fs::write(directory.join(path_of(&digest)), &json).map_err(failed)?;
        Ok::<_, CapabilityError>(Descriptor::new(media_type, &digest, json.len() as u64))
    };
    let (os, architecture) = PLATFORM;
    let config = Configuration {
        created: Some(created.to_string()),
        architecture: architecture.into(),
        os: os.into(),
        config: Some(settings(manifest)),
        rootfs: RootFs { kind: "layers".into(), diff_ids },
    };
    let config = document(CONFIG, &json!(config))?;
    let body = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    let mut entry = document(MANIFEST, &body)?;
    entry.platform = Some(Platform { os: os.into(), architecture: architecture.into(), variant: None });
    entry.annotations = name.map(|name| BTreeMap::from([(NAME_ANNOTATION.to_owned(), name.to_owned())]));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    fs::write(directory.join("index.json"), index.to_string()).map_err(failed)?;
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)
}

fn settings(manifest: &Manifest) -> Settings {
    let read_only = (!manifest.read_only.is_empty())
        .then(|| BTreeMap::from([(READ_ONLY_LABEL.to_owned(), json!(manifest.read_only).to_string())]));
    let env = manifest.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Settings {
        user: manifest.user.clone(),
        env: Some(env),
        working_dir: manifest.workdir.clone(),
        labels: read_only,
    }
}

/// A layer as a blob.
struct Packed {
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

fn pack_layer(layer: &Path, ids: Ids, file: File) -> io::Result<Packed> {
    let zipped = Hashing::new(GzEncoder::new(Hashing::new(BufWriter::new(file)), Compression::default()));
    let mut packing = Packing { archive: tar::Builder::new(zipped), ids, links: HashMap::new() };
    packing.directory(File::open(layer)?.as_fd(), b"", 0)?;
    let (zip, diff_id, _) = packing.archive.into_inner()?.finish();
    let (mut file, digest, size) = zip.finish()?.finish();
    file.flush()?;
    Ok(Packed { digest, size, diff_id })
}

struct Packing<W: Write> {
    archive: tar::Builder<W>,
    ids: Ids,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packing<W> {
    /// What lies in a directory, in order of its names.
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(io::Error::other("directories lie too deep in one another"));
        }
        let mut opaque = [0; 1];
        if matches!(rustix::fs::fgetxattr(directory, OPAQUE_MARK, &mut opaque), Ok(1)) && opaque == *b"y" {
            self.empty_file(&join(path, b".wh..wh..opq"))?;
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        names.iter().try_for_each(|name| self.entry(directory, name, &join(path, name), depth))
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let inode = (stat.st_dev, stat.st_ino);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.append(&stat, EntryType::Directory, &[path, b"/"].concat(), b"", None)?;
                let inner = beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
                self.directory(inner.as_fd(), path, depth + 1)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
                self.append(&stat, EntryType::Symlink, path, target.as_bytes(), None)
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&inode).cloned() {
                        return self.append(&stat, EntryType::Link, path, &first, None);
                    }
                    self.links.insert(inode, path.to_vec());
                }
                let file = File::from(beneath(directory, name, OFlags::RDONLY, 0)?);
                self.append(&stat, EntryType::Regular, path, b"", Some(file))
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let start = path.len() - name.len();
                self.empty_file(&[&path[..start], b".wh.", name].concat())
            }
            // Sockets and pipes mean nothing outside the place they were made in.
            _ => Ok(()),
        }
    }

    fn append(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        path: &[u8],
        target: &[u8],
        content: Option<File>,
    ) -> io::Result<()> {
        let mut header = blank();
        let (uid, gid) = self.ids.inside(stat.st_uid, stat.st_gid);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        match content {
            Some(file) => {
                let size = stat.st_size.unsigned_abs();
                header.set_size(size);
                self.write(header, kind, path, target, file.take(size))
            }
            None => self.write(header, kind, path, target, io::empty()),
        }
    }

    /// How the format says that something below is gone.
    fn empty_file(&mut self, path: &[u8]) -> io::Result<()> {
        self.write(blank(), EntryType::Regular, path, b"", io::empty())
    }

    /// Writes an entry with its names byte for byte, which the library would tidy up.
    fn write(
        &mut self,
        mut header: Header,
        kind: EntryType,
        path: &[u8],
        target: &[u8],
        content: impl Read,
    ) -> io::Result<()> {
        for (kind, name) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, target)] {
            if name.len() > SHORT_NAME {
                let mut long = blank();
                long.set_entry_type(kind);
                long.set_size(name.len() as u64 + 1);
                put_name(&mut long, b"././@LongLink", b"");
                long.set_cksum();
                self.archive.append(&long, name.chain(&b"\0"[..]))?;
            }
        }
        header.set_entry_type(kind);
        put_name(&mut header, path, target);
        header.set_cksum();
        self.archive.append(&header, content)
    }
}

/// A header in which every number is there: readers take an empty one for damage.
fn blank() -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn put_name(header: &mut Header, path: &[u8], target: &[u8]) {
    if let Some(gnu) = header.as_gnu_mut() {
        for (field, name) in [(&mut gnu.name, path), (&mut gnu.linkname, target)] {
            let length = name.len().min(field.len());
            field[..length].copy_from_slice(&name[..length]);
        }
    }
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, name].join(&b'/') }
}

/// Packs a layout into an archive.
fn pack(layout: &Path, target: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(File::create(target)?));
    let mut paths = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    let blobs = names_in(&layout.join("blobs/sha256")).map_err(|error| io::Error::other(error.message))?;
    paths.extend(blobs.iter().map(|name| format!("blobs/sha256/{name}")));
    for path in paths {
        let file = File::open(layout.join(&path))?;
        let mut header = blank();
        header.set_mode(0o644);
        header.set_size(file.metadata()?.len());
        archive.append_data(&mut header, &path, file)?;
    }
    archive.into_inner()?.flush()
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    target: W,
    hash: Sha256,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(target: W) -> Self {
        Self { target, hash: Sha256::new(), count: 0 }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.target, self.hash.into(), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.target.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}
