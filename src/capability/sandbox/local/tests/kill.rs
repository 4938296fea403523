//! The process is killed at a place that it has reached, as `kill -9` does it, and the next one goes on.

use super::super::points::arm;
use super::super::{garbage, squash};
use super::*;
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::atomic::AtomicBool;

/// What the process that is killed does, and in which home, and how many places it survives.
const ROLE: &str = "HARVEST_TEST_SNAPSHOT_ROLE";
const HOME: &str = "HARVEST_TEST_SNAPSHOT_HOME";
const SURVIVED: &str = "HARVEST_TEST_SNAPSHOT_SURVIVED";

/// This test binary again, in a role.
fn run(role: &str, home: &Path, survived: u32) -> ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "capability::sandbox::local::tests::kill::victim", "--nocapture"])
        .env(ROLE, role)
        .env(HOME, home)
        .env(SURVIVED, survived.to_string())
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(rustix::process::Signal::KILL.as_raw());
    assert!(killed || output.status.success(), "{output:?}");
    output.status
}

/// Runs a role in fresh homes, killed at its first place, then at its second, until it gets through. Returns how often
/// it was killed.
fn at_every_place(role: &str, prepare: impl Fn(&Images), check: impl Fn(&Path, u32, bool)) -> u32 {
    for survived in 0.. {
        let home = tempfile::tempdir().unwrap();
        prepare(&open(home.path()));
        let got_through = run(role, home.path(), survived).success();
        check(home.path(), survived, got_through);
        if got_through {
            return survived;
        }
    }
    unreachable!("every role ends")
}

/// Not a test but the process that is killed.
#[test]
fn victim() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let home = std::env::var(HOME).unwrap();
    let images = open(home.as_ref());
    let left = Cell::new(std::env::var(SURVIVED).unwrap().parse::<u32>().unwrap());
    arm(move |_| match left.get() {
        0 => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap(),
        more => left.set(more - 1),
    });
    match &*role {
        "snapshot" => drop(snapshot(&images)),
        "collect" => {
            let since = jiff::Timestamp::now();
            let unused = garbage::unused(&images, since).unwrap();
            drop(garbage::collect(&images, &unused, since, false).unwrap());
        }
        role => panic!("no role {role}"),
    }
}

#[test]
fn a_snapshot_is_whole_or_absent_and_the_sandbox_loses_nothing() {
    let places = at_every_place(
        "snapshot",
        |images| drop(prepare(images)),
        |home, survived, got_through| {
            // Twice: what the first one finishes must not depend on there being no second.
            for again in [false, true] {
                let images = open(home);
                let place = format!("after {survived} places, {got_through} {again}");
                assert_eq!(files(&images), all(), "{place}");
                let listed = images.list().unwrap();
                assert!(matches!(listed.len(), 1 | 2) && (!got_through || listed.len() == 2), "{place}");
                for image in &listed {
                    let files = files_of(&images, &image.id);
                    let older = expected(&[("changed", "1"), ("old", "1")]);
                    assert!(files == all() || files == older, "{place}: {files:?}");
                }
                // It can be saved again, and that is whole as well.
                if again {
                    let image = snapshot(&images);
                    assert_eq!(files_of(&images, &image), all(), "{place}");
                }
                let names = fs::read_dir(images.store.images()).unwrap();
                let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
                assert!(
                    !names.iter().any(|name| name.to_string_lossy().starts_with(".writing")),
                    "{names:?}"
                );
                // Dropped, it has settled what was left.
                drop(images);
                assert!(open(home).list().unwrap().iter().all(|image| image.durable), "{place}");
            }
        },
    );
    assert!(places >= 6, "killed at {places} places only");
}

#[test]
fn what_is_collected_goes_whole_and_nothing_else_does() {
    // A sandbox on two snapshots; one that nobody has any more; a named one; layers of nobody.
    let prepare = |images: &Images| {
        let named = prepare(images);
        images.tag(&named, "kept").unwrap();
        snapshot(images);
        for layer in ["run-0123", "saved-0123", "copy-0123"] {
            fs::create_dir(images.store.layers().join(layer)).unwrap();
            fs::write(images.store.layers().join(layer).join("file"), "x").unwrap();
        }
    };
    let places = at_every_place("collect", prepare, |home, survived, got_through| {
        let images = open(home);
        let place = format!("after {survived} places");
        assert_eq!(files(&images), all(), "{place}");
        let older = expected(&[("changed", "1"), ("old", "1")]);
        assert_eq!(files_of(&images, "kept"), older, "{place}");
        for image in images.list().unwrap() {
            assert!(!files_of(&images, &image.id).is_empty(), "{place}");
        }
        let since = jiff::Timestamp::now();
        let unused = garbage::unused(&images, since).unwrap();
        let rest = garbage::collect(&images, &unused, since, false).unwrap();
        assert!(rest.garbage.is_empty() || !got_through, "{place}: {rest:?}");
        let left = fs::read_dir(images.store.layers()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        // Two of the sandbox, and the base.
        assert_eq!(left.len(), 3, "{place}: {left:?}");
        assert_eq!(files(&images), all(), "{place}");
    });
    assert!(places >= 5, "killed at {places} places only");
}

#[test]
fn squashing_breaks_off_or_appears_whole_and_ids_stay() {
    let home = tempfile::tempdir().unwrap();
    let images = open(home.path());
    stack::begin(&images.store, ID, &Manifest::default()).unwrap();
    let mut saved = Vec::new();
    for number in 0..squash::heights().max + 2 {
        write(&images, &[("last", &number.to_string()), (&format!("file-{number}"), "x")]);
        saved.push((snapshot(&images), files(&images)));
    }
    let (last, files_then) = saved.last().unwrap().clone();
    let manifest = images.manifest(&last).unwrap();
    // In the background it may have been done already; here it is as if it had not.
    let squashed = || {
        let layers = fs::read_dir(images.store.layers()).unwrap().map(|entry| entry.unwrap().path());
        let named =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("squash-");
        layers.filter(named).collect::<Vec<_>>()
    };
    drop(open(home.path()));
    let images_again = open(home.path());
    squash::squash(&images_again, &manifest, &AtomicBool::new(true)).unwrap_or_default();
    squash::squash(&images_again, &manifest, &AtomicBool::new(false)).unwrap();
    let flat = squash::flat(&images.store, &manifest.layers);
    assert!(flat.len() <= 2, "{flat:?}");
    assert!(!squashed().is_empty());
    // Once only the last one is left, the layers it was made of go, and it is still the same.
    let since = jiff::Timestamp::now();
    images.tag(&last, "kept").unwrap();
    let unused = garbage::unused(&images, since).unwrap();
    fs::remove_dir_all(images.store.sandbox(ID)).unwrap();
    let collected = loop {
        let collected = garbage::collect(&images, &unused, since, false).unwrap();
        // What syncs and squashes in the background may hold the layers yet.
        if !collected.busy {
            break collected;
        }
    };
    let leftovers = fs::read_dir(images.store.layers()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(leftovers.filter(|name| name.to_string_lossy().starts_with(".making")).count(), 0);
    assert!(
        collected.garbage.iter().filter(|garbage| garbage.kind == "layer").count() >= squash::heights().max
    );
    assert_eq!(images.find("kept").unwrap().unwrap(), last);
    assert_eq!(files_of(&images, &last), files_then);
}
