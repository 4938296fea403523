//! Values of expressions, and what they may cost.

use super::*;
use serde_json::json;

fn eval(text: &str) -> Result<Value, EvalError> {
    let object = |value: Value| value.as_object().cloned().unwrap();
    let inputs = object(json!({"repo": "acme/tools", "n": 3, "ratio": 0.5, "tags": ["a", "b"], "none": null,
        "author": {"name": "Ann", "email": "ann@example.com"}, "env": {"A": "1"}}));
    let steps = object(json!({
        "clone": {"state": "succeeded", "attempts": 1, "path": "/workspace/tools"},
        "commit": {"state": "succeeded", "attempts": 1, "changed": false},
        "review": {"state": "skipped"},
        "agent": {"state": "failed", "attempts": 2, "error": {"kind": "exited", "message": "1"}},
    }));
    let run = object(json!({"id": "01", "workflow": "w", "trigger": "manual", "status": "failed"}));
    let secrets = BTreeSet::from(["github".to_owned()]);
    evaluate(
        text,
        &Scope { inputs: &inputs, steps: &steps, run: &run, secrets: &secrets, item: None, hashes: None },
        &mut Budget::new(),
    )
}

#[test]
fn lists_larger_than_a_value_may_be_are_read_item_by_item() {
    let items: Vec<Value> = (0..20_000).map(|n| json!({ "key": format!("item {n:060}"), "n": n })).collect();
    let steps = json!({ "each": { "state": "succeeded", "items": items } });
    let (empty, secrets) = (Map::new(), BTreeSet::new());
    let scope = Scope {
        inputs: &empty,
        steps: steps.as_object().unwrap(),
        run: &empty,
        secrets: &secrets,
        item: None,
        hashes: None,
    };
    let value = |text: &str| evaluate(text, &scope, &mut Budget::new());
    assert_eq!(value("steps.each.items.size()"), Ok(json!(20_000)));
    assert_eq!(value("steps.each.items.filter(i, i.n > 19997).map(i, i.n)"), Ok(json!([19_998, 19_999])));
    assert_eq!(value("steps.each.items.exists(i, i.n == 7)"), Ok(json!(true)));
    assert!(value("steps.each.items").is_err(), "as a whole it is too large");
    assert!(value("steps.none.items.size()").is_err());
}

