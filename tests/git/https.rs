//! Repositories behind TLS, with and without a credential.

use crate::local::session;
use crate::world::{Host, Server, files_with, git, sample};
use harvest::step::ErrorKind;

const TOKEN: &str = "ghp_CanaryCanaryCanary0123456789";

#[tokio::test]
async fn a_public_repository_is_fetched_and_the_commit_kept_as_a_bundle() {
    let server = Server::start("");
    let host = Host::new(&[("SSL_CERT_FILE", &server.authority()), ("HARVEST_GITHUB_URL", &server.base)]);
    let source = sample(&host.path("source"));
    server.publish(&source, "team/project.git");
    let repository = host.open("team/project").await;
    assert_eq!(repository.name(), "project");
    assert!(repository.identity().ends_with("/team/project"), "{}", repository.identity());
    let fetched = repository.fetch(None, None).await.unwrap();
    assert_eq!(fetched.branch.as_deref(), Some("main"));
    assert_eq!(repository.resolve(None).await.unwrap(), fetched);
    let cut = repository.fetch(Some("develop"), Some(1)).await.unwrap();
    assert_eq!(cut.sha, git(&source, &["rev-parse", "develop"]));

    let sha = session(&host, &*repository, &fetched.sha, "https").await;
    let delivery = repository.deliver(&sha).await.unwrap();
    let bundles = host.home().join("artifacts").join(host.run.as_str());
    assert_eq!(std::fs::read_dir(&bundles).unwrap().count(), 1);
    let words: Vec<&str> = delivery.fetch.split(' ').collect();
    assert_eq!((words[0], words[1], words[3]), ("git", "fetch", &*format!("harvest/{}", host.run)));
    // Into a clone, and into an empty repository.
    std::fs::create_dir(host.path("fresh")).unwrap();
    git(&host.path("fresh"), &["init", "-q"]);
    for place in [&source, &host.path("fresh")] {
        git(place, &words[1..]);
        assert_eq!(git(place, &["rev-parse", "FETCH_HEAD"]), sha);
        git(place, &["bundle", "verify", "-q", words[2]]);
    }
}

#[tokio::test]
async fn what_is_missing_or_unreachable_has_its_kind() {
    let server = Server::start("");
    let host = Host::new(&[("SSL_CERT_FILE", &server.authority())]);
    let source = sample(&host.path("source"));
    server.publish(&source, "project.git");
    let fetch = async |host: &Host, url: String, name: Option<&str>| {
        host.open(&url).await.fetch(name, None).await.unwrap_err()
    };
    let url = format!("{}/project.git", server.base);
    let error = fetch(&host, url.clone(), Some("mian")).await;
    assert_eq!(error.kind, ErrorKind::NOT_FOUND);
    assert!(error.message.contains("did you mean main?"), "{}", error.message);
    let error = fetch(&host, format!("{}/nothing.git", server.base), None).await;
    assert_eq!(error.kind, ErrorKind::NOT_FOUND, "{}", error.message);
    let error = fetch(&host, format!("{}/busy/x.git", server.base), None).await;
    assert_eq!(error.kind, ErrorKind::RATE_LIMITED, "{}", error.message);
    // An authority that nobody named.
    let stranger = Host::new(&[]);
    let error = fetch(&stranger, url, None).await;
    assert_eq!(error.kind, ErrorKind::NETWORK, "{}", error.message);
    assert!(error.message.contains("SSL_CERT_FILE"), "{}", error.message);
    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = fetch(&host, format!("https://127.0.0.1:{port}/x.git"), None).await;
    assert_eq!(error.kind, ErrorKind::NETWORK, "{}", error.message);
}

#[tokio::test]
async fn the_users_own_certificate_setting_serves() {
    let server = Server::start("");
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), format!("[http]\nsslCAInfo = {}\n", server.authority())).unwrap();
    let host = Host::new(&[("GIT_CONFIG_GLOBAL", config.path().to_str().unwrap())]);
    server.publish(&sample(&host.path("source")), "project.git");
    host.open(&format!("{}/project.git", server.base)).await.fetch(None, None).await.unwrap();
}

#[tokio::test]
async fn a_credential_opens_a_private_repository_and_is_seen_nowhere() {
    let server = Server::start(TOKEN);
    let host = Host::new(&[("SSL_CERT_FILE", &server.authority())]);
    let bare = server.publish(&sample(&host.path("source")), "project.git");
    let url = format!("{}/private/project.git", server.base);
    let error = host.open(&url).await.fetch(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DENIED, "{}", error.message);
    assert!(error.message.contains("secrets: {token: NAME}"), "{}", error.message);
    let error = host.open_with(&url, "wrong-token-wrong").await.fetch(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DENIED);
    assert!(!error.message.contains("wrong-token"), "{}", error.message);

    let repository = host.open_with(&url, TOKEN).await;
    let fetched = repository.fetch(None, None).await.unwrap();
    let sha = session(&host, &*repository, &fetched.sha, "private").await;
    repository.push(&sha, "work").await.unwrap();
    assert_eq!(git(&bare, &["rev-parse", "work"]), sha);
    let other = session(&host, &*repository, &fetched.sha, "other").await;
    assert_eq!(repository.push(&other, "work").await.unwrap_err().kind, ErrorKind::CONFLICT);
    assert_eq!(git(&bare, &["rev-parse", "work"]), sha);
    repository.deliver(&sha).await.unwrap();

    let requests = server.requests();
    let authorized = requests.iter().filter(|request| request["authorization"].is_string());
    assert!(authorized.count() >= 3, "{requests:?}");
    assert!(
        requests.iter().all(|request| request["arguments"].as_array().unwrap().is_empty()),
        "{requests:?}"
    );
    for text in [TOKEN, "x-access-token", "eC1hY2Nlc3MtdG9rZW4"] {
        assert_eq!(files_with(host.directory.path(), text), Vec::<std::path::PathBuf>::new(), "{text}");
    }
}

#[tokio::test]
async fn a_credential_is_for_its_host_alone() {
    let (origin, thief) = (Server::start(TOKEN), Server::start(TOKEN));
    let both = tempfile::NamedTempFile::new().unwrap();
    let certificates =
        [origin.authority(), thief.authority()].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(both.path(), certificates.concat()).unwrap();
    let host = Host::new(&[("GIT_SSL_CAINFO", both.path().to_str().unwrap())]);
    thief.publish(&sample(&host.path("source")), "project.git");
    let target: String =
        format!("{}/private", thief.base).bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!("{}/moved/{target}/project.git", origin.base);
    let error = host.open_with(&url, TOKEN).await.fetch(None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DENIED, "{}", error.message);
    let requests = thief.requests();
    assert!(!requests.is_empty(), "the redirect was followed");
    assert!(requests.iter().all(|request| request["authorization"].is_null()), "{requests:?}");
}
