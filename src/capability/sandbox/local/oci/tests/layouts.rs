//! Layouts of images: read, refused, and written so that they are read again.

use super::*;
use crate::capability::sandbox::BuildLog;
use crate::step::ErrorKind;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

fn quiet() -> BuildLog {
    Arc::new(|_| {})
}

/// A layout as a set of files.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn blob(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        self.0.insert(layout::path_of(&digest), content.to_vec());
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() })
    }

    /// An image with these layers, lowest first.
    fn image(layers: &[Vec<u8>], settings: Value) -> Self {
        let mut files = Self::default();
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = files.blob(document::CONFIG, config.to_string().as_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|layer| files.blob("application/vnd.oci.image.layer.v1.tar", layer)).collect();
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let manifest = files.blob(document::MANIFEST, manifest.to_string().as_bytes());
        files.0.insert(
            "index.json".into(),
            json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string().into(),
        );
        files.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    fn directory(&self, directory: &Path) {
        for (path, content) in &self.0 {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn archive(&self) -> Vec<u8> {
        let add = |archive: Archive, (path, content): (&String, &Vec<u8>)| {
            archive.entry(EntryType::Regular, path.as_bytes(), b"", 0o644, content)
        };
        self.0.iter().fold(Archive::new(), add).end()
    }
}

fn import(images: &Images, source: &Path) -> Result<Manifest> {
    let log = quiet();
    let mut stack = Stack::new(images, &log);
    let settings = match Source::open(source)? {
        Source::RootFs(file) => stack.root_file_system(&file).map(|()| Settings::default())?,
        Source::Image(layout) => stack.layout(&layout)?,
    };
    stack.save(settings, "tested")?;
    images.manifest("tested")
}

fn two_layers() -> Files {
    let base = Archive::new().directory("etc", 0o755).file("etc/old", "old").end();
    let top = Archive::new().directory("etc", 0o700).file("etc/.wh.old", "").file("etc/new", "new").end();
    let settings = json!({
        "Env": ["PATH=/bin", "EMPTY=", "ODD"], "WorkingDir": "srv", "User": "1000:1000", "Entrypoint": ["x"],
        "Labels": { READ_ONLY_LABEL: "[\"/etc\"]" },
    });
    Files::image(&[base, top], settings)
}

#[test]
fn a_layout_is_read_as_a_directory_and_as_an_archive() {
    let (home, images) = images();
    let (directory, file) = (home.path().join("layout"), home.path().join("layout.tar"));
    two_layers().directory(&directory);
    fs::write(&file, two_layers().archive()).unwrap();
    let manifest = import(&images, &directory).unwrap();
    assert_eq!(manifest, import(&images, &file).unwrap());
    assert_eq!((manifest.root, manifest.layers.len()), (Root::None, 2));
    let env: Vec<_> = manifest.env.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(env, [("EMPTY", ""), ("PATH", "/bin")]);
    assert_eq!((manifest.workdir.as_deref(), manifest.user.as_deref()), (Some("/srv"), Some("1000:1000")));
    assert_eq!(manifest.read_only, ["/etc"]);
    let lower = images.lower(&manifest).unwrap();
    assert_eq!(lower.len(), 2, "nothing of the host lies beneath");
    assert!(lower[0].join("etc/new").exists() && lower[1].join("etc/old").exists());
}

#[test]
fn what_docker_saves_is_read() {
    let (home, images) = images();
    let layer = Archive::new().file("f", "x").end();
    let mut files = Files::image(std::slice::from_ref(&layer), json!({}));
    let config = files.0.iter().find(|(_, content)| content.starts_with(b"{\"os\"")).unwrap().1.clone();
    files.0 = BTreeMap::from([
        ("abc.json".into(), config),
        ("1/layer.tar".into(), layer),
        (
            "manifest.json".into(),
            br#"[{"Config":"abc.json","RepoTags":["x:1"],"Layers":["1/layer.tar"]}]"#.to_vec(),
        ),
    ]);
    let file = home.path().join("saved.tar");
    fs::write(&file, files.archive()).unwrap();
    let layers = import(&images, &file).unwrap().layers;
    assert!(images.store.layers().join(&layers[0]).join("f").is_file());
    files.0.insert("1/layer.tar".into(), Archive::new().file("f", "forged").end());
    fs::write(&file, files.archive()).unwrap();
    let (_other, images) = super::images();
    assert!(import(&images, &file).unwrap_err().message.contains("damaged or forged"));
}

#[test]
fn a_root_file_system_is_told_from_a_layout_by_what_is_in_it() {
    let (home, images) = images();
    let tree = Archive::new().file("manifest.json", "{}").file("index.json", "{}").file("f", "x").end();
    let file = home.path().join("x");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &tree).unwrap();
    let zipped = encoder.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(&tree[..], ruzstd::encoding::CompressionLevel::Fastest);
    let mut seen = Vec::new();
    for content in [tree, zipped, zstd] {
        fs::write(&file, content).unwrap();
        seen.push(import(&images, &file).unwrap());
    }
    assert!(seen.iter().all(|manifest| *manifest == seen[0]), "one tree, however it is packed: {seen:?}");
    for (content, words) in [(&b"no archive"[..], "is no image"), (&[b'x'; 2000], "is no image")] {
        fs::write(&file, content).unwrap();
        assert!(import(&images, &file).unwrap_err().message.contains(words));
    }
    let error = import(&images, home.path()).unwrap_err();
    assert!(error.message.contains("is no OCI layout") && error.message.contains("tar -C"), "{error}");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &two_layers().archive()).unwrap();
    fs::write(&file, encoder.finish().unwrap()).unwrap();
    assert!(import(&images, &file).unwrap_err().message.contains("compressed OCI layout"));
}

