//! Images in files: an OCI layout (a directory or a tar of one), what `docker save` writes, or the archive of a root file
//! system. Told apart by what is in them. Read in place: nothing is unpacked but layers.

use super::archive::{Kind, Limits, shown, walk};
use super::document::{self, DOCUMENT_LIMIT, Descriptor, Document, ImageManifest};
use super::stream::{Compression, compression, read_document};
use super::unpack::beneath;
use super::{invalid, too_large};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use rustix::fs::OFlags;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Indexes within indexes.
const NESTING_LIMIT: usize = 4;
/// Bytes in which a tar archive shows that it is one.
const TAR_START: u64 = 512;

/// What lies at a path.
pub(super) enum Source {
    /// An archive of files, as one layer.
    RootFs(File),
    /// An image with its layers.
    Image(Layout),
}

/// A directory of blobs, or an archive of such a directory.
pub(super) struct Layout {
    place: Place,
    pub(super) shown: String,
}

enum Place {
    Directory(File),
    /// With offset and size of each of its files.
    Archive(File, HashMap<Vec<u8>, (u64, u64)>),
}

/// An image that is ready to be unpacked: its configuration, and where its layers lie, lowest first.
pub(super) struct Parts {
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Blob>,
}

/// A layer as a file, with the digest it must have where the layout says one.
pub(super) struct Blob {
    path: String,
    pub(super) digest: Option<(Digest, u64)>,
}

impl Source {
    /// Looks at a path. What is neither is refused with what would be.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |error: std::io::Error| CapabilityError::io(format!("read {shown}"), &error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            let layout = Layout { place: Place::Directory(file), shown: shown.clone() };
            if layout.has("index.json")? || layout.has("manifest.json")? {
                return Ok(Self::Image(layout));
            }
            return Err(invalid(format!(
                "{shown} is no OCI layout: it has no index.json. For a root file system, pack it first: \
                 `tar -C {shown} -cf rootfs.tar .`"
            )));
        }
        if !metadata.is_file() {
            return Err(invalid(format!("{shown} is neither a file nor a directory")));
        }
        let mut start = Vec::new();
        (&file).take(TAR_START).read_to_end(&mut start).map_err(failed)?;
        (&file).seek(SeekFrom::Start(0)).map_err(failed)?;
        if compression(&start) != Compression::None {
            return Ok(Self::RootFs(file));
        }
        if start.len() < 512 || tar::Header::from_byte_slice(&start).cksum().is_err() {
            return Err(invalid(format!(
                "{shown} is no image: give a tar archive (plain, gzip or zstd) of a root file system, an OCI layout, or \
                 what `docker save` wrote"
            )));
        }
        let files = files_of(&file)?;
        (&file).seek(SeekFrom::Start(0)).map_err(failed)?;
        let has = |name: &str| files.contains_key(name.as_bytes());
        if (has("oci-layout") && has("index.json")) || is_docker_archive(&file, &files) {
            return Ok(Self::Image(Layout { place: Place::Archive(file, files), shown }));
        }
        Ok(Self::RootFs(file))
    }
}

/// Where the files of an archive lie in it.
fn files_of(file: &File) -> Result<HashMap<Vec<u8>, (u64, u64)>> {
    let mut files = HashMap::new();
    // Reads the content, too, for nothing may be skipped that a second reader would see; the layers are read anyway.
    walk(BufReader::with_capacity(256 << 10, file), &Limits::default(), |entry, _| {
        if entry.kind == Kind::File {
            let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path).to_vec();
            if files.insert(path, (entry.offset, entry.size)).is_some() {
                return Err(invalid(format!(
                    "entry `{}` of the archive comes a second time",
                    shown(&entry.path)
                )));
            }
        }
        Ok(())
    })?;
    Ok(files)
}

