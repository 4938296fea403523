//! `harvest check` and the commands around it, as people, editors and other programs use them.

mod harness;

use harness::{Home, text};

#[test]
fn explain_says_what_a_code_means_and_what_may_have_been_meant() {
    let home = Home::new();
    let one = home.run(&["explain", "e0312"]);
    assert_eq!(one.status.code(), Some(0));
    assert!(text(&one.stdout).starts_with("E0312: an unknown output, input or field\n"));
    assert!(text(&one.stdout).contains("\nBad:\n\n    harvest: 1\n"), "{}", text(&one.stdout));
    let all = text(&home.run(&["explain"]).stdout);
    assert!(all.contains("E0312  an unknown output, input or field\n"), "{all}");
    assert!(all.contains("W0101  an unused input\n"), "{all}");
    let near = home.run(&["explain", "E312"]);
    assert_eq!(near.status.code(), Some(2));
    let said = text(&near.stderr);
    assert!(said.contains("did you mean E0312, an unknown output, input or field?"), "{said}");
    assert!(!home.path().exists(), "explaining needs no home");
}
