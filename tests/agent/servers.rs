//! MCP servers: those of the image with a real browser, services elsewhere behind gateways, programs that ask
//! such services, and those that do not come up.

use crate::harness::mcp::Service;
use crate::world::{Ended, assert_nothing_left, ended, home, named, prompt_only, run, word};
use scripted_api::{Reply, Script, Server};
use serde_json::json;
use std::path::PathBuf;

/// The browser that the machine has, for which `cargo xtask test` asks.
const CHROMIUM: &str = "/usr/lib/chromium/chromium";

#[test]
fn the_servers_of_the_image_are_offered_where_nobody_names_any() {
    let (ended, api) = ended(named("text"), &prompt_only("offered", " }"));
    assert_eq!(ended.code, 0, "{}", ended.said);
    let first = &api.turns()[0];
    for tool in ["create_entities", "read_multiple_files", "browser_navigate", "take_screenshot"] {
        assert!(first.mentions(tool) || first.tools().iter().any(|name| name.contains(tool)), "{tool}");
    }
}

#[test]
fn a_server_that_does_not_come_up_fails_the_step_at_its_start() {
    let key = format!("AIza{}", word());
    let file = prompt_only(
        "broken-server",
        ", mcp: [gemini] }\n    needs: break\n    secrets: { gemini_api_key: gemini }",
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let broken = "secrets:\n  gemini: { from: env:GEMINI_API_KEY }\nsandboxes:";
    let install = "steps:\n  break:\n    uses: exec/run\n    with: { command: [sh, -c, \"printf '#!/bin/sh\\nexit 7\\n' >/opt/agent/bin/gemini-mcp && chmod +x /opt/agent/bin/gemini-mcp\"] }\n";
    std::fs::write(&file, text.replace("sandboxes:", broken).replace("steps:\n", install)).unwrap();
    let api = Server::start(named("text")).unwrap();
    let mut command = run(&api, "key", &file, &[]);
    command.env("GEMINI_API_KEY", &key);
    let ended = Ended::of(command);
    assert_nothing_left(&ended.run);
    assert_eq!((ended.code, ended.kind()), (1, "startup-error"), "{}", ended.said);
    assert!(ended.message().contains("MCP server `gemini` did not connect (failed)"), "{}", ended.message());
    assert_eq!(api.turns().len(), 0);
    assert!(!ended.said.contains(&key));
}

#[test]
fn services_are_reached_with_keys_that_the_sandbox_never_holds() {
    let (github, linear) = (format!("ghp_{}", word()), format!("lin_api_{}", word()));
    let (at_github, at_linear) = (Service::start("github_tool"), Service::start("linear_tool"));
    let keys = [("github_token", "GITHUB_TOKEN"), ("linear_api_key", "LINEAR_API_KEY")];
    let file = with_keys("services", "github, linear", keys);
    let api = hunted([
        Reply::tool("mcp__github__github_tool", json!({})),
        Reply::tool("mcp__linear__linear_tool", json!({})),
    ]);
    let mut command = run(&api, "key-of-the-operator", &file, &[]);
    command.env("GITHUB_TOKEN", &github).env("LINEAR_API_KEY", &linear);
    command.env("HARVEST_GITHUB_MCP_URL", at_github.url()).env("HARVEST_LINEAR_MCP_URL", at_linear.url());
    let ended = Ended::of(command);
    assert_nothing_left(&ended.run);
    assert_eq!(ended.code, 0, "{}", ended.said);
    let last = api.turns().pop().unwrap();
    assert!(last.mentions("github_tool was called") && last.mentions("linear_tool was called"));
    assert!(last.mentions("CLAUDE_CONFIG_DIR"), "the hunt saw nothing");
    assert!(!last.mentions(&github) && !last.mentions(&linear) && !last.mentions("key-of-the-operator"));
    assert!(at_github.credentials().iter().all(|sent| *sent == format!("Bearer {github}")));
    assert!(at_linear.credentials().iter().all(|sent| *sent == format!("Bearer {linear}")));
}

/// One prompt with these servers, each slot bound to the variable of that key.
fn with_keys(name: &str, servers: &str, keys: [(&str, &str); 2]) -> PathBuf {
    let each = |write: fn(&str, &str) -> String| keys.map(|(slot, variable)| write(slot, variable));
    let slots = each(|slot, _| format!("{slot}: {slot}")).join(", ");
    let file = prompt_only(name, &format!(", mcp: [{servers}] }}\n    secrets: {{ {slots} }}"));
    let sources = each(|slot, variable| format!("  {slot}: {{ from: env:{variable} }}\n")).concat();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("sandboxes:", &format!("secrets:\n{sources}sandboxes:"))).unwrap();
    file
}

/// Calls these tools, then looks everywhere for keys. What the CLI sent last has all answers.
fn hunted(calls: [Reply; 2]) -> Server {
    let hunt =
        "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat /root/.claude/*.json";
    let hunt = Reply::tool("Bash", json!({ "command": hunt, "description": "scripted" }));
    let [first, second] = calls;
    Server::start(Script::turns([first, second, hunt, Reply::text("Done.")])).unwrap()
}

/// What Gemini answers, as far as its MCP server asks.
fn gemini(path: &str) -> serde_json::Value {
    if path.ends_with(":generateContent") {
        let content = json!({ "role": "model", "parts": [{ "text": "gemini was asked" }] });
        return json!({ "candidates": [{ "content": content, "finishReason": "STOP" }] });
    }
    let model =
        json!({ "name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"] });
    json!({ "models": [model] })
}