#[test]
fn values() {
    for (text, expected) in [
        ("1 + 2 * 3", json!(7)),
        ("-7 / 2", json!(-3)),
        ("7 % 4", json!(3)),
        ("inputs.ratio * 2.0", json!(1.0)),
        ("'a' + \"b\"", json!("ab")),
        ("[1] + [2]", json!([1, 2])),
        ("inputs.repo.split('/').last().orValue('')", json!("tools")),
        ("inputs.repo.replace('/', '-')", json!("acme-tools")),
        ("inputs.tags.join(', ')", json!("a, b")),
        ("'  Ab '.trim().lower() + 'x'.upper()", json!("abX")),
        ("'%s has %d, %.2f%%'.format([inputs.repo, inputs.n, 12.345])", json!("acme/tools has 3, 12.35%")),
        ("[].first().orValue('none')", json!("none")),
        ("json({'a': [1, true, null]})", json!(r#"{"a":[1,true,null]}"#)),
        ("size('aö') + [1, 2].size()", json!(4)),
        ("'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", json!(true)),
        ("'v1.2'.matches('^v[0-9]+')", json!(true)),
        ("int('42') + int(1.9) + int(inputs.n)", json!(46)),
        ("double(1) / 2.0", json!(0.5)),
        ("string(1) + string(true) + string(2.5)", json!("1true2.5")),
        ("bool('true')", json!(true)),
        ("inputs.tags.map(t, t + '!')", json!(["a!", "b!"])),
        ("[1, 2, 3].map(x, x > 1, x * 10)", json!([20, 30])),
        ("[1, 2, 3].filter(x, x != 2)", json!([1, 3])),
        ("[1, 2].exists(x, x == 2) && [1, 2].all(x, x > 0) && [1, 2].exists_one(x, x > 1)", json!(true)),
        ("inputs.env.map(k, k)", json!(["A"])),
        ("[{'a': true}, {'a': inputs.none}, {'a': false}].filter(x, x.a).size()", json!(1)),
        ("[{'a': inputs.none}].exists(x, x.a) || [{'a': inputs.none}].all(x, x.a)", json!(false)),
        ("[{'a': true}, {'a': inputs.none}].exists_one(x, x.a)", json!(true)),
        ("[{'a': true, 'b': 1}, {'a': inputs.none, 'b': 2}].map(x, x.a, x.b)", json!([1])),
        ("inputs.n in [1, 3] && 'A' in inputs.env", json!(true)),
        ("has(secrets.github) && !has(secrets.gemini)", json!(true)),
        ("['memory'] + (has(secrets.gemini) ? ['gemini'] : [])", json!(["memory"])),
        ("steps.clone.path", json!("/workspace/tools")),
        ("steps.commit.?sha", json!(null)),
        ("steps.commit.sha.orValue('none')", json!("none")),
        ("steps.review.?approved", json!(null)),
        ("steps.review.approved.orValue(false)", json!(false)),
        ("has(steps.review.approved) || has(steps.clone.path)", json!(true)),
        ("steps.review.state == 'skipped' && steps.agent.error.kind == 'exited'", json!(true)),
        ("steps.agent.attempts", json!(2)),
        ("inputs.tags[0] + inputs.env['A']", json!("a1")),
        ("inputs.tags[?7].orValue('z')", json!("z")),
        ("optional.of(1).hasValue() && !optional.none().hasValue()", json!(true)),
        ("[1, ?inputs.none]", json!([1])),
        ("{'a': 1, ?'b': inputs.none}", json!({"a": 1})),
        ("run.status != 'succeeded' ? 'wip' : 'done'", json!("wip")),
        ("false && steps.review.approved", json!(false)),
        ("{'b': 1, 'a': 2}.map(k, k)", json!(["b", "a"])),
    ] {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_step_without_outputs_is_named() {
    for (text, step) in [
        ("steps.review.approved", "review"),
        ("steps.agent.summary + 'x'", "agent"),
        ("[1].map(x, steps.review.approved)", "review"),
        ("steps.later.path", "later"),
    ] {
        assert_eq!(eval(text), Err(EvalError::Skipped(StepId::new(step))), "{text}");
    }
}

#[test]
fn failures_say_why() {
    for (text, reason) in [
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "does not fit into 64 bits"),
        ("1.0 / 0.0", "not a finite number"),
        ("int('x')", "`x` is no whole number"),
        ("[1][4]", "there is nothing at [4]"),
        ("'x'.matches('(')", "the regular expression is not valid"),
        ("inputs.none.value()", "the value is absent"),
        ("nope", "nothing is called `nope`"),
        ("'a'.nope()", "no function is called `nope`"),
        ("'%d'.format(['a'])", "%d takes an int"),
        ("'%s'.format([])", "more holes than values"),
        ("b'abc'", "not part of the workflow language"),
        ("{'a': 1, 'a': 2}", "the key `a` is there twice"),
        ("1 +", "the expression ends too early"),
    ] {
        match eval(text) {
            Err(EvalError::Failed(message)) => assert!(message.contains(reason), "{text}: {message}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn no_expression_costs_without_end() {
    let list = format!("[{}]", vec!["1"; 60].join(","));
    let nested = (0..6).fold("x0".to_owned(), |body, n| format!("{list}.map(x{n}, {body})"));
    let doubling =
        (0..40).fold("'aaaaaaaaaaaaaaaa'".to_owned(), |text, _| format!("{text}.replace('a', 'aaaa')"));
    let exponential = (0..20).fold("'a'".to_owned(), |text, n| format!("[{text}].map(y{n}, y{n} + y{n})[0]"));
    for text in [nested, doubling, exponential] {
        assert!(matches!(eval(&text), Err(EvalError::Failed(_))), "{text}");
    }
}
