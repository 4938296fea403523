//! Snapshots of hosts that are killed.

use super::*;

/// The host that is killed: this test binary again. It writes, saves, says so, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_loses_no_file_and_leaves_no_half_snapshot() {
    const HOME: &str = "HARVEST_TEST_VICTIM";
    let spec = || SandboxSpec { id: "victim".into(), image: "host".into(), ..SandboxSpec::default() };
    if let Some(home) = std::env::var_os(HOME) {
        let provider = LocalProvider::new(Path::new(&home), launcher(), Vec::new()).expect("a provider");
        let sandbox = provider.open(spec()).await.expect("opens");
        let last = output(&*sandbox, "ls /root | sort -n | tail -1").await;
        for number in last.trim().parse().unwrap_or(0) + 1.. {
            // There whole or not at all, whenever the kill falls.
            let write = format!("echo {number} > /root/.new && mv /root/.new /root/{number}");
            output(&*sandbox, &write).await;
            println!("wrote {number}");
            let image = sandbox.snapshot().await.expect("saved").image;
            println!("saved {number} {image}");
        }
    }
    let home = tempfile::tempdir().expect("a directory");
    for trial in 0..8 {
        let mut host = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "survives::a_killed_host_loses_no_file_and_leaves_no_half_snapshot",
                "--nocapture",
            ])
            .env(HOME, home.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let (mut wrote, mut saved) = (0, BTreeMap::new());
        let lines = BufReader::new(host.stdout.take().expect("a pipe")).lines();
        // Killed as soon as a number was written: while it is being saved, a little later each time.
        let mut left = 2 + trial % 3;
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["wrote", number] => wrote = number.parse::<usize>().expect("a number"),
                ["saved", number, image] => drop(saved.insert(image.to_owned(), number.to_owned())),
                _ => continue,
            }
            if words[0] == "wrote" {
                left -= 1;
                if left == 0 {
                    // No test waits by sleeping; this is where in a snapshot the kill falls.
                    std::thread::sleep(Duration::from_millis(3 * trial as u64));
                    host.kill().expect("killed");
                }
            }
        }
        host.wait().expect("reaped");
        let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
        let sandbox = provider.open(spec()).await.expect("opens");
        let count = output(&*sandbox, "ls /root | wc -l").await;
        assert!(
            count.trim().parse::<usize>().expect("a number") >= wrote,
            "trial {trial}: {count} of {wrote}"
        );
        output(&*sandbox, "cd /root && for f in *; do test $(cat $f) = $f || exit 1; done").await;
        sandbox.terminate().await.expect("ends");
        let listed = provider.list_images().await.expect("listed");
        let ids: BTreeSet<&String> = listed.iter().map(|image| &image.id).collect();
        for (image, number) in &saved {
            assert!(ids.contains(image), "trial {trial}: snapshot {number} is lost");
        }
        // Each is whole, also one that was never acknowledged.
        for image in listed.iter().take(2) {
            let copy = provider.open_image_of(&image.id).await;
            output(&*copy, "cd /root && for f in *; do test $(cat $f) = $f || exit 1; done; test -e 1").await;
            provider.remove(copy.id()).await.expect("removed");
        }
    }
}

trait OpenImage {
    async fn open_image_of(&self, image: &str) -> Arc<dyn Sandbox>;
}

impl OpenImage for LocalProvider {
    async fn open_image_of(&self, image: &str) -> Arc<dyn Sandbox> {
        self.open(SandboxSpec { image: image.into(), ..spec() }).await.expect("opens")
    }
}
