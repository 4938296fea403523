//! `harvest journal` as operators use it: checking, moving, copying and shrinking the journal of a home.

mod harness;

use harness::{Home, text};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

/// A home with the runs of an earlier version, which are of every kind.
fn home() -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path()).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals/v0.1.0/journal.db");
    fs::copy(kept, home.path().join("journal.db")).unwrap();
    home.run(&["runs"]);
    home
}

fn good(output: Output) -> Output {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    output
}

fn runs(home: &Home) -> Value {
    home.json(&["runs", "--json", "--limit", "10000"])
}

#[test]
fn all_runs_move_to_another_home_and_stay_the_same() {
    let (old, new) = (home(), Home::new());
    let file = old.scratch().join("runs.jsonl");
    let file = file.to_str().unwrap();
    let exported = good(old.run(&["journal", "export", file]));
    assert_eq!(
        text(&exported.stderr),
        "exported 20 runs with 170 events\n1 of them unfinished, as they were at that moment\n"
    );
    let imported = good(new.run(&["journal", "import", file]));
    assert_eq!(
        text(&imported.stdout),
        "imported 20 runs with 170 events, 1 unfinished; 0 here already, 0 refused, of 20\n"
    );
    insta::assert_snapshot!(text(&imported.stderr), @r"
    unfinished: 01m87vr8na6dzcpwrhh840a8zc
    these go on here with `harvest resume`; they must not go on in their old home too
    ");
    assert_eq!(runs(&new), runs(&old));
    for row in runs(&old).as_array().unwrap() {
        let run = row["run"].as_str().unwrap();
        assert_eq!(new.json(&["show", run, "--json"]), old.json(&["show", run, "--json"]));
    }
    // The file says all there is to say, and the same file again changes nothing.
    assert_eq!(good(new.run(&["journal", "export", "-"])).stdout, fs::read(file).unwrap());
    let again = good(new.run(&["journal", "import", file]));
    assert!(text(&again.stdout).contains("imported 0 runs with 0 events, 0 unfinished; 20 here already"));
    // It never replaces a file unasked.
    let taken = old.run(&["journal", "export", file]);
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken.stderr).contains("is there already"), "{}", text(&taken.stderr));
    good(old.run(&["journal", "export", file, "--force"]));
}

