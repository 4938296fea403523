//! What lies on which layer, and what overlayfs makes of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_upper_directory_holds_exactly_the_writes_and_layers_never_change() {
    let provider = Local::new();
    let image = provider
        .image("mkdir -p /data/sub; echo one > /data/a; echo two > /data/sub/b; ln -s a /data/link; chmod 750 /data/sub")
        .await;
    let sandbox = provider.open_image(&image).await;
    let before: Vec<_> = provider.layers().into_iter().collect();
    let layer = |name: &String| describe(&provider.home.path().join("layers").join(name));
    let described: Vec<_> = before.iter().map(layer).collect();
    output(&*sandbox, "cat /data/a /data/sub/b /data/link > /dev/null; ls -lR /data /etc > /dev/null").await;
    assert_eq!(paths(&provider.upper(&*sandbox)), BTreeSet::new(), "mounting and reading write nothing");
    output(
        &*sandbox,
        "echo new > /data/new; echo more >> /data/a; chmod 600 /data/sub/b; mkdir /opt/own; echo x > /opt/own/x; \
         rm /data/link; touch -d @0 /data/sub",
    )
    .await;
    let written = paths(&provider.upper(&*sandbox));
    let expected =
        ["data", "data/a", "data/link", "data/new", "data/sub", "data/sub/b", "opt", "opt/own", "opt/own/x"];
    assert_eq!(written, expected.map(String::from).into());
    assert_eq!(fs::read_to_string(provider.upper(&*sandbox).join("data/a")).expect("read"), "one\nmore\n");
    sandbox.snapshot().await.expect("saved");
    output(&*sandbox, "rm -rf /data; echo all > /data; rm -rf /opt/own").await;
    assert_eq!(before.iter().map(layer).collect::<Vec<_>>(), described, "a layer has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_opaque_directories_links_and_attributes_are_as_overlayfs_has_them() {
    let provider = Local::new();
    let image = provider
        .image("mkdir -p /data/dir/deep /data/gone; echo 1 > /data/file; echo 2 > /data/dir/deep/x; echo 3 > /data/gone/y")
        .await;
    let sandbox = provider.open_image(&image).await;
    let script = "python3 - <<'END'\n\
        import errno, os, shutil\n\
        try: os.rename('/data/dir', '/data/moved'); print('renamed')\n\
        except OSError as e: print(errno.errorcode[e.errno])\n\
        shutil.move('/data/dir', '/data/moved')\n\
        print(open('/data/moved/deep/x').read().strip(), os.path.exists('/data/dir'))\n\
        shutil.rmtree('/data/gone'); os.mkdir('/data/gone'); open('/data/gone/new', 'w').write('4')\n\
        os.remove('/data/file')\n\
        open('/data/first', 'w').write('5'); os.link('/data/first', '/data/second')\n\
        os.setxattr('/data/first', 'user.mine', b'6'); os.setxattr('/data/moved', 'user.mine', b'7')\n\
        END";
    assert_eq!(output(&*sandbox, script).await, "EXDEV\n2 False\n");
    let upper = provider.upper(&*sandbox).join("data");
    for whiteout in ["file", "dir"] {
        let metadata = fs::symlink_metadata(upper.join(whiteout)).expect("a whiteout");
        assert!(metadata.file_type().is_char_device() && metadata.rdev() == 0, "{whiteout}");
    }
    let mut value = [0; 8];
    let length =
        rustix::fs::lgetxattr(upper.join("gone"), "user.overlay.opaque", &mut value).expect("marked");
    assert_eq!(&value[..length], b"y");
    assert_eq!(fs::metadata(upper.join("first")).expect("there").nlink(), 2);

    let check = "cd /data; ls -A . gone moved/deep; stat -c '%h %i' first second | uniq | cut -d' ' -f1; \
        python3 -c \"import os; print(os.getxattr('first', 'user.mine'), os.getxattr('second', 'user.mine'), os.getxattr('moved', 'user.mine'))\"; \
        echo more >> first; cat second; echo; mkdir file dir && ls file dir";
    // The second name of a file that a layer holds stays as it is when the first is written to.
    let expected = ".:\nfirst\ngone\nmoved\nsecond\n\ngone:\nnew\n\nmoved/deep:\nx\n2\nb'6' b'6' b'7'\n5\ndir:\n\nfile:\n";
    let mut idle = sandbox.exec(ExecSpec { stdin: true, ..sh("read end") }).await.expect("starts");
    let busy = sandbox.snapshot().await.expect("saved");
    idle.kill().await.expect("killed");
    let stacked = sandbox.snapshot().await.expect("saved");
    assert_eq!(stacked.mode, SnapshotMode::Stacked);
    for Snapshot { image, mode } in [busy, stacked] {
        let seen = output(&*provider.open_image(&image).await, check).await;
        assert_eq!(seen, expected, "{mode:?}");
    }
}
