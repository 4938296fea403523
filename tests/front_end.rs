//! The git that the agent image puts before the real one: it refuses what loses work, keeps what there is before commands
//! that throw something away, and is no different otherwise.

#[path = "harness/repository.rs"]
mod repository;

use repository::{git, sample};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A repository, and git as an agent has it.
struct Agent {
    _directory: tempfile::TempDir,
    tree: PathBuf,
}

impl Agent {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = sample(&directory.path().canonicalize().unwrap().join("it's a tree"));
        git(&tree, &["clone", "-q", "--bare", ".", "../remote.git"]);
        git(&tree, &["remote", "add", "origin", "../remote.git"]);
        Self { _directory: directory, tree }
    }

    fn command(&self, place: &Path, words: &[&str]) -> Command {
        let bin = concat!(env!("CARGO_MANIFEST_DIR"), "/images/agent/bin");
        let mut command = Command::new("git");
        command.current_dir(place).args(words).env_clear();
        command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
        command.env("GIT_AUTHOR_NAME", "Ann").env("GIT_AUTHOR_EMAIL", "ann@example.com");
        command.env("GIT_COMMITTER_NAME", "Ann").env("GIT_COMMITTER_EMAIL", "ann@example.com");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(&self.tree, words).output().unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        let before = git(&self.tree, &["for-each-ref"]) + &git(&self.tree, &["status", "--porcelain"]);
        let output = self.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert_eq!(git(&self.tree, &["for-each-ref"]) + &git(&self.tree, &["status", "--porcelain"]), before);
        said
    }

    fn fine(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.tree.join("file.txt"), text).unwrap();
    }

    /// What checkpoints hold of the file.
    fn kept(&self) -> Vec<String> {
        let refs = git(&self.tree, &["for-each-ref", "--format=%(refname)", "refs/harvest/checkpoints"]);
        let show = |name: &str| git(&self.tree, &["show", &format!("{name}:file.txt")]);
        refs.lines().map(show).collect()
    }
}

#[test]
fn pull_stash_and_forced_pushes_are_refused_with_the_rule() {
    let agent = Agent::new();
    agent.write("changed\n");
    assert!(agent.refused(&["pull"]).contains("then git fetch, then git rebase"));
    assert!(
        agent
            .refused(&["-C", ".", "-c", "a.b=c", "pull", "--rebase"])
            .starts_with("harvest: no git pull here")
    );
    for words in [&["stash"][..], &["stash", "push", "-u"], &["--no-pager", "stash", "drop"]] {
        assert!(agent.refused(words).contains("git commit -m 'wip: snapshot' --no-verify"), "{words:?}");
    }
    let pushes = [
        "--force",
        "-f",
        "-uf",
        "-qf",
        "--force-with-lease",
        "--force-with-lease=main",
        "--force-if-includes",
        "--mirror",
        "--delete",
        "-d",
        "--prune",
    ];
    for option in pushes {
        assert!(agent.refused(&["push", option, "origin", "main"]).contains("a plain git push"), "{option}");
        assert!(agent.refused(&["push", "origin", "main", option]).contains("no forced push"), "{option}");
    }
    for refspec in ["+main", "+refs/heads/main:refs/heads/main", ":main"] {
        assert!(agent.refused(&["push", "origin", refspec]).contains("no forced push"), "{refspec}");
    }
    assert_eq!(git(&agent.tree, &["rev-list", "--all", "--count"]), "3", "nothing was made of it");
}

#[test]
fn everything_else_is_git() {
    let agent = Agent::new();
    agent.write("changed\n");
    assert_eq!(agent.fine(&["status", "--porcelain"]), "M file.txt");
    assert!(agent.fine(&["--version"]).starts_with("git version"));
    agent.fine(&["commit", "-qam", "it's 'quoted' \"twice\"\nand goes on"]);
    assert_eq!(agent.fine(&["log", "-1", "--format=%s"]), "it's 'quoted' \"twice\" and goes on");
    agent.fine(&["push", "-q", "origin", "HEAD:main"]);
    agent.fine(&["push", "-q", "-u", "origin", "main"]);
    let unknown = agent.run(&["no-such-command"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("is not a git command"));
    // Outside of any repository too.
    let outside = agent.command(Path::new("/"), &["reset", "--hard"]).output().unwrap();
    assert_eq!(outside.status.code(), Some(128));
    // Input and output are untouched.
    let mut hash = agent.command(&agent.tree, &["hash-object", "--stdin"]);
    hash.stdin(std::fs::File::open(agent.tree.join("file.txt")).unwrap());
    let hashed = String::from_utf8(hash.output().unwrap().stdout).unwrap();
    assert_eq!(hashed.trim(), git(&agent.tree, &["hash-object", "file.txt"]));
}

#[test]
fn what_is_thrown_away_was_kept_before() {
    let agent = Agent::new();
    agent.write("not committed\n");
    agent.fine(&["reset", "-q", "--hard"]);
    assert_eq!(agent.kept(), ["not committed"]);
    agent.write("checked out over\n");
    agent.fine(&["checkout", "-q", "--", "file.txt"]);
    agent.write("restored\n");
    let parent = agent.tree.parent().unwrap();
    let restored = agent.command(parent, &["-C", "it's a tree", "restore", "file.txt"]).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    std::fs::write(agent.tree.join("new.txt"), "new\n").unwrap();
    agent.fine(&["clean", "-qfd"]);
    agent.write("amended\n");
    agent.fine(&["commit", "-qa", "--amend", "-m", "other"]);
    let kept = agent.kept();
    for words in ["checked out over", "restored"] {
        assert!(kept.iter().any(|text| text == words), "{kept:?}");
    }
    let all = git(&agent.tree, &["rev-list", "--objects", "--all"]);
    assert!(all.contains(" new.txt"), "{all}");
    assert!(all.contains(&git(&agent.tree, &["rev-parse", "HEAD@{1}"])), "the commit before the amended one");
    assert_eq!(agent.fine(&["status", "--porcelain"]), "");
}

#[test]
fn steps_pass_through() {
    let agent = Agent::new();
    agent.write("changed\n");
    let stash = agent.command(&agent.tree, &["stash", "-q"]).env("HARVEST_STEP", "git").output().unwrap();
    assert!(stash.status.success());
    assert_eq!(agent.kept(), Vec::<String>::new());
}
