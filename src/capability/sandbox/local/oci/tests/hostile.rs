//! Archives that want out of their layer, or more than they should have.

use super::*;
use crate::step::ErrorKind;
use proptest::prelude::*;

#[test]
fn what_leads_out_is_refused_by_name() {
    let outside = World::new().outside();
    let absolute = outside.join("file").to_str().unwrap().to_owned();
    let deep = "d/".repeat(300);
    let cases: Vec<(&str, Archive)> = vec![
        ("`../outside/new` of the archive has `..`", Archive::new().file("../outside/new", "x")),
        ("`a/../../outside/file` of the archive has `..`", Archive::new().file("a/../../outside/file", "x")),
        ("has an absolute path", Archive::new().file(&absolute, "x")),
        ("has `..`", Archive::new().pax("25 path=../outside/file2\n").file("innocent", "x")),
        ("has a NUL", Archive::new().pax("12 path=a\0b\n").file("innocent", "x")),
        (
            "`l/new` of the archive leads through the link `l`",
            Archive::new().symlink("l", "../outside").file("l/new", "x"),
        ),
        (
            "`l/new` of the archive leads through the link `l`",
            Archive::new().symlink("l", outside.to_str().unwrap()).directory("l/new", 0o755),
        ),
        (
            "`l/.wh.file` of the archive leads through the link `l`",
            Archive::new().symlink("l", "../outside").file("l/.wh.file", ""),
        ),
        (
            "`l/.wh..wh..opq` of the archive leads through the link `l`",
            Archive::new().symlink("l", "../outside").file("l/.wh..wh..opq", ""),
        ),
        ("leads through the link `lnk` of a lower layer", Archive::new().file("lnk/new", "x")),
        (
            "`l` of the archive comes a second time",
            Archive::new().symlink("l", "../outside/file").file("l", "x"),
        ),
        (
            "`l` of the archive leads through the link `l`",
            Archive::new().symlink("l", "../outside").directory("l", 0o755),
        ),
        ("has `..`", Archive::new().hard_link("h", "../outside/file")),
        ("has an absolute path", Archive::new().hard_link("h", &absolute)),
        (
            "`h` of the archive is a hard link to `l/file`",
            Archive::new().symlink("l", "../outside").hard_link("h", "l/file"),
        ),
        ("`h` of the archive is a hard link to `missing`", Archive::new().hard_link("h", "missing")),
        ("is a hard link to `d`", Archive::new().directory("d", 0o755).hard_link("h", "d")),
        ("is a hard link to `gone`", Archive::new().file(".wh.gone", "").hard_link("h", "gone")),
        ("is a hard link to ``", Archive::new().hard_link("h", "./")),
        ("`./f` of the archive comes a second time", Archive::new().file("f", "1").file("./f", "2")),
        ("`f` of the archive comes a second time", Archive::new().directory("f", 0o755).file("f", "2")),
        ("lies in `f`, which is no directory", Archive::new().file("f", "1").file("f/x", "2")),
        ("marks the deletion of nothing", Archive::new().file(".wh...", "")),
        ("marks the deletion of nothing", Archive::new().file("a/.wh.", "")),
        ("lies in what marks a deletion", Archive::new().file(".wh.a/b", "")),
        ("is the root, and no directory", Archive::new().symlink("./", "../outside")),
        ("is a link to nothing", Archive::new().symlink("l", "")),
        ("is a link to no possible path", Archive::new().pax("16 linkpath=a\0b\n").symlink("l", "x")),
        ("is a sparse file", Archive::new().entry(EntryType::GNUSparse, b"s", b"", 0o644, b"")),
        ("is of an unknown type", Archive::new().entry(EntryType::new(b'Z'), b"z", b"", 0o644, b"")),
        ("a name of more than 255 bytes", Archive::new().file(&"n".repeat(256), "x")),
        ("deeper than 256", Archive::new().file(&format!("{deep}f"), "x")),
        ("a path of more than 4096 bytes", Archive::new().file(&"p/".repeat(2049), "x")),
        ("is larger than 8 GiB in a form", Archive::new().pax("17 size=99999999\n").file("f", "x")),
        ("malformed", Archive::new().pax("99 path=x\n").file("f", "x")),
        ("malformed", Archive::new().pax("2 path=x\n").file("f", "x")),
    ];
    for (words, archive) in cases {
        let world = World::new();
        let error = world.unpack(&archive.end()).expect_err(words);
        assert!(error.message.contains(words), "{words}: {error}");
        assert!(
            [ErrorKind::INVALID, ErrorKind::TOO_LARGE].contains(&error.kind),
            "{words}: {:?}",
            error.kind
        );
        assert!(world.is_untouched(), "{words}");
    }
}