/// Whether `manifest.json` is that of `docker save`: a root file system may hold any file of that name.
fn is_docker_archive(file: &File, files: &HashMap<Vec<u8>, (u64, u64)>) -> bool {
    let Some((offset, size)) = files.get(&b"manifest.json"[..]).filter(|(_, size)| *size <= DOCUMENT_LIMIT)
    else {
        return false;
    };
    let mut json = vec![0; *size as usize];
    file.read_exact_at(&mut json, *offset).is_ok() && serde_json::from_slice::<Vec<Saved>>(&json).is_ok()
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

impl Layout {
    /// The image for this machine.
    pub(super) fn image(&self) -> Result<Parts> {
        if self.has("index.json")? {
            return self.oci();
        }
        let json = self.file("manifest.json", DOCUMENT_LIMIT)?;
        let mut images: Vec<Saved> = serde_json::from_slice(&json)
            .map_err(|error| invalid(format!("manifest.json of {} is malformed: {error}", self.shown)))?;
        let (Some(image), true) = (images.pop(), images.is_empty()) else {
            return Err(invalid(format!(
                "{} holds several images or none; save the one that is meant alone",
                self.shown
            )));
        };
        // Its layers have no digests of their own: the configuration has those of their content.
        let layers = image.layers.into_iter().map(|path| Blob { path, digest: None }).collect();
        Ok(Parts { config: self.file(&image.config, DOCUMENT_LIMIT)?, layers })
    }

    fn oci(&self) -> Result<Parts> {
        let mut json = self.file("index.json", DOCUMENT_LIMIT)?;
        for _ in 0..NESTING_LIMIT {
            let manifest = match Document::parse(&json)? {
                Document::Index(entries) => {
                    json = self.document(document::choose(&entries)?)?;
                    continue;
                }
                Document::Manifest(manifest) => manifest,
            };
            let ImageManifest { config, layers } = manifest;
            let blob = |layer: &Descriptor| {
                let digest = layer.digest()?;
                Ok(Blob { path: path_of(&digest), digest: Some((digest, layer.size)) })
            };
            let layers = layers.iter().map(blob).collect::<Result<_>>()?;
            return Ok(Parts { config: self.document(&config)?, layers });
        }
        Err(invalid(format!("{} has indexes within indexes, more than {NESTING_LIMIT} deep", self.shown)))
    }

    /// A document, whose digest and size are checked.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = descriptor.digest()?;
        if descriptor.size > DOCUMENT_LIMIT {
            return Err(too_large(format!("document {digest} holds more than {} MiB", DOCUMENT_LIMIT >> 20)));
        }
        let content = self.file(&path_of(&digest), DOCUMENT_LIMIT)?;
        check(&content, &digest, descriptor.size)?;
        Ok(content)
    }

    fn file(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        read_document(self.open(path)?, limit, "a document of the image")
    }

    fn has(&self, path: &str) -> Result<bool> {
        match &self.place {
            Place::Archive(_, files) => Ok(files.contains_key(path.as_bytes())),
            Place::Directory(directory) => match beneath(directory.as_fd(), path.as_bytes(), OFlags::PATH, 0)
            {
                Ok(_) => Ok(true),
                Err(rustix::io::Errno::NOENT) => Ok(false),
                Err(errno) => Err(self.unreadable(path, errno.into())),
            },
        }
    }

    /// The content of a layer.
    pub(super) fn blob(&self, blob: &Blob) -> Result<Box<dyn Read + Send + '_>> {
        self.open(&blob.path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send + '_>> {
        let failed = |error: std::io::Error| self.unreadable(path, error);
        match &self.place {
            Place::Directory(directory) => {
                // Not blocking: a pipe in place of a file would be waited for.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let file = beneath(directory.as_fd(), path.as_bytes(), flags, 0)
                    .map_err(|errno| failed(errno.into()))?;
                let file = File::from(file);
                if !file.metadata().map_err(failed)?.is_file() {
                    return Err(invalid(format!("`{}` of {} is no file", path.escape_debug(), self.shown)));
                }
                Ok(Box::new(file))
            }
            Place::Archive(file, files) => {
                let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
                let (offset, size) = *files.get(path.as_bytes()).ok_or_else(|| failed(missing()))?;
                Ok(Box::new(Part { file, offset, end: offset + size }))
            }
        }
    }

    fn unreadable(&self, path: &str, error: std::io::Error) -> CapabilityError {
        CapabilityError::io(format!("read `{}` of {}", path.escape_debug(), self.shown), &error)
    }
}

/// Where a blob lies in a layout.
pub(super) fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Checks a document against what names it.
pub(super) fn check(content: &[u8], digest: &Digest, size: u64) -> Result<()> {
    if content.len() as u64 != size || Digest::of(content) != *digest {
        return Err(invalid(format!(
            "document {digest} is not what its digest and size say: it is damaged or forged"
        )));
    }
    Ok(())
}

/// A part of a file.
struct Part<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..length], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
