//! Who asks for a run: the operator's git identity.

use serde_json::{Map, Value, json};
use std::process::{Command, Stdio};

/// `{name, email}` from git's configuration, else a developer without a face.
pub(super) fn author() -> Value {
    let output = Command::new("git")
        .args(["config", "--get-regexp", r"^user\.(name|email)$"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    from_config(&text)
}

fn from_config(text: &str) -> Value {
    let found: Map<String, Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("user.")?.split_once(' '))
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(key, value)| (key.to_owned(), value.trim().into()))
        .collect();
    match (found.get("name"), found.get("email")) {
        (Some(name), Some(email)) => json!({ "name": name, "email": email }),
        _ => json!({ "name": "Developer", "email": "dev@example.com" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_whole_or_the_default() {
        let whole = from_config("user.name Ada Lovelace\nuser.email ada@example.com\n");
        assert_eq!(whole, json!({ "name": "Ada Lovelace", "email": "ada@example.com" }));
        assert_eq!(
            from_config("user.name Ada\n"),
            json!({ "name": "Developer", "email": "dev@example.com" })
        );
    }
}