/// What Sentry answers, as far as its MCP server asks: its organisation lies in a region.
fn sentry(path: &str) -> serde_json::Value {
    if path.contains("/projects/") {
        return json!([{ "id": "1", "slug": "sentry-was-asked", "name": "Sentry" }]);
    }
    let links = json!({ "regionUrl": "https://us.sentry.io", "organizationUrl": "https://acme.sentry.io" });
    json!([{ "id": "1", "slug": "acme", "name": "Acme", "links": links }])
}

#[test]
fn programs_that_insist_on_a_key_and_an_address_hold_neither() {
    let (gemini_key, sentry_key) = (format!("AIza{}", word()), format!("sntryu_{}", word()));
    let (at_gemini, at_sentry) = (Service::api(gemini), Service::api(sentry));
    let keys = [("gemini_api_key", "GEMINI_API_KEY"), ("sentry_access_token", "SENTRY_ACCESS_TOKEN")];
    let file = with_keys("insisting", "gemini, sentry", keys);
    let api = hunted([
        Reply::tool("mcp__gemini__gemini_chat", json!({ "message": "2 + 2", "model": "gemini-2.5-flash" })),
        Reply::tool(
            "mcp__sentry__find_projects",
            json!({ "organizationSlug": "acme", "regionUrl": "https://us.sentry.io" }),
        ),
    ]);
    let mut command = run(&api, "key-of-the-operator", &file, &[]);
    command.env("GEMINI_API_KEY", &gemini_key).env("SENTRY_ACCESS_TOKEN", &sentry_key);
    command.env("HARVEST_GEMINI_URL", at_gemini.url()).env("HARVEST_SENTRY_URL", at_sentry.url());
    let ended = Ended::of(command);
    assert_nothing_left(&ended.run);
    assert_eq!(ended.code, 0, "{}", ended.said);
    let last = api.turns().pop().unwrap();
    assert!(last.mentions("gemini was asked") && last.mentions("sentry-was-asked"), "{}", ended.said);
    assert!(last.mentions("GEMINI_API_KEY=held-by-the-gateway"), "the hunt saw nothing");
    assert!(!last.mentions(&gemini_key) && !last.mentions(&sentry_key) && !ended.said.contains(&gemini_key));
    let (gemini, sentry) = (at_gemini.credentials(), at_sentry.credentials());
    assert!(!gemini.is_empty() && gemini.iter().all(|sent| *sent == gemini_key), "{gemini:?}");
    assert!(!sentry.is_empty() && sentry.iter().all(|sent| *sent == format!("Bearer {sentry_key}")));
}

/// A browser opens a page of the sandbox, and the picture of it comes back to the model. `shoot` makes the call for the
/// picture from what the first call answered.
fn takes_a_picture(server: &'static str, open: &'static str, shoot: fn(&str) -> Reply) {
    assert!(std::path::Path::new(CHROMIUM).is_file(), "install chromium: `cargo xtask test` does");
    let page = "mkdir -p /tmp/page && echo '<h1>Hello</h1>' >/tmp/page/index.html && cd /tmp/page && \
                (setsid python3 -m http.server 8000 >/dev/null 2>&1 &) && \
                for i in 1 2 3 4 5 6 7 8 9; do curl -sf http://127.0.0.1:8000/ && break; sleep 1; done";
    let script = Script::new(move |turn| match turn.number {
        0 => Reply::tool("Bash", json!({ "command": page, "description": "scripted" })),
        1 => Reply::tool(format!("mcp__{server}__{open}"), json!({ "url": "http://127.0.0.1:8000/" })),
        2 => shoot(&turn.tool_results()),
        _ => Reply::text(format!("Done: {}", turn.tool_results())),
    });
    let (ended, api) = ended(script, &prompt_only(server, &format!(", mcp: [{server}] }}")));
    assert_eq!(ended.code, 0, "{}", ended.said);
    let result = ended.show()["steps"]["agent"]["outputs"]["result"].clone();
    let messages = api.turns().pop().unwrap().body["messages"].to_string();
    assert!(messages.contains("image/png") || messages.contains("image/jpeg"), "no picture: {result}");
    let kept = home().path().join("artifacts").join(&ended.run);
    let pictures: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    let picture =
        pictures.iter().find(|path| path.extension().is_some_and(|end| end == "png" || end == "jpeg"));
    let bytes = std::fs::read(picture.unwrap_or_else(|| panic!("{pictures:?}"))).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") || bytes.starts_with(&[0xff, 0xd8]), "no picture");
}

#[test]
fn playwright_returns_a_screenshot_as_an_artifact() {
    takes_a_picture("playwright", "browser_navigate", |_| {
        Reply::tool("mcp__playwright__browser_take_screenshot", json!({}))
    });
}

#[test]
fn devtools_returns_a_screenshot_as_an_artifact() {
    takes_a_picture("devtools", "new_page", |pages| {
        // A list of pages, each with its number before its address.
        let number = pages
            .lines()
            .find_map(|line| line.split_once(": http://127.0.0.1:8000")?.0.trim().parse::<u32>().ok());
        Reply::tool("mcp__devtools__take_screenshot", json!({ "pageId": number }))
    });
}
