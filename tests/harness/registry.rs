//! A real registry on loopback (Debian's `docker-registry`), and images pushed to it with plain HTTP calls.
#![allow(dead_code, reason = "each test file uses a part of it")]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harvest::id::Digest;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who may read what is not public.
pub(crate) const USER: &str = "reader";
pub(crate) const PASSWORD: &str = "value-of-the-registry-password";
/// The password above, as the registry's file has it.
const PASSWORD_FILE: &str = "reader:$2y$05$abcdefghijklmnopqrstuuQpmdDhD681MkYalmLjSaEf0c44MVa5O\n";

/// How a registry lets one in.
pub(crate) enum Access {
    Open,
    Password,
    /// By tokens of this server.
    Token(TokenServer),
}

pub(crate) struct Registry {
    child: Child,
    directory: tempfile::TempDir,
    /// Host and port.
    pub(crate) address: String,
    access: Access,
    client: Client,
    runtime: tokio::runtime::Runtime,
    log: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    pub(crate) fn start(access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": path("data") } },
            "http": { "addr": "127.0.0.1:0" },
        });
        match &access {
            Access::Open => {}
            Access::Password => {
                std::fs::write(path("passwords"), PASSWORD_FILE).unwrap();
                config["auth"] = json!({ "htpasswd": { "realm": "test", "path": path("passwords") } });
            }
            Access::Token(server) => {
                std::fs::write(path("root.pem"), &server.certificate).unwrap();
                config["auth"] = json!({ "token": {
                    "realm": server.url, "service": "tested", "issuer": "issuer", "rootcertbundle": path("root.pem"),
                } });
            }
        }
        // YAML is a superset of JSON.
        std::fs::write(path("config.yml"), config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry runs: `apt-get install docker-registry`");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (address, found) = std::sync::mpsc::channel();
        let requests = child.stdout.take().unwrap();
        for stream in [Box::new(requests) as Box<dyn Read + Send>, Box::new(child.stderr.take().unwrap())] {
            let (log, address) = (log.clone(), address.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Some((_, rest)) = line.split_once("listening on ") {
                        let end = rest.find(['"', ' ', ',']).unwrap_or(rest.len());
                        let _ = address.send(rest[..end].to_owned());
                    }
                    log.lock().unwrap().push(line);
                }
            });
        }
        let address = found.recv_timeout(std::time::Duration::from_secs(60)).expect("the registry listens");
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().no_proxy().build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { child, directory, address, access, client, runtime, log }
    }

    /// How often a blob was asked for.
    pub(crate) fn fetches(&self, digest: &str) -> usize {
        let needle = "\"GET /v2/";
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(needle) && line.contains(&format!("blobs/{digest} "))).count()
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    fn request(&self, method: Method, url: &str, repository: &str) -> RequestBuilder {
        let url = if url.starts_with('/') { format!("http://{}{url}", self.address) } else { url.to_owned() };
        let request = self.client.request(method, url);
        match &self.access {
            Access::Open => request,
            Access::Password => request.header("authorization", format!("Basic {}", credentials())),
            Access::Token(server) => request
                .header("authorization", format!("Bearer {}", server.token(repository, &["pull", "push"]))),
        }
    }

    /// Uploads a blob; returns what describes it.
    pub(crate) fn blob(&self, repository: &str, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content).to_string();
        self.runtime.block_on(async {
            let start = self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), repository);
            let response = start.send().await.unwrap();
            assert_eq!(response.status(), 202);
            let place = response.headers()["location"].to_str().unwrap();
            let put = self.request(Method::PUT, &format!("{place}&digest={digest}"), repository);
            assert_eq!(put.body(content.to_vec()).send().await.unwrap().status(), 201);
        });
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Uploads an index or manifest under a tag or its digest; returns what describes it.
    pub(crate) fn manifest(&self, repository: &str, tag: Option<&str>, document: &Value) -> Value {
        let (content, media_type) = (document.to_string(), document["mediaType"].as_str().unwrap());
        let digest = Digest::of(content.as_bytes()).to_string();
        let url = format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&digest));
        let put = self.request(Method::PUT, &url, repository).header("content-type", media_type);
        let response = self.runtime.block_on(put.body(content.clone()).send()).unwrap();
        assert_eq!(response.status(), 201);
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Pushes an image of these layers (tar archives, lowest first); returns its manifest's descriptor and its layers'.
    pub(crate) fn push(
        &self,
        repository: &str,
        tag: Option<&str>,
        platform: &str,
        layers: &[Vec<u8>],
        settings: &Value,
    ) -> (Value, Vec<Value>) {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = json!({
            "os": os, "architecture": architecture, "config": settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            self.blob(repository, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = |layer: &Vec<u8>| {
            self.blob(repository, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer))
        };
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let document =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        (self.manifest(repository, tag, &document), layers)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `USER:PASSWORD` as headers and `config.json` have it.
pub(crate) fn credentials() -> String {
    STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Hands out tokens that a real registry accepts: for `public/` to anyone, for the rest to who has the password.
pub(crate) struct TokenServer {
    url: String,
    certificate: String,
    signer: Arc<Signer>,
}

struct Signer {
    key: rcgen::KeyPair,
    certificate: Vec<u8>,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["issuer".to_owned()]).unwrap().self_signed(&key).unwrap();
        let signer = Arc::new(Signer { key, certificate: certificate.der().to_vec() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let answering = signer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answering.answer(stream);
            }
        });
        Self { url, certificate: certificate.pem(), signer }
    }

    fn token(&self, repository: &str, actions: &[&str]) -> String {
        self.signer.token(repository, actions)
    }
}

impl Signer {
    fn answer(&self, mut stream: TcpStream) {
        let mut head = String::new();
        let mut lines = BufReader::new(&stream);
        while lines.read_line(&mut head).unwrap_or(0) > 2 {}
        let scope = head.split("scope=repository%3A").nth(1).and_then(|rest| rest.split("%3Apull").next());
        let repository = scope.unwrap_or_default().replace("%2F", "/");
        let known = head.contains(&format!("Basic {}", credentials()));
        let answer = if !head.contains("service=tested") || (!known && !repository.starts_with("public/")) {
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        } else {
            let body = json!({ "token": self.token(&repository, &["pull"]) }).to_string();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        };
        let _ = stream.write_all(answer.as_bytes());
    }

    fn token(&self, repository: &str, actions: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)] });
        let claims = json!({
            "iss": "issuer", "aud": "tested", "sub": "", "jti": "1", "nbf": now - 60, "iat": now - 60, "exp": now + 600,
            "access": [{ "type": "repository", "name": repository, "actions": actions }],
        });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = rcgen::SigningKey::sign(&self.key, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed(&signature)))
    }
}

/// The two numbers of an ECDSA signature in 32 bytes each, out of its DER form.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let length = rest[1] as usize;
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        numbers.extend(std::iter::repeat_n(0, 32 - number.len()).chain(number.iter().copied()));
        rest = &rest[2 + length..];
    }
    numbers
}
