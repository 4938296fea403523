//! A credential that is written into a file is reported, and repeated nowhere.

use super::{checked, rendered};

const TOKEN: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB";

/// Files with a credential in a place where something else is wrong too, or beside such a place.
const FILES: [&str; 6] = [
    "steps:\n  a: { uses: git/clone, with: { repo: a/b, depth: TOKEN } }\n",
    "steps:\n  a: { uses: git/clone, with: { repo: a/b, dpth: 1, ref: TOKEN } }\n",
    "steps:\n  a: { uses: git/clone, with: { repo: a/b, TOKEN: 1 } }\n",
    "secrets: { gh: { from: TOKEN } }\nsteps:\n  a: { uses: git/clone, with: { repo: a/b }, secrets: { token: gh } }\n",
    "steps:\n  a: { uses: exec/run, with: { command: [sh, -c, \"x ${{ inputs.TOKEN }} y\"] } }\n",
    "steps:\n  a:\n    uses: exec/run\n    with:\n      command: |\n        TOKEN\n",
];

#[test]
fn no_form_of_a_diagnostic_repeats_a_credential() {
    for file in FILES {
        let text = format!("harvest: 1\nname: w\n{file}").replace("TOKEN", TOKEN);
        let diagnostics = checked(&text).diagnostics;
        assert!(!diagnostics.is_empty(), "{text}");
        let json = serde_json::to_string(&diagnostics).unwrap();
        for shown in [rendered(&text), json] {
            assert!(!shown.contains(TOKEN), "{shown}");
        }
    }
}

#[test]
fn a_credential_hides_only_itself() {
    let text = format!("harvest: 1\nname: w\n{}", FILES[1].replace("TOKEN", TOKEN));
    insta::assert_snapshot!(rendered(&text), @r"
    error[E0404]: git/clone has no parameter `dpth`
     --> w.yaml:4:44
      |
    4 |   a: { uses: git/clone, with: { repo: a/b, dpth: 1, ref: ****************************************** } }
      |                                            ^^^^
      |
      = help: did you mean `depth`?

    error[E0801]: a GitHub token is written into the file
     --> w.yaml:4:58
      |
    4 |   a: { uses: git/clone, with: { repo: a/b, dpth: 1, ref: ****************************************** } }
      |                                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: revoke it, declare `secrets: { name: { from: env:NAME } }`, and bind it to a slot of the step
    ");
}
