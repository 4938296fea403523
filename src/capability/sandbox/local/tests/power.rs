//! The power goes while a snapshot is made, or a sandbox is begun: it is there whole afterwards, or not at all.
//!
//! The home is on a file system of its own in a file, whose unsynced writes are in memory alone. A copy of that file is
//! what the disk would hold, with and without what the kernel happens to write by itself just before.

use super::super::points::arm;
use super::*;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

/// The process that cuts the power, and its directory.
const DIRECTORY: &str = "HARVEST_TEST_POWER_DIRECTORY";
/// What it ends with where it may not mount.
const CANNOT_MOUNT: i32 = 77;
/// Bytes of the file system.
const SIZE: u64 = 64 << 20;
/// A sandbox that is begun while the power goes.
const BEGUN: &str = "begun";
/// Bytes of a file in the snapshot.
const CONTENT: usize = 100_000;

#[test]
fn after_a_power_cut_a_snapshot_is_whole_or_absent() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return cut(directory.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    // Mounts end with their namespace, whatever becomes of the process.
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("capability::sandbox::local::tests::power::after_a_power_cut_a_snapshot_is_whole_or_absent")
        .env(DIRECTORY, directory.path())
        .output();
    let Ok(output) = output else { return eprintln!("not tested: there is no unshare") };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(CANNOT_MOUNT) | None => eprintln!("not tested: this user may not mount a file: {said}"),
        Some(1) if said.contains("unshare failed") => eprintln!("not tested: {said}"),
        _ => panic!("{said}"),
    }
}

fn cut(directory: &Path) {
    let disk = directory.join("disk");
    fs::File::create(&disk).unwrap().set_len(SIZE).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).status();
    if !made.is_ok_and(|status| status.success()) {
        give_up("mkfs.ext4 does not work");
    }
    let mounted = mount(&disk, &directory.join("before"));
    let images = open(&mounted.join("home"));
    let first = prepare(&images);
    let long = "x".repeat(CONTENT);
    // All until here is on disk.
    images.tag(&first, "first").unwrap();
    rustix::fs::syncfs(fs::File::open(&mounted).unwrap()).unwrap();
    write(&images, &[("unsynced", &long)]);

    let cuts: Rc<RefCell<Vec<PathBuf>>> = Rc::default();
    let copy = {
        let (cuts, disk, directory) = (cuts.clone(), disk.clone(), directory.to_owned());
        move |name: &str| {
            let copy = directory.join(format!("{:02}-{name}", cuts.borrow().len()));
            fs::copy(&disk, &copy).unwrap();
            cuts.borrow_mut().push(copy);
        }
    };
    let (trap, beside) = (copy.clone(), mounted.join("beside"));
    let both = move |place: &str| {
        trap(&format!("{place}-nothing-written"));
        // The directories reach the disk by a neighbour's sync, and the content of new files need not.
        let file = fs::File::create(&beside).unwrap();
        file.set_len(1).unwrap();
        file.sync_all().unwrap();
        trap(&format!("{place}-names-written"));
    };
    arm(both.clone());
    let manifest = stack::open(&images.store, ID).unwrap().unwrap();
    let (manifest, image) = saving::stack_files(&images, ID, manifest, || ()).unwrap();
    let image = image.unwrap();
    stack::fold(&images.store, ID, &manifest).unwrap();
    arm(|_| ());
    stack::begin(&images.store, BEGUN, &manifest).unwrap();
    fs::write(images.store.sandbox(BEGUN).join("upper/file"), &long).unwrap();
    both("begun");
    stack::settle(&images.store, BEGUN).unwrap();
    copy("begun-settled");
    // Waits for what goes on in the background.
    drop(images);
    copy("settled");

    let cuts = cuts.borrow();
    assert!(cuts.len() > 10, "{cuts:?}");
    let (mut torn, mut empty) = (0, 0);
    for cut in cuts.iter() {
        let place = cut.file_name().unwrap().to_string_lossy().into_owned();
        let home = mount(cut, &cut.with_extension("mounted")).join("home");
        let ids = choose_ids().unwrap();
        let store = Store::new(&home, ids).unwrap();
        let file = store.images().join(format!("{}.json", image.strip_prefix("sha256:").unwrap()));
        let was_there = file.exists();
        let images = Images::open(store.rebooted("another boot"), ids).unwrap();
        images.store.sweep().unwrap();
        let listed = images.list().unwrap();
        assert!(listed.iter().all(|image| image.durable), "{place}");
        let older = expected(&[("changed", "1"), ("old", "1")]);
        assert_eq!(files_of(&images, "first"), older, "{place}");
        match images.find(&image).unwrap() {
            Some(_) => {
                let files = files_of(&images, &image);
                assert_eq!(files.get("unsynced"), Some(&long), "{place}: half of it is there");
                assert_eq!(files.len(), all().len() + 1, "{place}");
            }
            None => {
                assert!(!place.ends_with("settled"), "a durable snapshot is lost");
                torn += u32::from(was_there);
            }
        }
        let record = images.store.sandbox(BEGUN).join("image.json");
        match stack::open(&images.store, BEGUN).unwrap() {
            Some(begun) => assert_eq!(begun, manifest, "{place}"),
            None => {
                assert!(!place.ends_with("settled"), "a sandbox with a record on disk is lost");
                empty += u32::from(record.exists());
                stack::begin(&images.store, BEGUN, &manifest).unwrap();
                assert!(!images.store.sandbox(BEGUN).join("upper/file").exists(), "{place}");
            }
        }
        // The sandbox opens, with all that was synced before.
        let files = files(&images);
        assert!(all().iter().all(|(name, content)| files.get(name) == Some(content)), "{place}: {files:?}");
    }
    assert!(torn > 0, "no cut has left a snapshot to be dropped");
    assert!(empty > 0, "no cut has left an empty record");
}

/// Mounts a file. Nothing is written back on its own for five minutes, so that only what is synced is there.
fn mount(file: &Path, at: &Path) -> PathBuf {
    fs::create_dir(at).unwrap();
    let mounted = Command::new("mount").args(["-o", "loop,commit=300"]).arg(file).arg(at).output().unwrap();
    if !mounted.status.success() {
        give_up(&String::from_utf8_lossy(&mounted.stderr));
    }
    at.to_owned()
}

fn give_up(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(CANNOT_MOUNT)
}
