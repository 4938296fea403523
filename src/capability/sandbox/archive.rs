//! Trees of files as archives, for providers whose images are made elsewhere.

use rustix::fs::FileType;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Writes `source`, a file, link or directory, to an archive as `target`. All of it belongs to root; set-user-id bits,
/// sockets, pipes and devices are left out.
pub(super) fn add(archive: &mut tar::Builder<impl Write>, source: &Path, target: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(metadata.mode() & 0o1777);
    match FileType::from_raw_mode(metadata.mode()) {
        FileType::Directory => {
            if !target.as_os_str().is_empty() {
                archive.append_data(&mut header, target, io::empty())?;
            }
            let mut names = fs::read_dir(source)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            names.iter().try_for_each(|name| add(archive, &source.join(name), &target.join(name)))
        }
        FileType::Symlink => {
            header.set_size(0);
            archive.append_link(&mut header, target, fs::read_link(source)?)
        }
        FileType::RegularFile => archive.append_data(&mut header, target, File::open(source)?),
        _ => Ok(()),
    }
}
