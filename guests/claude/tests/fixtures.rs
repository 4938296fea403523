//! What two versions of the CLI really printed, against a scripted API: every line of it is understood or let pass.

use claude::outcome::{Done, Ending, Kind, Outcome, decide};
use claude::told::Told;
use claude::transcript::Transcript;
use std::path::{Path, PathBuf};

fn versions() -> [PathBuf; 2] {
    ["2.1.197", "2.1.330"]
        .map(|version| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version))
}

fn read(version: &Path, name: &str) -> (Transcript, Vec<Told>) {
    let text = std::fs::read_to_string(version.join(format!("{name}.jsonl"))).unwrap();
    let mut transcript = Transcript::default();
    let told = text.lines().flat_map(|line| transcript.read(line.as_bytes())).collect();
    (transcript, told)
}

fn decided(version: &Path, name: &str, code: i32) -> Result<Done, (Kind, String)> {
    match decide(&read(version, name).0, Ending::Code(code), "", &[]) {
        Outcome::Done(done) => Ok(done),
        Outcome::Failed(kind, message) => Err((kind, message)),
    }
}

#[test]
fn a_session_that_uses_a_tool() {
    for version in versions() {
        let done = decided(&version, "write", 0).unwrap();
        assert_eq!((done.result.as_str(), done.turns), ("Done: wrote hello.txt.", 2), "{version:?}");
        assert!(done.input_tokens > 2_000 && done.output_tokens == 100, "{done:?}");
        let (transcript, told) = read(&version, "write");
        assert!(transcript.started && transcript.answered && transcript.session_id.is_some());
        let said: String = told
            .iter()
            .filter_map(|told| if let Told::Text(text) = told { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(said, "I will write a file. Done: wrote hello.txt.", "{version:?}");
        let count = |wanted: fn(&Told) -> bool| told.iter().filter(|told| wanted(told)).count();
        assert_eq!(count(|told| matches!(told, Told::ToolUse { name, .. } if name == "Write")), 1);
        assert_eq!(count(|told| matches!(told, Told::ToolResult { is_error: false, .. })), 1);
        assert_eq!(count(|told| matches!(told, Told::Usage { output: 50, .. })), 2);
        assert_eq!(count(|told| matches!(told, Told::Init { .. })), 1);
    }
}

#[test]
fn what_looks_like_a_success_and_is_none() {
    for version in versions() {
        assert_eq!(decided(&version, "denied", 0).unwrap_err().0, Kind::ToolDenied, "{version:?}");
        for (name, kind) in [
            ("e400", Kind::ApiError),
            ("e529", Kind::RateLimited),
            ("refusal", Kind::Refused),
            ("maxtok", Kind::ApiError),
        ] {
            let (found, message) = decided(&version, name, 1).unwrap_err();
            assert_eq!(found, kind, "{version:?} {name}: {message}");
        }
        assert!(decided(&version, "text", 0).is_ok(), "{version:?}");
    }
}

#[test]
fn fields_and_types_of_the_future_change_nothing() {
    for version in versions() {
        let text = std::fs::read_to_string(version.join("write.jsonl")).unwrap();
        let mut transcript = Transcript::default();
        for line in text.lines() {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["of_the_future"] = serde_json::json!({ "type": "result", "is_error": true });
            transcript.read(event.to_string().as_bytes());
            event["type"] = "of_the_future".into();
            assert_eq!(transcript.read(event.to_string().as_bytes()), []);
        }
        let plain = decided(&version, "write", 0).unwrap();
        assert!(
            matches!(decide(&transcript, Ending::Code(0), "", &[]), Outcome::Done(done) if done == plain)
        );
    }
}
