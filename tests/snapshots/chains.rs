//! Snapshots on snapshots, as high as they get.

use super::*;

/// Snapshots in the chain; well beyond the number at which layers are squashed.
const LENGTH: usize = 100;

/// What a step of the chain does, and to what that leads.
fn step(number: usize, files: &mut BTreeMap<String, String>) -> String {
    let (own, shared, directory) =
        (format!("f{number}"), format!("s{}", number % 7), format!("d{}", number % 5));
    let mut script = format!("echo {number} > {own}; echo {number} > {shared}; ");
    files.insert(own, number.to_string());
    files.insert(shared, number.to_string());
    if number.is_multiple_of(3) {
        // Anew each time: opaque where it was there.
        script += &format!("rm -rf {directory}; mkdir {directory}; echo {number} > {directory}/x{number}; ");
        files.retain(|path, _| !path.starts_with(&format!("{directory}/")));
        files.insert(format!("{directory}/x{number}"), number.to_string());
    }
    if number.is_multiple_of(4) && number > 0 {
        let gone = format!("f{}", number / 2);
        script += &format!("rm -f {gone}; ");
        files.remove(&gone);
    }
    script
}

fn listed(files: &BTreeMap<String, String>) -> String {
    files.iter().map(|(path, content)| format!("{path} {content}\n")).collect()
}

const SHOW: &str = "cd /data && find . -type f -printf '%P\\n' | LC_ALL=C sort | while read f; do echo \"$f $(cat $f)\"; done";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_snapshots_each_shows_its_files_squashed_or_not() {
    let provider = Local::new();
    let sandbox = open(&*provider).await;
    output(&*sandbox, "mkdir /data").await;
    let mut files = BTreeMap::new();
    let mut chain = Vec::new();
    for number in 0..LENGTH {
        let script = step(number, &mut files);
        output(&*sandbox, &format!("cd /data; {script}")).await;
        let snapshot = sandbox.snapshot().await.expect("saved");
        assert_eq!(snapshot.mode, SnapshotMode::Stacked);
        chain.push((snapshot.image, listed(&files)));
    }
    assert_eq!(output(&*sandbox, SHOW).await, chain[LENGTH - 1].1, "the sandbox itself");
    let squashed = || provider.layers().into_iter().any(|layer| layer.starts_with("squash-"));
    until("layers are squashed", async || squashed()).await;
    for place in [0, 30, 63, 64, 65, 80, LENGTH - 1] {
        let (image, files) = &chain[place];
        let sandbox = provider.open_image(image).await;
        assert_eq!(output(&*sandbox, SHOW).await, *files, "snapshot {place}");
    }
    // The last one alone is kept: what it was squashed from goes, and nobody sees a difference.
    let (last, files) = chain.last().expect("a chain");
    let all = output(&*sandbox, &format!("cd /data; {LIST}")).await;
    provider.tag_image(last, "last").await.expect("named");
    sandbox.snapshot().await.expect("on what is squashed");
    provider.remove(sandbox.id()).await.expect("removed");
    for (id, _) in provider.list().await.expect("listed") {
        provider.remove(&id).await.expect("removed");
    }
    until("nobody squashes any more", async || {
        let unused = provider.unused_images(Timestamp::now()).await.expect("looked");
        !provider.collect(&unused, Timestamp::now(), false).await.expect("collected").busy
    })
    .await;
    assert_eq!(provider.list_images().await.expect("listed").len(), 1);
    let again = provider.open_image("last").await;
    assert_eq!(output(&*again, SHOW).await, *files);
    assert_eq!(output(&*again, &format!("cd /data; {LIST}")).await, all);
    let record = provider.home.path().join("sandboxes").join(again.id()).join("image.json");
    let record = fs::read_to_string(record).expect("a record");
    assert!(record.contains("squash-"), "{record}");
    assert!(provider.layers().len() < 64, "{:?}", provider.layers());
}
