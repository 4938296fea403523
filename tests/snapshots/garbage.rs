//! What is collected, and what never is.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_that_a_sandbox_or_a_name_needs() {
    let provider = Local::new();
    let image = provider.image("echo built > /opt/built").await;
    let sandbox = provider.open_image(&image).await;
    output(&*sandbox, "echo 1 > /opt/one").await;
    let first = sandbox.snapshot().await.expect("saved").image;
    output(&*sandbox, "echo 2 > /opt/two").await;
    let named = sandbox.snapshot().await.expect("saved").image;
    provider.tag_image(&named, "named").await.expect("named");
    let other = provider.open_image(&first).await;
    output(&*other, "echo 3 > /opt/three").await;
    let alone = other.snapshot().await.expect("saved").image;
    provider.remove(other.id()).await.expect("removed");

    let since = Timestamp::now();
    let unused = provider.unused_images(since).await.expect("looked");
    assert!(unused.contains(&first) && unused.contains(&alone) && !unused.contains(&named), "{unused:?}");
    // Only said at first.
    let before = provider.layers();
    let plan = provider.collect(&unused, since, true).await.expect("looked");
    assert_eq!((provider.layers(), plan.busy), (before.clone(), false));
    let done = provider.collect(&unused, since, false).await.expect("collected");
    let kinds = |collected: &[harvest::capability::sandbox::Garbage]| -> BTreeSet<(String, String)> {
        collected.iter().map(|garbage| (garbage.kind.clone(), garbage.of.clone())).collect()
    };
    assert_eq!(kinds(&plan.garbage), kinds(&done.garbage));
    assert_eq!(done.garbage.iter().filter(|garbage| garbage.kind == "layer").count(), 1, "{done:?}");
    assert!(done.garbage.iter().filter(|garbage| garbage.kind == "layer").all(|layer| layer.bytes > 0));
    assert_eq!(before.difference(&provider.layers()).count(), 1);
    // It goes on: on layers whose images are gone, too.
    assert_eq!(
        output(&*sandbox, "cat /opt/built /opt/one /opt/two; echo 4 > /opt/four").await,
        "built\n1\n2\n"
    );
    sandbox.snapshot().await.expect("saved");
    assert_eq!(output(&*sandbox, "cat /opt/one /opt/four").await, "1\n4\n");
    let again = provider.open_image("named").await;
    assert_eq!(output(&*again, "cat /opt/built /opt/one /opt/two").await, "built\n1\n2\n");
    assert!(provider.find_image(&alone).await.expect("looked").is_none());
    // What was asked for since is in use.
    let third = sandbox.snapshot().await.expect("saved").image;
    let since = Timestamp::now();
    let unused = provider.unused_images(since).await.expect("looked");
    assert!(provider.find_image(&third).await.expect("looked").is_some());
    let done = provider.collect(&unused, since, false).await.expect("collected");
    assert!(!done.garbage.iter().any(|garbage| garbage.of == third), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_image_is_built_nothing_goes() {
    let provider = Local::new();
    let spec =
        ImageSpec { commands: vec!["echo 1 > /opt/one".into(), "sleep 4".into()], ..ImageSpec::default() };
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let log = move |line: &str| drop(sender.send(line.to_owned()));
    let (image, busy) = tokio::join!(provider.build_image(&spec, None, Arc::new(log)), async {
        while let Some(line) = lines.recv().await {
            if line == "$ sleep 4" {
                break;
            }
        }
        // The first layer is there, and nothing names it yet.
        provider.collect(&[], Timestamp::now(), false).await.expect("looked").busy
    });
    assert!(busy);
    let sandbox = provider.open_image(&image.expect("builds").0).await;
    assert_eq!(output(&*sandbox, "cat /opt/one").await, "1\n");
}
