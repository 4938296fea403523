//! The helper that Modal puts into every sandbox, `modal-sandbox-fs-tools`, as far as files are read, written, removed and
//! directories made. Here it is a script for the sandbox's own shell; what it does not know is refused in its own words.

use serde_json::Value;

/// Where sandboxes have it.
const PLACE: &str = "/__modal/.bin/modal-sandbox-fs-tools";

/// Says what is wrong as the helper does, and ends.
const FAIL: &str = r#"
fail() { printf '{"error_kind":"%s","message":"%s"}' "$1" "$2" >&2; exit 1; }
"#;

const READ: &str = r#"
[ -d "$1" ] && fail IsDirectory 'Is a directory'
[ -e "$1" ] || fail NotFound 'No such file'
cat "$1" || fail PermissionDenied 'Cannot read'
"#;

const WRITE: &str = r#"
[ -d "$1" ] && fail IsDirectory 'Is a directory'
mkdir -p "$(dirname "$1")" 2>/dev/null || fail NotDirectory 'A parent is not a directory'
cat > "$1" || fail PermissionDenied 'Cannot write'
"#;

const MAKE: &str = r#"
if [ "$2" = true ]; then
    mkdir -p "$1" 2>/dev/null || fail NotDirectory 'A parent is not a directory'
else
    [ -e "$1" ] && fail PathAlreadyExists 'Path already exists'
    [ -e "$(dirname "$1")" ] || fail NotFound 'No such parent'
    mkdir "$1" 2>/dev/null || fail NotDirectory 'The parent is not a directory'
fi
"#;

const REMOVE: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || fail NotFound 'No such file or directory'
if [ "$2" = true ]; then
    rm -rf "$1" || fail PermissionDenied 'Cannot remove'
elif [ -d "$1" ] && [ ! -L "$1" ]; then
    rmdir "$1" 2>/dev/null || fail DirectoryNotEmpty 'Directory is not empty'
else
    rm -f "$1" || fail PermissionDenied 'Cannot remove'
fi
"#;

const OTHER: &str = "fail NotSupported 'This server does not know the operation'";

/// The command itself, or what stands for the helper.
pub(crate) fn translated(command: Vec<String>) -> Vec<String> {
    let [program, operation] = &command[..] else { return command };
    if program != PLACE {
        return command;
    }
    let operation: Value = serde_json::from_str(operation).unwrap_or_default();
    let flag = |name: &str, field: &str| operation[name][field].as_bool().unwrap_or_default().to_string();
    let known = [
        ("ReadFile", READ, String::new()),
        ("WriteFile", WRITE, String::new()),
        ("MakeDirectory", MAKE, flag("MakeDirectory", "parents")),
        ("Remove", REMOVE, flag("Remove", "recursive")),
    ];
    let found = known.into_iter().find(|(name, ..)| operation[name]["path"].is_string());
    let (name, script, flag) = found.unwrap_or(("", OTHER, String::new()));
    let path = operation[name]["path"].as_str().unwrap_or_default();
    ["sh", "-c", &format!("{FAIL}{script}"), "fs-tools", path, &flag].map(str::to_owned).into()
}
