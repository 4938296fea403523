//! The tests of a binary once more, as a user without any rights.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const USER: u32 = 12_345;

/// What each of these tests is called: it does not run within itself.
const CALLER: &str = "all_of_it_as_an_ordinary_user";

/// Runs those whose names hold `which`, with this binary of harvest. Does nothing where the tests do not run as root: then
/// they have run as such a user.
pub(crate) fn again(which: &str, launcher: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).expect("given away");
    // Where the build directory is closed to others, the user needs copies.
    let reachable = |original: &Path| {
        let copy = place.path().join(original.file_name().expect("a name"));
        std::fs::hard_link(original, &copy)
            .or_else(|_| std::fs::copy(original, &copy).map(drop))
            .expect("copied");
        copy
    };
    let result = Command::new(reachable(&std::env::current_exe().expect("this test")))
        .args([which, "--skip", CALLER])
        .env_clear()
        .env("HARVEST_TEST_LAUNCHER", reachable(launcher))
        .env("TMPDIR", place.path())
        .env("HOME", place.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .output()
        .expect("runs");
    assert!(
        result.status.success(),
        "{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
}