#[test]
fn one_run_goes_through_a_pipe() {
    let (old, new) = (home(), Home::new());
    let run = old.newest();
    let exported = good(old.run(&["journal", "export", "-", "--run", &run])).stdout;
    let mut import = new.harvest();
    import.args(["journal", "import", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut import = import.spawn().unwrap();
    import.stdin.take().unwrap().write_all(&exported).unwrap();
    assert!(text(&good(import.wait_with_output().unwrap()).stdout).starts_with("imported 1 run with"));
    assert_eq!(new.json(&["show", &run, "--json"]), old.json(&["show", &run, "--json"]));
    let missing = old.run(&["journal", "export", "-", "--run", "01arz3ndektsv4rrffq69g5fav"]);
    assert_eq!(missing.status.code(), Some(5));
}

#[test]
fn a_cut_or_changed_file_is_refused_before_anything_is_written() {
    let (old, new) = (home(), Home::new());
    let whole = good(old.run(&["journal", "export", "-"])).stdout;
    let mut changed = whole.clone();
    let at = changed.len() / 2;
    changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
    let without_end = &whole[..whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1];
    for bad in [&whole[..whole.len() / 2], &changed, without_end, b"", b"{}\n"] {
        let file = new.file("bad.jsonl", "");
        fs::write(&file, bad).unwrap();
        let refused = new.run(&["journal", "import", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("the export "), "{}", text(&refused.stderr));
        assert_eq!(runs(&new), serde_json::json!([]));
    }
}

#[test]
fn a_run_that_differs_is_refused_by_name() {
    let (old, new) = (home(), home());
    let run = old.json(&["runs", "--state", "waiting", "--json"])[0]["run"].as_str().unwrap().to_owned();
    good(old.run(&["cancel", &run]));
    good(old.run(&["resume"]));
    let file = old.scratch().join("runs.jsonl");
    good(old.run(&["journal", "export", file.to_str().unwrap()]));
    let before = runs(&new);
    let imported = new.run(&["journal", "import", file.to_str().unwrap()]);
    assert_eq!(imported.status.code(), Some(1));
    assert!(text(&imported.stderr).starts_with(&format!("refused {run}: ")), "{}", text(&imported.stderr));
    assert!(text(&imported.stdout).contains("19 here already, 1 refused"), "{}", text(&imported.stdout));
    assert_eq!(runs(&new), before);
}

#[test]
fn a_backup_restores_and_is_never_replaced_unasked() {
    let home = home();
    let file = home.scratch().join("backup.db");
    let path = file.to_str().unwrap();
    let made = good(home.run(&["journal", "backup", path]));
    assert!(text(&made.stderr).contains("20 runs, 170 events"), "{}", text(&made.stderr));
    let taken = home.run(&["journal", "backup", path]);
    assert_eq!(taken.status.code(), Some(2), "{}", text(&taken.stderr));
    good(home.run(&["journal", "backup", path, "--force"]));
    let restored = Home::new();
    fs::create_dir_all(restored.path()).unwrap();
    fs::copy(&file, restored.path().join("journal.db")).unwrap();
    assert_eq!(runs(&restored), runs(&home));
    good(restored.run(&["journal", "verify"]));
    let beside: Vec<_> =
        fs::read_dir(home.scratch()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "nothing but the home and the backup: {beside:?}");
}

#[test]
fn verify_says_what_is_wrong_and_exits_so() {
    let home = home();
    let whole = good(home.run(&["journal", "verify", "--json"]));
    let whole: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&whole["whole"], &whole["runs"], &whole["records"]), (&true.into(), &20.into(), &170.into()));
    assert!(text(&good(home.run(&["journal", "verify"])).stdout).starts_with("whole: 20 runs, 170 events"));
    // A payload is changed on the disk, and what may be left of it in pages that nothing uses.
    let path = home.path().join("journal.db");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"looked at it";
    for at in 0..bytes.len() - needle.len() {
        if bytes[at..].starts_with(needle) {
            bytes[at] = b'L';
        }
    }
    fs::write(&path, bytes).unwrap();
    let damaged = home.run(&["journal", "verify"]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        text(&damaged.stdout).contains("does not match its checksum; events from"),
        "{}",
        text(&damaged.stdout)
    );
    let report = home.json(&["journal", "verify", "--json"]);
    assert_eq!((&report["whole"], &report["damaged"]), (&false.into(), &1.into()));
    // What is damaged is not backed up as if it were whole, nor exported: the runs that are whole are, and listed.
    let backup = home.run(&["journal", "backup", home.scratch().join("x").to_str().unwrap()]);
    assert_eq!(backup.status.code(), Some(2), "{}", text(&backup.stderr));
    assert!(!home.scratch().join("x").exists());
    let file = home.scratch().join("x");
    let export = home.run(&["journal", "export", file.to_str().unwrap()]);
    assert_eq!(export.status.code(), Some(1), "{}", text(&export.stderr));
    let said = text(&export.stderr);
    assert!(said.contains("exported 19 runs"), "{said}");
    let line = said.lines().find(|line| line.starts_with("left out: run ")).expect("it is named");
    let run = line["left out: run ".len()..].split([',', ':']).next().unwrap();
    let elsewhere = Home::new();
    good(elsewhere.run(&["journal", "import", file.to_str().unwrap()]));
    let came = runs(&elsewhere);
    let came: Vec<_> = came.as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert!(came.len() == 19 && !came.contains(&run), "{run} of {came:?}");
    let alone = home.run(&["journal", "export", "--run", run, home.scratch().join("y").to_str().unwrap()]);
    assert_eq!(alone.status.code(), Some(4), "{}", text(&alone.stderr));
    assert!(!home.scratch().join("y").exists());
    // A file that is no journal any more.
    fs::write(&path, "# notes\n".repeat(1000)).unwrap();
    assert_eq!(home.run(&["journal", "verify"]).status.code(), Some(1));
    assert_eq!(home.json(&["journal", "verify", "--json"])["damaged"], 1);
}

#[test]
fn compacting_says_bytes_before_and_after() {
    let home = home();
    let done = home.json(&["journal", "compact", "--json"]);
    assert!(done["after"].as_u64().unwrap() <= done["before"].as_u64().unwrap(), "{done}");
    assert!(text(&good(home.run(&["journal", "compact"])).stdout).contains(" after"));
    assert_eq!(runs(&home).as_array().unwrap().len(), 20);
}
