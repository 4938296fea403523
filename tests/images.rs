//! Images from files and registries, and back: the real binary, a real registry, and other programs as judges.

mod harness;

use harness::registry::{Access, PASSWORD, Registry, TokenServer, credentials, gzip};
use harness::{Home, text};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use tar::{EntryType, Header};

/// Writes the archive of a layer.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        match kind {
            EntryType::Symlink => self.0.append_link(&mut header, path, target).unwrap(),
            _ => self.0.append_data(&mut header, path, content).unwrap(),
        }
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A root file system of some programs of this machine and the libraries they need.
fn root_fs() -> &'static [u8] {
    static ROOT: OnceLock<Vec<u8>> = OnceLock::new();
    ROOT.get_or_init(|| {
        let mut files = BTreeMap::new();
        for program in ["dash", "cat", "ls", "id", "stat", "env", "rm"] {
            let path = format!("/bin/{program}");
            let needed = Command::new("ldd").arg(&path).output().expect("ldd runs");
            for word in text(&needed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
                files.insert(word.to_owned(), std::fs::read(word).unwrap());
            }
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
        let content = files.remove("/bin/dash").unwrap();
        files.insert("/bin/sh".into(), content);
        let mut directories = BTreeSet::from(["etc".to_owned(), "root".into(), "old".into()]);
        for path in files.keys() {
            let parents =
                Path::new(path).ancestors().skip(1).map(|path| path.to_str().unwrap()[1..].to_owned());
            directories.extend(parents.take_while(|path| !path.is_empty()));
        }
        let mut layer = directories.iter().fold(Layer::new(), |layer, path| layer.directory(path));
        for (path, content) in &files {
            layer = layer.entry(EntryType::Regular, &path[1..], "", 0o755, content);
        }
        layer
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235::/app:/bin/sh\n")
            .file("etc/group", "root:x:0:\nstaff:x:50:\n")
            .file("etc/marker", "base\n")
            .file("old/file", "old\n")
            .entry(EntryType::Symlink, "etc/resolv.conf", "../run/resolve/resolv.conf", 0o777, b"")
            .end()
    })
}

