//! The state directory: closed to others, locked while open, empty after a removal.

use super::contract::sandbox::{output, sh, spec};
use super::{launcher, local};
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{SandboxProvider, SandboxSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_is_closed_and_remove_empties_it() {
    use std::os::unix::fs::PermissionsExt;
    let provider = local();
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    output(&*sandbox, "mkdir -p /d/e && touch /d/e/f && chmod 0 /d/e /d").await;
    for name in ["layers", "images", "volumes", "sandboxes"] {
        let mode = std::fs::metadata(provider.home.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    provider.remove(&spec.id).await.expect("removes an open sandbox");
    let left: Vec<_> = std::fs::read_dir(provider.home.path().join("sandboxes")).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(sandbox.exec(sh("true")).await.err().expect("ended").kind.as_str(), "sandbox-lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_cannot_open_what_is_open() {
    let provider = local();
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    let same = provider.open(spec.clone()).await.expect("the same again");
    assert!(Arc::ptr_eq(&sandbox, &same));
    let changed = SandboxSpec { env: BTreeMap::from([("A".into(), "b".into())]), ..spec.clone() };
    assert_eq!(provider.open(changed).await.err().expect("refused").kind.as_str(), "conflict");
    let other = LocalProvider::new(provider.home.path(), launcher(), Vec::new()).expect("a provider");
    assert_eq!(other.list().await, Ok(vec![(spec.id.clone(), true)]));
    let (opening, removing) = tokio::join!(other.open(spec.clone()), other.remove(&spec.id));
    assert_eq!(opening.err().expect("refused").kind.as_str(), "conflict");
    assert_eq!(removing.expect_err("refused").kind.as_str(), "conflict");
}
