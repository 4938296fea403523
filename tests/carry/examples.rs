//! What becomes of a push, case by case.

use crate::repository::git;
use crate::session::Session;
use crate::world::World;
use harvest::step::ErrorKind;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_carries_commits_forward_and_leaves_the_rest_uncommitted() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    session.commit("mine");
    session.write("b", "not committed\n");
    session.write("new", "not tracked\n");
    session.git(&["config", "core.hooksPath", "/nonexistent"]);
    session.others.push("c", "theirs\n");
    let pushed = session.push("fetch-rebase").await.unwrap();
    assert_eq!(session.subjects("main"), "mine, theirs: c, first, zero");
    assert_eq!(session.git(&["rev-parse", "HEAD"]), pushed["sha"].as_str().unwrap());
    assert_eq!(session.git(&["status", "--porcelain"]), "M b\n?? new");
    assert_eq!(session.git(&["status", "-sb"]).lines().next(), Some("## main...origin/main [ahead 1]"));
    assert_eq!(std::fs::read_to_string(session.tree.join("c")).unwrap(), "theirs\n");
    assert_eq!(session.git(&["log", "-1", "--format=%an"]), "Ann");
    assert_eq!(session.git(&["worktree", "list"]).lines().count(), 1);
    // The files of the commit are the session's alone.
    let committed =
        session.step("commit", json!({"path": session.tree, "message": "more"}), 1).await.unwrap();
    assert_eq!(committed["files"], json!(["a", "b", "new"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_ends_on_a_branch_that_keeps_everything() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    let mine = session.commit("mine");
    session.write("b", "not committed\n");
    let theirs = session.others.push("a", "theirs\n");
    let error = session.push("fetch-rebase").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
    assert!(
        error.message.starts_with("others changed the same lines of a; all of it is on branch "),
        "{error}"
    );
    let branch = error.message.split_whitespace().find(|word| word.starts_with("harvest/panic-")).unwrap();
    assert_eq!(session.subjects(branch), "wip: snapshot, mine, first, zero");
    assert_eq!(git(&session.remote, &["show", &format!("{branch}:b")]), "not committed");
    // The tree is as it was.
    assert_eq!(session.git(&["rev-parse", "HEAD"]), mine);
    assert_eq!(session.git(&["status", "--porcelain"]), "M b");
    assert_eq!(git(&session.remote, &["rev-parse", "main"]), theirs);
    // Another attempt comes to the same end, on the same branch.
    let again = session.push("fetch-rebase").await.unwrap_err();
    assert_eq!(again, error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_never_stands_still_is_given_up_after_three_tries() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    session.commit("mine");
    // The calls of a try are: receive, push; then fetch and send.
    let race = (1..=40).map(|at| {
        let others = session.others.clone();
        let act: Box<dyn FnOnce() + Send> = Box::new(move || {
            others.push("b", &format!("{at}\n"));
        });
        (at, act)
    });
    world.fuse.set(None, race.collect());
    let error = session.push("fetch-rebase").await.unwrap_err();
    world.fuse.set(None, Vec::new());
    assert_eq!(error.kind, ErrorKind::CONFLICT);
    assert!(error.message.contains("moved on during each of 3 tries"), "{error}");
    let branch = error.message.split_whitespace().find(|word| word.starts_with("harvest/panic-")).unwrap();
    assert!(session.subjects(branch).starts_with("mine, theirs: b"), "{}", session.subjects(branch));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_rewrite_commits_of_others_stops() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let head = git(&session.remote, &["rev-parse", "main"]);
    for strategy in ["refuse", "fetch-rebase"] {
        let error = session.push(strategy).await.unwrap_err();
        assert!(error.message.contains("a push never takes commits away"), "{error}");
    }
    session.write("a", "mine\n");
    session.commit("mine");
    let error = session.push("fetch-rebase").await.unwrap_err();
    assert!(error.message.contains("took commits of others away"), "{error}");
    assert!(error.message.contains("all of it is on branch harvest/panic-"), "{error}");
    assert_eq!(git(&session.remote, &["rev-parse", "main"]), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_delivers_what_there_is() {
    let world = World::new();
    let session = Session::new(&world).await;
    session.write("a", "mine\n");
    let mine = session.commit("mine");
    session.others.push("b", "theirs\n");
    let error = session.push("refuse").await.unwrap_err();
    assert!(error.message.contains("have it with: git fetch "), "{error}");
    assert_eq!(git(&session.remote, &["rev-parse", &format!("harvest/{}", session.run)]), mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_by_every_rule_loses_nothing() {
    let world = World::new();
    let session = Session::new(&world).await;
    let mut made = Vec::new();
    session.write("a", "first\n");
    made.push(session.commit("first try"));
    session.git(&["reset", "-q", "--hard", "HEAD~1"]);
    session.write("b", "stashed\n");
    session.git(&["stash", "-q"]);
    made.push(session.git(&["rev-parse", "stash"]));
    session.git(&["stash", "drop", "-q"]);
    session.git(&["checkout", "-q", "--orphan", "alone"]);
    made.push(session.commit("an orphan"));
    session.git(&["checkout", "-q", "main"]);
    session.git(&["branch", "-q", "-D", "alone"]);
    session.write("c", "one\ntwo\n");
    made.push(session.commit("amended away"));
    session.git(&["commit", "-q", "--amend", "-m", "kept"]);
    session.git(&["reflog", "expire", "--expire=now", "--all"]);
    let kept = session.step("snapshot", json!({"path": session.tree}), 1).await.unwrap();
    assert_eq!(kept["sha"], session.git(&["rev-parse", "HEAD"]));
    std::fs::remove_dir_all(&session.tree).unwrap();
    let left = session.kept();
    assert!(made.iter().all(|commit| left.contains(commit)), "{made:?}");
    assert_eq!(session.subjects(kept["ref"].as_str().unwrap()), "kept, first, zero");
}
