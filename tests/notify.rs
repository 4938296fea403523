//! The component `notify` as the host runs it, and what its grant lets it reach.

mod harness;

use harness::webhook::Webhook;
use harness::{Home, text};
use serde_json::{Value, json};

const TOKEN: &str = "xoxb-value-of-the-token";

fn workflow(grant: &str, to: &str, words: &str) -> String {
    format!(
        "harvest: 1\nname: tell\nsecrets:\n  bot: {{ from: env:HARVEST_TEST_TOKEN, optional: true }}\npermissions: [{{ http: ['{grant}'] }}]\nsteps:\n  tell:\n    uses: notify/send\n    with: {{ to: '{to}', text: '{words}' }}\n    secrets: {{ credential: bot }}\noutputs:\n  delivered: '${{{{ steps.tell.delivered }}}}'\n"
    )
}

fn send(home: &Home, workflow: &str, token: Option<&str>) -> Value {
    let file = home.file("tell.yaml", workflow);
    let mut command = home.harvest();
    command.env_remove("HARVEST_TEST_TOKEN").args(["run", "--json"]).arg(file);
    command.envs(token.map(|token| ("HARVEST_TEST_TOKEN", token)));
    let output = command.output().unwrap();
    let stdout = text(&output.stdout);
    let last = stdout.lines().last().unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    serde_json::from_str(last).unwrap()
}

#[test]
fn a_message_arrives_with_the_token_in_its_header_alone() {
    let home = Home::new();
    let service = Webhook::start();
    let url = format!("http://{}/hooks/x", service.address);
    let words = format!("built 2; the token is {TOKEN}");
    let last = send(&home, &workflow(&service.address, &url, &words), Some(TOKEN));
    assert_eq!(last["outputs"], json!({ "delivered": true }), "{last}");
    let received = service.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].line, "POST /hooks/x HTTP/1.1");
    assert!(received[0].headers.contains(&format!("authorization: Bearer {TOKEN}")), "{received:?}");
    assert_eq!(received[0].body, json!({ "text": "built 2; the token is ***" }));

    let last = send(&home, &workflow(&service.address, &url, "hi"), None);
    assert_eq!(last["state"], "succeeded");
    assert!(!service.received()[0].headers.iter().any(|header| header.starts_with("authorization")));
}

#[test]
fn what_goes_wrong_has_a_kind() {
    let home = Home::new();
    let service = Webhook::start();
    let at = |path: &str| format!("http://{}/{path}", service.address);
    for (grant, to, kind, words) in [
        (service.address.as_str(), at("403/x"), "denied", "status 403: ok"),
        (&service.address, at("404/x"), "not-found", "status 404"),
        (&service.address, at("429/x"), "rate-limited", "status 429"),
        (&service.address, at("503/x"), "unavailable", "status 503"),
        (&service.address, at("302/x"), "invalid", "redirects are not followed"),
        (&service.address, "nowhere".into(), "invalid", "slack:#channel"),
        (&service.address, "slack:#ops".into(), "invalid", "bind one with `secrets: { credential: NAME }`"),
        ("example.com", at("200/x"), "denied", "write `permissions: [{ http: ['127.0.0.1:"),
        ("127.0.0.1", at("200/x"), "denied", "may not be reached"),
    ] {
        let last = send(&home, &workflow(grant, &to, "hi"), None);
        let (said, error) = (last["error"]["message"].as_str().unwrap_or_default(), &last["error"]["kind"]);
        assert!(error == kind && said.contains(words), "{to}: {last}");
    }
    assert_eq!(service.received().len(), 5, "only what was granted has arrived");
    let slack = send(&home, &workflow("example.com", "slack:#ops", "hi"), Some(TOKEN));
    let said = slack["error"]["message"].as_str().unwrap();
    assert!(
        said.contains("slack.com:443 may not be reached") && said.contains("http: ['slack.com']"),
        "{said}"
    );
}

#[test]
fn http_needs_its_permission() {
    let home = Home::new();
    let file = home
        .file("tell.yaml", &workflow("a", "https://a", "hi").replace("permissions: [{ http: ['a'] }]\n", ""));
    let output = home.run(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("permissions: [{ http: [api.example.com] }]"), "{said}");
}
