//! What the machine offers, and what is said where it does not.

use super::contract::sandbox::spec;
use super::local;
use harvest::capability::sandbox::SandboxProvider;
use harvest::capability::sandbox::local::{self as provider, LocalProvider};

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_what_works_here() {
    let provider = local();
    let check = provider.check().await;
    assert!(check.ok, "{check:?}");
    let probes = provider::probes(provider.home.path());
    for probe in &probes {
        assert!(probe.ok || !probe.remedy.is_empty(), "{probe:?}");
        assert!(!probe.detail.is_empty(), "{probe:?}");
    }
    for required in ["user namespaces", "overlayfs", "seccomp"] {
        assert!(probes.iter().any(|probe| probe.name == required && probe.ok), "{required}: {probes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_is_no_launcher_is_an_error() {
    let home = tempfile::tempdir().expect("a directory");
    let provider = LocalProvider::new(home.path(), "/bin/true".into(), Vec::new()).expect("a provider");
    let error = provider.open(spec()).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "unavailable");
    assert!(error.message.contains("/bin/true"), "{error}");
}
