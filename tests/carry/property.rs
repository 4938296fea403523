//! Whatever the interleaving of a session's work, its harvest steps, crashes of the host and pushes of others: no commit
//! ever becomes unreachable.

use crate::repository::git;
use crate::session::Session;
use crate::world::World;
use harvest::step::ErrorKind;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Most calls after which a step is cut off; a push that rebases makes about 50.
const CALLS: u32 = 60;
/// Most calls on a repository before which others push; three tries make about 10.
const REPOSITORY_CALLS: u32 = 10;

/// Something that happens.
#[derive(Clone, Debug)]
enum Act {
    /// The session changes a file.
    Edit(usize, u8),
    /// It commits all there is.
    Commit,
    /// It rewrites its last commit.
    Amend,
    /// It throws its last commit away, and what is not committed.
    Reset,
    /// It sets what is not committed aside and forgets it.
    Stash,
    /// It commits on a branch that it then deletes.
    Branch(usize, u8),
    /// Somebody pushes.
    Others(usize, u8),
    /// A step of the workflow, cut off at a call and repeated, with somebody who pushes meanwhile.
    Step(Kind, Option<u32>, Option<(u32, usize, u8)>),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Commit,
    Snapshot,
    Refuse,
    FetchRebase,
}

fn act() -> impl Strategy<Value = Act> {
    let file = 0..3_usize;
    let kind = prop_oneof![
        Just(Kind::Commit),
        Just(Kind::Snapshot),
        Just(Kind::Refuse),
        Just(Kind::FetchRebase),
        Just(Kind::FetchRebase),
    ];
    let meanwhile = prop::option::of((1..=REPOSITORY_CALLS, file.clone(), any::<u8>()));
    prop_oneof![
        3 => (file.clone(), any::<u8>()).prop_map(|(file, content)| Act::Edit(file, content)),
        3 => Just(Act::Commit),
        1 => Just(Act::Amend),
        1 => Just(Act::Reset),
        1 => Just(Act::Stash),
        1 => (file.clone(), any::<u8>()).prop_map(|(file, content)| Act::Branch(file, content)),
        3 => (file, any::<u8>()).prop_map(|(file, content)| Act::Others(file, content)),
        4 => (kind, prop::option::of(0..CALLS), meanwhile).prop_map(|(kind, cut, others)| Act::Step(kind, cut, others)),
    ]
}

fn name(file: usize) -> &'static str {
    ["a", "b", "c"][file]
}

/// What must not be lost.
struct Ledger<'a> {
    session: Session<'a>,
    /// Commits that the session has made.
    made: BTreeSet<String>,
}

