//! Pictures of files and of runs, from the real binary.

mod harness;

use harness::{Home, text};

const FILE: &str = r#"harvest: 1
name: drawn
steps:
  first:
    uses: exec/run
    with: { command: [echo, hello] }
  second:
    uses: exec/run
    with: { command: [sh, -c, "exit 3"], stdin: "${{ steps.first.stdout }}" }
  third:
    uses: exec/run
    needs: [second]
    with: { command: ["true"] }
finally:
  last:
    uses: exec/run
    with: { command: ["true"] }
"#;

/// The picture of a file or run.
fn drawn(home: &Home, locale: &str, arguments: &[&str]) -> String {
    let output = home.harvest().env("LC_ALL", locale).arg("graph").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

#[test]
fn a_file_is_drawn_in_every_format() {
    let home = Home::new();
    let file = home.file("drawn.yaml", FILE);
    let file = file.to_str().unwrap();
    insta::assert_snapshot!(drawn(&home, "C.UTF-8", &[file]), @r"
    drawn

    ○  first   exec/run
    │
    ○  second  exec/run
    ╎
    ○  third   exec/run

    finally
    ○  last    exec/run

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(drawn(&home, "C", &[file, "--format", "ascii"]), @r"
    drawn

    o  first   exec/run
    |
    o  second  exec/run
    :
    o  third   exec/run

    finally
    o  last    exec/run

    | reads   : needs
    ");
    assert!(drawn(&home, "C", &[file, "--format", "mermaid"]).contains("\n  second -.-> third\n"));
    assert!(drawn(&home, "C", &[file, "--format", "dot"]).contains("\n  \"first\" -> \"second\";\n"));
    let image = drawn(&home, "C", &[file, "--format", "svg"]);
    assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"), "{image}");
    assert_eq!(image, drawn(&home, "C", &[file, "--format", "svg"]), "the same file gives the same image");
}

#[test]
fn a_run_shows_where_its_steps_stand() {
    let home = Home::new();
    let file = home.file("drawn.yaml", FILE);
    let (code, _) = home.finish(&file, &[]);
    assert_eq!(code, 1);
    // The journal has the definition: the file is not asked any more.
    std::fs::remove_file(&file).unwrap();
    let run = home.newest();
    let picture = drawn(&home, "C.UTF-8", &[&run]).replace(&run, "RUN");
    insta::assert_snapshot!(picture, @r"
    drawn, run RUN, failed

    ✓  first   exec/run  succeeded
    │
    ✗  second  exec/run  failed
    ╎
    ○  third   exec/run  pending

    finally
    ✓  last    exec/run  succeeded

    │ reads   ╎ needs
    ");
    let image = drawn(&home, "C", &[&run, "--format", "svg"]);
    assert!(
        image.contains("<title>step second: exec/run, failed</title>") && image.contains("✗ failed"),
        "{image}"
    );
}

#[test]
fn a_run_shows_how_far_its_loops_are() {
    let home = Home::new();
    let file = home.file(
        "looped.yaml",
        r#"harvest: 1
name: looped
steps:
  each:
    for-each: { item: n, in: "${{ [1, 2, 3] }}", key: "${{ n }}", on-failure: continue }
    steps:
      try: { uses: exec/run, with: { command: [sh, -c, "test $0 != 2", "${{ string(n) }}"] } }
      then: { uses: exec/run, needs: [try], with: { command: ["true"] } }
  last: { uses: exec/run, with: { command: [echo, "${{ string(steps.each.total) }}"] } }
"#,
    );
    let (code, _) = home.finish(&file, &[]);
    assert_eq!(code, 0);
    let run = home.newest();
    insta::assert_snapshot!(drawn(&home, "C.UTF-8", &[&run]).replace(&run, "RUN"), @r"
    looped, run RUN, succeeded

    ✓    each    for-each n  succeeded, 3/3 items
    │ ✗    try   exec/run    failed
    │ ╎
    │ ✓    then  exec/run    succeeded
    │
    ✓    last    exec/run    succeeded

    │ reads   ╎ needs
    ");
}

#[test]
fn what_cannot_be_drawn_has_its_exit_code() {
    let home = Home::new();
    let bad = home.file("bad.yaml", &FILE.replace("needs: [second]", "needs: [nobody]"));
    let refused = home.run(&["graph", bad.to_str().unwrap()]);
    assert_eq!((refused.status.code(), text(&refused.stdout).as_str()), (Some(2), ""));
    assert!(text(&refused.stderr).contains("there is no step `nobody`"), "{}", text(&refused.stderr));
    assert_eq!(home.run(&["graph", "no/such/file.yaml"]).status.code(), Some(5));
    assert_eq!(home.run(&["graph", "01arz3ndektsv4rrffq69g5fav"]).status.code(), Some(5));
    assert_eq!(home.run(&["graph", bad.to_str().unwrap(), "--format", "png"]).status.code(), Some(2));
    assert_eq!(home.run(&["graph", home.scratch().to_str().unwrap()]).status.code(), Some(2));
}