#[test]
fn what_is_not_what_its_digest_says_is_refused_and_leaves_nothing() {
    let paths: Vec<String> = two_layers().0.into_keys().filter(|path| path.starts_with("blobs/")).collect();
    assert_eq!(paths.len(), 4);
    for path in paths {
        let (home, images) = images();
        let mut files = two_layers();
        // One bit of a text, so that all stays well-formed.
        let content = files.0.get_mut(&path).unwrap();
        let at = content.iter().position(|byte| *byte == b'o').unwrap();
        content[at] ^= 1;
        let directory = home.path().join("layout");
        files.directory(&directory);
        let error = import(&images, &directory).unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID, "{error}");
        assert!(images.list().unwrap().is_empty());
        let left: Vec<_> =
            fs::read_dir(images.store.layers()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.len() <= 1 && left.iter().all(|name| name.as_bytes().starts_with(b"oci-")), "{left:?}");
    }
}

#[test]
fn a_layout_cannot_name_files_outside_of_it() {
    let (home, images) = images();
    let directory = home.path().join("layout");
    two_layers().directory(&directory);
    let blobs = directory.join("blobs");
    fs::rename(&blobs, home.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink("../blobs", &blobs).unwrap();
    assert!(import(&images, &directory).is_err());
    let saved = [("manifest.json".to_owned(), br#"[{"Config":"../secret","Layers":[]}]"#.to_vec())];
    fs::write(home.path().join("secret"), "{}").unwrap();
    let other = home.path().join("saved");
    Files(BTreeMap::from(saved)).directory(&other);
    assert!(import(&images, &other).is_err());
}

#[test]
fn a_layer_that_hides_all_below_it_is_the_lowest() {
    let (home, images) = images();
    let base = Archive::new().file("old", "x").end();
    let top = Archive::new().file(".wh..wh..opq", "").file("new", "x").end();
    let directory = home.path().join("layout");
    Files::image(&[base, top], json!({})).directory(&directory);
    assert_eq!(import(&images, &directory).unwrap().layers.len(), 1);
}

#[test]
fn an_image_that_is_exported_is_the_same_when_it_is_imported() {
    let (home, images) = images();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let base = Archive::new()
        .directory("etc", 0o755)
        .file("etc/old", "old")
        .entry(EntryType::Regular, b"etc/tool", b"", 0o4751, &[7; 100_000])
        .hard_link("etc/second", "etc/tool")
        .symlink("etc/link", "..//elsewhere/./x")
        .symlink("etc/far", &"t/".repeat(200))
        .directory(&long[..150], 0o1777)
        .file(&long, "long")
        .end();
    let top = Archive::new()
        .directory("etc", 0o700)
        .file("etc/.wh.old", "")
        .directory("emptied", 0o755)
        .file("emptied/.wh..wh..opq", "")
        .end();
    let settings = json!({
        "Env": ["A=b=c"], "WorkingDir": "/srv", "User": "user",
        "Labels": { READ_ONLY_LABEL: "[\"/etc\"]" },
    });
    let source = home.path().join("layout");
    Files::image(&[base, top], settings).directory(&source);
    let first = import(&images, &source).unwrap();
    let targets = [home.path().join("exported"), home.path().join("exported.tar")];
    let said = Arc::new(Mutex::new(Vec::new()));
    let log: BuildLog = {
        let said = said.clone();
        Arc::new(move |line| said.lock().unwrap().push(line.to_owned()))
    };
    for target in &targets {
        export::export(&images, "tested", target, &log).unwrap();
        let error = export::export(&images, "tested", target, &log).unwrap_err();
        assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
        let (_other, others) = super::images();
        let second = import(&others, target).unwrap();
        assert_eq!(
            (second.env, second.workdir, second.user, second.read_only),
            (first.env.clone(), first.workdir.clone(), first.user.clone(), first.read_only.clone())
        );
        for (one, two) in first.layers.iter().zip(&second.layers) {
            let (one, two) = (images.store.layers().join(one), others.store.layers().join(two));
            let trees = [one, two].map(|layer| (seen(&layer, &[""]), is_opaque(&layer.join("emptied")).ok()));
            // The root of a layer is no entry of what is exported; its owner and permissions are those of every root.
            let [one, two] = trees.map(|(mut tree, opaque)| (tree.remove(Path::new("")), tree, opaque));
            assert_eq!((one.1, one.2), (two.1, two.2));
        }
    }
    assert!(said.lock().unwrap().iter().any(|line| line == "packing layer 2 of 2"));
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.as_bytes().starts_with(b".harvest")), "{left:?}");
    let error = export::export(&images, "host", &home.path().join("x"), &quiet()).unwrap_err();
    assert!(error.message.contains("harvest image import"), "{error}");
}

#[test]
fn a_removed_name_takes_the_image_with_it_only_when_it_was_the_last() {
    let (home, images) = images();
    let source = home.path().join("layout");
    two_layers().directory(&source);
    import(&images, &source).unwrap();
    let id = images.find("tested").unwrap().unwrap();
    images.tag("tested", "second").unwrap();
    assert_eq!(images.remove("tested").unwrap(), None);
    assert_eq!(images.find("tested").unwrap(), None);
    assert_eq!(images.find("second").unwrap().as_deref(), Some(&*id));
    assert_eq!(images.remove("second").unwrap().as_deref(), Some(&*id));
    assert_eq!(images.find(&id).unwrap(), None);
    assert_eq!(images.remove("second").unwrap_err().kind, ErrorKind::NOT_FOUND);
    assert_eq!(images.remove("host").unwrap_err().kind, ErrorKind::INVALID);
    import(&images, &source).unwrap();
    images.tag("tested", "second").unwrap();
    assert_eq!(images.remove(&id).unwrap().as_deref(), Some(&*id), "an id goes with all its names");
    assert!(images.list().unwrap().is_empty() && images.find("second").unwrap().is_none());
    // What a crash between the two leaves: an image without a name, which can still be removed.
    import(&images, &source).unwrap();
    fs::write(images.store.images().join("names"), "{}").unwrap();
    assert_eq!(images.remove(&id).unwrap().as_deref(), Some(&*id));
}