impl Ledger<'_> {
    fn head(&self) -> String {
        self.session.git(&["rev-parse", "HEAD"])
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Edit(file, content) => self.session.write(name(*file), &format!("{content}\n")),
            Act::Commit => {
                self.session.commit("mine");
            }
            Act::Amend => {
                self.session.git(&["add", "-A"]);
                self.session.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "amended"]);
            }
            Act::Reset => {
                if self.session.git(&["rev-list", "--count", "--first-parent", "HEAD"]) != "1" {
                    self.session.git(&["reset", "-q", "--hard", "HEAD~1"]);
                }
            }
            Act::Stash => {
                if !self.session.git(&["status", "--porcelain"]).is_empty() {
                    self.session.git(&["stash", "-q"]);
                    self.made.insert(self.session.git(&["rev-parse", "stash"]));
                    self.session.git(&["stash", "drop", "-q"]);
                }
            }
            Act::Branch(file, content) => {
                self.session.git(&["checkout", "-q", "-b", "side"]);
                self.session.write(name(*file), &format!("side {content}\n"));
                self.made.insert(self.session.commit("side"));
                self.session.git(&["checkout", "-q", "main"]);
                self.session.git(&["branch", "-q", "-D", "side"]);
            }
            Act::Others(file, content) => {
                self.session.others.push(name(*file), &format!("theirs {content}\n"));
            }
            Act::Step(kind, cut, others) => self.step(*kind, *cut, *others).await,
        }
        self.made.insert(self.head());
        self.check_others();
    }

    async fn step(&mut self, kind: Kind, cut: Option<u32>, meanwhile: Option<(u32, usize, u8)>) {
        let path = &self.session.tree;
        let (function, arguments) = match kind {
            Kind::Commit => ("commit", json!({"path": path, "message": "all of it"})),
            Kind::Snapshot => ("snapshot", json!({"path": path})),
            Kind::Refuse => ("push", json!({"path": path, "strategy": "refuse"})),
            Kind::FetchRebase => ("push", json!({"path": path, "strategy": "fetch-rebase"})),
        };
        let contents = self.contents();
        let others = meanwhile.map(|(at, file, content)| {
            let others = self.session.others.clone();
            let push: Box<dyn FnOnce() + Send> = Box::new(move || {
                others.push(name(file), &format!("meanwhile {content}\n"));
            });
            (at, push)
        });
        let fuse = &self.session.world.fuse;
        fuse.set(cut, others.into_iter().collect());
        let mut result = self.session.step(function, arguments.clone(), 1).await;
        if fuse.blown() {
            // Whatever it had got to, nothing is gone, and the next attempt comes to an end.
            fuse.set(None, Vec::new());
            self.check(&contents, true);
            for lock in ["index.lock", "refs/harvest/checkpoint.lock"] {
                std::fs::write(self.session.tree.join(".git").join(lock), "").unwrap();
            }
            result = self.session.step(function, arguments, 2).await;
        }
        fuse.set(None, Vec::new());
        match &result {
            Ok(outputs) => {
                if function == "push" {
                    let main = git(&self.session.remote, &["rev-parse", "main"]);
                    assert_eq!(outputs["sha"], self.head());
                    // Unless somebody has pushed since.
                    assert!(main == self.head() || self.session.others.pushed().contains(&main));
                }
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
                assert_eq!(function, "push", "{error}");
            }
        }
        self.check(&contents, false);
    }

    /// The blobs of the files as they are.
    fn contents(&self) -> Vec<String> {
        (0..3).map(|file| self.session.git(&["hash-object", name(file)])).collect()
    }

    /// After a step everything outlives the sandbox; after one that was cut off, it is there or there.
    fn check(&self, contents: &[String], with_sandbox: bool) {
        let kept = self.session.kept();
        let now: Vec<String> = if with_sandbox { self.contents() } else { Vec::new() };
        let exists = |object: &String| {
            with_sandbox
                && git(&self.session.tree, &["cat-file", "--batch-check", "--batch-all-objects"])
                    .contains(object)
        };
        for commit in &self.made {
            assert!(kept.contains(commit) || exists(commit), "the session's commit {commit} is lost");
        }
        for blob in contents {
            assert!(kept.contains(blob) || now.contains(blob) || exists(blob), "a change is lost: {blob}");
        }
    }

    /// What others have pushed is on the branch they pushed it to.
    fn check_others(&self) {
        let listed = git(&self.session.remote, &["rev-list", "main"]);
        for commit in self.session.others.pushed() {
            assert!(listed.contains(&commit), "the commit {commit} of others is lost");
        }
    }
}

async fn play(acts: &[Act]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::new);
    let session = Session::new(world).await;
    let mut ledger = Ledger { made: BTreeSet::new(), session };
    for act in acts {
        ledger.act(act).await;
    }
    ledger.step(Kind::Snapshot, None, None).await;
    std::fs::remove_dir_all(&ledger.session.tree).unwrap();
    ledger.check(&[], false);
}

proptest! {
    // A case takes a second. PROPTEST_CASES says how many a longer look takes.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12),
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_commit_ever_becomes_unreachable(acts in prop::collection::vec(act(), 4..16)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(&acts));
    }
}