#[test]
fn names_do_not_change_the_terminal() {
    let error = World::new().unpack(&Archive::new().file("../\u{1b}[2J\n", "x").end()).unwrap_err();
    assert!(!error.message.contains(['\u{1b}', '\n']), "{error:?}");
}

#[test]
fn an_archive_has_no_more_than_its_limits() {
    let limits = Limits { bytes: 1 << 20, entries: 10, names: 100 };
    let many = (0..11).fold(Archive::new(), |archive, number| archive.file(&number.to_string(), ""));
    let long = (0..3)
        .fold(Archive::new(), |archive, number| archive.file(&format!("{number}{}", "n".repeat(40)), ""));
    let headers = (0..11).fold(Archive::new(), |archive, _| archive.pax("9 path=x\n"));
    let big = Archive::new().file("big", &"x".repeat(2 << 20));
    let padded = [Archive::new().file("f", "x").end(), vec![0; 2 << 20]].concat();
    for (words, bytes) in [
        ("more than 10 entries", many.end()),
        ("more than 10 entries", headers.end()),
        ("of names", long.end()),
        ("more than 1 MiB", big.end()),
        ("more than 1 MiB", padded),
        ("more than 1 MiB", Archive::new().pax(&format!("9 path={}", "x".repeat(2 << 20))).end()),
    ] {
        let world = World::new();
        let limits = &limits;
        let error = unpack(&bytes[..], &world.layer(), &[], choose_ids().unwrap(), limits).unwrap_err();
        assert!(error.kind == ErrorKind::TOO_LARGE && error.message.contains(words), "{words}: {error:?}");
    }
}

#[test]
fn an_archive_that_is_cut_is_an_error() {
    let whole = Archive::new().file("f", &"x".repeat(5000)).end();
    for length in [100, 600, 3000] {
        let error = World::new().unpack(&whole[..length]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID, "{error}");
    }
}

/// One entry as an attacker may choose it.
fn entry() -> impl Strategy<Value = (u8, String, String, u32, usize)> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "lnk",
        "l",
        "..",
        ".",
        "",
        "outside",
        "layer",
        "file",
        ".wh.a",
        ".wh.l",
        ".wh..wh..opq",
        ".wh...",
        ".wh.outside",
    ]);
    let path = (prop::collection::vec(part, 1..4), prop::bool::weighted(0.05))
        .prop_map(|(parts, absolute)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")));
    let target = prop_oneof![
        path.clone(),
        Just("../outside".to_owned()),
        Just("../../outside/file".to_owned()),
        Just("..".to_owned()),
        Just("@OUTSIDE".to_owned()),
    ];
    let kind = prop::sample::select(vec![
        b'0', b'5', b'2', b'1', b'0', b'5', b'2', b'1', b'3', b'4', b'6', b'7', b'\0', b'x',
    ]);
    (kind, path, target, 0_u32..0o10000, 0_usize..1500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_of_the_layer_ever_changes(
        entries in prop::collection::vec(entry(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        gzip in any::<bool>(),
    ) {
        let world = World::new();
        let outside = world.outside().to_str().unwrap().to_owned();
        let archive = entries.iter().fold(Archive::new(), |archive, (kind, path, target, mode, size)| {
            let target = target.replace("@OUTSIDE", &outside);
            let content = if *kind == b'x' { format!("{} path={path}\n", path.len() + 9) } else { "x".repeat(*size) };
            archive.entry(EntryType::new(*kind), path.as_bytes(), target.as_bytes(), *mode, content.as_bytes())
        });
        let mut bytes = archive.end();
        for (index, value) in &damage {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        if gzip {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            bytes = encoder.finish().unwrap();
        }
        let content = decompress(&bytes[..]).unwrap();
        let below = [world.below()];
        let done = unpack(content, &world.layer(), &below, choose_ids().unwrap(), &Limits::default());
        prop_assert!(world.is_untouched(), "{entries:?} {done:?}");
        if done.is_ok() {
            for (path, (mode, ..)) in seen(&world.layer(), &[""]) {
                let metadata = fs::symlink_metadata(world.layer().join(&path)).unwrap();
                let kind = metadata.file_type();
                let known = kind.is_dir() || kind.is_file() || kind.is_symlink();
                prop_assert!(known || (kind.is_char_device() && metadata.rdev() == 0), "{path:?} {mode:o}");
                prop_assert!(metadata.uid() != 0, "{path:?} belongs to root of the host");
            }
        }
        crate::capability::sandbox::local::store::remove_tree(&world.layer()).unwrap();
    }
}