fn inside(home: &Home, image: &str, script: &str) -> String {
    let output = home.run(&["exec", "--image", image, "--", "sh", "-ec", script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn done(home: &Home, arguments: &[&str]) -> Value {
    let output = home.run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    text(&output.stderr)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

mod import {
    use super::*;

    #[test]
    fn a_root_file_system_has_nothing_of_the_host_beneath_it() {
        let home = Home::new();
        let (plain, zipped) = (home.scratch().join("r.tar"), home.scratch().join("r.tar.gz"));
        std::fs::write(&plain, root_fs()).unwrap();
        std::fs::write(&zipped, gzip(root_fs())).unwrap();
        let made = done(&home, &["image", "import", plain.to_str().unwrap(), "--name", "tiny"]);
        assert_eq!((&made["name"], &made["cached"]), (&json!("tiny"), &json!(false)));
        let again = done(&home, &["image", "import", zipped.to_str().unwrap(), "--name", "again"]);
        assert_eq!((&again["id"], &again["cached"]), (&made["id"], &json!(true)));
        let script = "cat etc/marker; ls /; test ! -e /usr && test ! -e /etc/ssl && test ! -e /home; stat -c %U:%a /bin/sh";
        let seen = inside(&home, "tiny", script);
        let expected = "base\nbin\ndev\netc\nlib\nlib64\nold\nproc\nroot\nroot:755";
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join("\n"), expected);
        // Names are resolved where the host's network is shared, whatever the image's link leads to.
        let output =
            home.run(&["exec", "--network", "host", "--image", "tiny", "--", "cat", "/etc/resolv.conf"]);
        assert_eq!(text(&output.stdout), std::fs::read_to_string("/etc/resolv.conf").unwrap(), "{output:?}");
        // Images that stand on the host are as they were.
        assert_eq!(inside(&home, "host", "test -e /usr/bin/env && echo host"), "host");
    }

    #[test]
    fn an_imported_image_is_a_base_and_the_image_of_a_workflow() {
        let home = Home::new();
        let plain = home.scratch().join("r.tar");
        std::fs::write(&plain, root_fs()).unwrap();
        done(&home, &["image", "import", plain.to_str().unwrap(), "--name", "tiny"]);
        home.file("files/tool", "#!/bin/sh\necho from the tool\n");
        let definition = home.file(
            "app.yaml",
            "base: tiny\ncopy: { /usr/bin/tool: files/tool }\ncommands:\n  - sh /usr/bin/tool > /etc/made\n  - cat /etc/marker >> /etc/made\n",
        );
        let built = done(&home, &["image", "build", definition.to_str().unwrap(), "--name", "app"]);
        assert_eq!(built["cached"], false);
        assert_eq!(inside(&home, "app", "cat /etc/made; test ! -e /home"), "from the tool\nbase");
        assert_eq!(
            done(&home, &["image", "build", definition.to_str().unwrap(), "--name", "app"])["cached"],
            true
        );
        let workflow = home.file(
            "w.yaml",
            "harvest: 1\nname: w\nsandboxes: { s: { image: app } }\nsteps:\n  look:\n    uses: exec/run\n    sandbox: s\n    with: { command: [cat, /etc/made] }\noutputs: { made: '${{ steps.look.stdout }}' }\n",
        );
        let (code, last) = home.finish(&workflow, &[]);
        assert_eq!((code, last["outputs"]["made"].as_str()), (0, Some("from the tool\nbase\n")), "{last}");
        // The base may lose its name: what was made of it has what it needs.
        assert!(home.run(&["image", "rm", "tiny"]).status.success());
        assert_eq!(inside(&home, "app", "cat /etc/marker"), "base");
        assert!(
            refused(&home, &["exec", "--image", "tiny", "--", "true"]).contains("there is no image `tiny`")
        );
    }

    #[test]
    fn a_hostile_archive_is_refused_with_the_entry_and_leaves_nothing() {
        let home = Home::new();
        let file = home.scratch().join("hostile.tar");
        let archive =
            Layer::new().entry(EntryType::Symlink, "l", "../..", 0o777, b"").file("l/escaped", "x").end();
        std::fs::write(&file, archive).unwrap();
        let said = refused(&home, &["image", "import", file.to_str().unwrap(), "--name", "x"]);
        assert!(said.contains("entry `l/escaped` of the archive leads through the link `l`"), "{said}");
        assert_eq!(home.json(&["image", "list", "--json"]), json!([]));
        assert_eq!(std::fs::read_dir(home.path().join("layers")).unwrap().count(), 0);
        assert!(!home.path().join("escaped").exists() && !home.scratch().join("escaped").exists());
    }
}

mod pull {
    use super::*;

    fn top_layer() -> Vec<u8> {
        Layer::new()
            .directory("old")
            .file("old/.wh..wh..opq", "")
            .file("old/new", "new\n")
            .directory("etc")
            .file("etc/.wh.marker", "")
            .directory("app")
            .end()
    }

    fn settings() -> Value {
        json!({ "Env": ["PATH=/bin", "GREETING=hello there"], "WorkingDir": "/app", "User": "app:staff", "Cmd": ["x"] })
    }

    #[test]
    fn an_image_comes_without_a_daemon_and_only_its_missing_layers_are_fetched() {
        let registry = Registry::start(Access::Open);
        let home = Home::new();
        let base = root_fs().to_vec();
        let (_, first) =
            registry.push("some/app", Some("1"), "linux/amd64", &[base.clone(), top_layer()], &settings());
        let reference = format!("{}/some/app:1", registry.address);
        let made = done(&home, &["image", "pull", &reference]);
        assert_eq!((made["name"].as_str(), &made["cached"]), (Some(&*reference), &json!(false)));
        let seen = inside(&home, &reference, "echo $GREETING; ls /old; test ! -e /etc/marker; env");
        assert!(seen.starts_with("hello there\nnew\n") && seen.contains("PWD=/app"), "{seen}");
        let who = if is_root() { "1234\n50" } else { "0\n0" };
        assert_eq!(inside(&home, &reference, "id -u; id -g"), who);

        let next = Layer::new().directory("app").file("app/version", "2\n").end();
        let layers = [base.clone(), top_layer(), next];
        let (_, second) = registry.push("some/app", Some("2"), "linux/amd64", &layers, &settings());
        done(&home, &["image", "pull", &format!("{}/some/app:2", registry.address), "--name", "two"]);
        assert_eq!(inside(&home, "two", "cat version"), "2");
        let fetches: Vec<_> =
            second.iter().map(|layer| registry.fetches(layer["digest"].as_str().unwrap())).collect();
        assert_eq!((fetches, first.len()), (vec![1, 1, 1], 2));
        assert_eq!(done(&home, &["image", "pull", &reference])["cached"], true);
        assert_eq!(registry.fetches(first[0]["digest"].as_str().unwrap()), 1, "nothing is fetched twice");
    }

    #[test]
    fn of_several_platforms_this_machines_is_taken_or_the_others_are_named() {
        let registry = Registry::start(Access::Open);
        let home = Home::new();
        let (mut here, _) = registry.push("many", None, "linux/amd64", &[root_fs().to_vec()], &json!({}));
        let (mut other, _) = registry.push("many", None, "linux/arm64", &[top_layer()], &json!({}));
        here["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        other["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index =
            |entries: &[&Value]| json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        let both = registry.manifest("many", Some("both"), &index(&[&other, &here]));
        registry.manifest("many", Some("other"), &index(&[&other]));
        let digest = both["digest"].as_str().unwrap();
        let pinned = format!("{}/many:whatever@{digest}", registry.address);
        done(&home, &["image", "pull", &pinned, "--name", "many"]);
        assert_eq!(inside(&home, "many", "cat /etc/marker"), "base");
        let said = refused(&home, &["image", "pull", &format!("{}/many:other", registry.address)]);
        assert!(said.contains("no image for linux/amd64; there is linux/arm64/v8"), "{said}");
        let single = other["digest"].as_str().unwrap();
        let said = refused(&home, &["image", "pull", &format!("{}/many@{single}", registry.address)]);
        assert!(said.contains("there is linux/arm64"), "{said}");
        let said = refused(&home, &["image", "pull", &format!("{}/many:absent", registry.address)]);
        assert!(said.contains("does not have it"), "{said}");
    }

    /// A config.json with credentials for a registry.
    fn config(home: &Home, registry: &Registry) -> String {
        let auths = json!({ "auths": { &registry.address: { "auth": credentials() } } });
        home.file("config.json", &auths.to_string()).to_str().unwrap().to_owned()
    }

    fn with_credentials(registry: &Registry) {
        let home = Home::new();
        registry.push("private/app", Some("1"), "linux/amd64", &[root_fs().to_vec()], &json!({}));
        let reference = format!("{}/private/app:1", registry.address);
        let said = refused(&home, &["image", "pull", &reference]);
        assert!(said.contains("wants credentials") && said.contains("--auth-file"), "{said}");
        let wrong = json!({ "auths": { &registry.address: { "auth": "d3Jvbmc6d3Jvbmc=" } } }).to_string();
        let wrong = home.file("wrong.json", &wrong).to_str().unwrap().to_owned();
        let said = refused(&home, &["image", "pull", &reference, "--auth-file", &wrong]);
        assert!(said.contains("denies it to the credentials"), "{said}");
        let helper = home.file("helper.json", r#"{ "credsStore": "desktop" }"#).to_str().unwrap().to_owned();
        let said = refused(&home, &["image", "pull", &reference, "--auth-file", &helper]);
        assert!(said.contains("kept by a program of Docker's"), "{said}");
        done(&home, &["image", "pull", &reference, "--auth-file", &config(&home, registry), "--name", "app"]);
        assert_eq!(inside(&home, "app", "cat /etc/marker"), "base");
        for secret in [PASSWORD, &credentials()] {
            assert_eq!(home.files_with(secret), Vec::<std::path::PathBuf>::new());
        }
    }

    #[test]
    fn a_registry_with_passwords_is_given_them() {
        with_credentials(&Registry::start(Access::Password));
    }

    #[test]
    fn a_registry_with_tokens_is_given_one_with_and_without_credentials() {
        let registry = Registry::start(Access::Token(TokenServer::start()));
        with_credentials(&registry);
        let home = Home::new();
        registry.push("public/app", Some("1"), "linux/amd64", &[root_fs().to_vec()], &json!({}));
        done(&home, &["image", "pull", &format!("{}/public/app:1", registry.address), "--name", "app"]);
        assert_eq!(inside(&home, "app", "cat /etc/marker"), "base");
    }

    #[test]
    fn what_is_not_what_its_digest_says_is_refused() {
        let registry = Registry::start(Access::Open);
        let home = Home::new();
        let layers = [root_fs().to_vec(), top_layer()];
        let (manifest, blobs) = registry.push("app", Some("1"), "linux/amd64", &layers, &json!({}));
        let reference = format!("{}/app:1", registry.address);
        // Of the same size, as only whoever holds the registry can do it.
        let file = registry.blob_file(blobs[1]["digest"].as_str().unwrap());
        let good = std::fs::read(&file).unwrap();
        let forged = gzip(&Layer::new().directory("old").file("old/evil", "evil").end());
        std::fs::write(&file, [&forged[..], &vec![0; good.len().saturating_sub(forged.len())]].concat())
            .unwrap();
        let said = refused(&home, &["image", "pull", &reference]);
        assert!(said.contains("is not what its digest says"), "{said}");
        std::fs::write(&file, [&good[..], b"more"].concat()).unwrap();
        assert!(!home.run(&["image", "pull", &reference]).status.success(), "more than was announced");
        assert_eq!(home.json(&["image", "list", "--json"]), json!([]));
        std::fs::write(&file, good).unwrap();
        done(&home, &["image", "pull", &reference]);
        let file = registry.blob_file(manifest["digest"].as_str().unwrap());
        let other =
            std::fs::read_to_string(&file).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\": 2");
        std::fs::write(&file, other).unwrap();
        assert!(!home.run(&["image", "pull", &reference]).status.success(), "a manifest that was changed");
    }
}

mod export {
    use super::*;

    fn judge(program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).output();
        let output = output.unwrap_or_else(|_| panic!("{program} runs: `apt-get install {program}`"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    #[test]
    fn another_program_reads_an_exported_image_and_pushes_it_to_a_registry() {
        let registry = Registry::start(Access::Open);
        let home = Home::new();
        let plain = home.scratch().join("r.tar");
        std::fs::write(&plain, root_fs()).unwrap();
        done(&home, &["image", "import", plain.to_str().unwrap(), "--name", "tiny"]);
        let definition = "base: tiny\nenv: { A: b=c }\nworkdir: /root\nread_only: [/etc]\ncommands:\n  - echo made > /root/made\n  - echo new > /etc/marker; rm /old/file\n";
        let definition = home.file("app.yaml", definition);
        done(&home, &["image", "build", definition.to_str().unwrap(), "--name", "app"]);
        let (layout, archive) = (home.scratch().join("layout"), home.scratch().join("app.tar"));
        for target in [&layout, &archive] {
            let output = home.run(&["image", "export", "app", target.to_str().unwrap()]);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        let oci = format!("oci:{}", layout.display());
        let inspected: Value = serde_json::from_str(&judge("skopeo", &["inspect", &oci])).unwrap();
        assert_eq!((&inspected["Os"], &inspected["Architecture"]), (&json!("linux"), &json!("amd64")));
        assert_eq!(
            (&inspected["Env"], inspected["Layers"].as_array().unwrap().len()),
            (&json!(["A=b=c"]), 3)
        );
        let pushed = format!("{}/judged:1", registry.address);
        // As an ordinary user skopeo cannot unpack any archive: it wants to give the files away.
        let from = if is_root() { format!("oci-archive:{}", archive.display()) } else { oci };
        let (to, scratch) = (format!("docker://{pushed}"), home.scratch().to_str().unwrap());
        judge(
            "skopeo",
            &["--insecure-policy", "--tmpdir", scratch, "copy", "--dest-tls-verify=false", &from, &to],
        );
        let other = Home::new();
        done(&other, &["image", "pull", &pushed, "--name", "back"]);
        assert_eq!(
            inside(
                &other,
                "back",
                "cat made; cat /etc/marker; ls -A /old; ! echo x 2>/dev/null > /etc/marker"
            ),
            "made\nnew"
        );
    }

    #[test]
    fn what_stands_on_the_host_says_what_to_do_instead() {
        let home = Home::new();
        let definition = home.file("app.yaml", "base: host\nenv: { A: b }\n");
        done(&home, &["image", "build", definition.to_str().unwrap(), "--name", "app"]);
        for image in ["app", "host"] {
            let said =
                refused(&home, &["image", "export", image, home.scratch().join("x").to_str().unwrap()]);
            assert!(said.contains("harvest image import ROOTFS.tar"), "{said}");
        }
        assert!(!home.scratch().join("x").exists());
    }
}

/// Everything above once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    harness::ordinary_user::again("", Path::new(env!("CARGO_BIN_EXE_harvest")));
}
