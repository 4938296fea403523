//! The power goes while a journal is written to: what was acknowledged is on the disk.
//!
//! The journal is on a file system of its own in a file, or on two. The writer is stopped, the files copied, the copies
//! mounted: all that the disks had not been told to keep is gone. What this cannot show is a disk that lies about its own
//! cache.

use super::*;
use process::{as_role, check, command, kill_after_stopping};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::process::{Command, Stdio};

for_every_kind!(nothing_acknowledged_is_lost_by_a_power_cut);

/// What the process in the namespace ends with where it may not mount.
const CANNOT_MOUNT: i32 = 77;
/// Acknowledgements before the cut, for the process in the namespace.
const COUNT: &str = "HARVEST_TEST_JOURNAL_COUNT";
/// Bytes of the file system.
const SIZE: u64 = 64 << 20;

async fn nothing_acknowledged_is_lost_by_a_power_cut(kind: &Kind) {
    for cut in 0..trials("HARVEST_POWER_CUTS", 2) {
        let home = tempfile::tempdir().unwrap();
        // Mounts end with their namespace, whatever becomes of the process.
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        as_role(&mut unshare, kind, "cut", home.path());
        let Ok(output) = unshare.env(COUNT, (20 + cut * 13 % 97).to_string()).output() else {
            eprintln!("not tested: there is no unshare");
            return;
        };
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(CANNOT_MOUNT) | None => {
                return eprintln!("not tested: this user may not mount a file: {said}");
            }
            Some(1) if said.contains("unshare failed") => return eprintln!("not tested: {said}"),
            _ => panic!("cut {cut}: {said}"),
        }
    }
}

/// Cuts the power once; the process that does it has mounts of its own.
pub(super) async fn cut(kind: &Kind, directory: &Path) {
    let (disks, copies) = (directory.join("disks"), directory.join("copies"));
    for place in [&disks, &copies] {
        std::fs::create_dir(place).unwrap();
    }
    let places: Vec<_> = std::iter::once("").chain(kind.apart).collect();
    for number in 0..places.len() {
        make(&disks.join(number.to_string()));
    }
    let before = mount(&places, &disks, &directory.join("before"));
    let mut writer = command(kind, "write", &before).stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&writer);
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    let acks = kill_after_stopping(&mut writer, count, || {
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        for number in 0..places.len() {
            let name = number.to_string();
            std::fs::copy(disks.join(&name), copies.join(&name)).unwrap();
        }
    });
    assert!(!acks.is_empty());
    let after = mount(&places, &copies, &directory.join("after"));
    check(kind, &after, &acks).await;
}

/// Makes a disk: a file with an empty file system.
fn make(disk: &Path) {
    std::fs::File::create(disk).unwrap().set_len(SIZE).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk).status();
    if !made.is_ok_and(|status| status.success()) {
        give_up("mkfs.ext4 does not work");
    }
}

/// Mounts disks, by their numbers, where `places` says below `at`, and returns the home. Nothing is written back on its
/// own for five minutes, so that only what is synced is there.
fn mount(places: &[&str], disks: &Path, at: &Path) -> PathBuf {
    let home = at.join("home");
    for (number, place) in places.iter().enumerate() {
        let at = if place.is_empty() { at.to_owned() } else { home.join(place) };
        std::fs::create_dir_all(&at).unwrap();
        let disk = disks.join(number.to_string());
        let mounted =
            Command::new("mount").args(["-o", "loop,commit=300"]).arg(disk).arg(&at).output().unwrap();
        if !mounted.status.success() {
            give_up(&String::from_utf8_lossy(&mounted.stderr));
        }
    }
    home
}

fn give_up(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(CANNOT_MOUNT)
}
