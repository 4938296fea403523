//! The merge of two knowledge graphs, as the component `memory` does it.

#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../guests/memory/src/graph.rs"]
mod graph;

use graph::{Entity, Graph, Relation, merge};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn graph(text: &str) -> Graph {
    let mut lines = String::new();
    for word in text.split_whitespace() {
        let line = match word.split_once('>') {
            Some((from, to)) => {
                serde_json::json!({"type": "relation", "from": from, "to": to, "relationType": "knows"})
            }
            None => {
                let (name, observations) = word.split_once(':').unwrap_or((word, ""));
                let observations: Vec<&str> =
                    observations.split(',').filter(|text| !text.is_empty()).collect();
                serde_json::json!({"type": "entity", "name": name, "entityType": "t", "observations": observations})
            }
        };
        lines.push_str(&format!("{line}\n"));
    }
    let parsed = Graph::parse(&lines);
    assert_eq!(parsed.malformed, 0);
    parsed.graph
}

fn check(base: &str, ours: &str, theirs: &str, expected: &str) {
    let merged = merge(&graph(base), &graph(ours), &graph(theirs));
    assert_eq!(merged, graph(expected), "{base} | {ours} | {theirs}");
}

#[test]
fn additions_of_both_stay() {
    check("a:1", "a:1,2 b:x", "a:1,3 c:y a>c", "a:1,3,2 c:y b:x a>c");
}

#[test]
fn deletions_of_either_are_honoured() {
    check("a:1,2 b:x a>b", "a:1", "a:1,2,3 b:x a>b", "a:1,3");
    check("a:1,2 b:x a>b", "a:1,2 b:x a>b", "a:2", "a:2");
}

#[test]
fn what_one_deleted_and_the_other_went_on_with_stays() {
    check("a:1 b:x", "b:x", "a:1,2 b:x", "a:1,2 b:x");
}

#[test]
fn a_changed_type_wins_over_an_unchanged_one() {
    let mut ours = graph("a:1");
    ours.entities[0].fields.insert("entityType".into(), "other".into());
    assert_eq!(merge(&graph("a:1"), &ours, &graph("a:1,2")).entities[0].fields["entityType"], "other");
    assert_eq!(merge(&graph("a:1"), &graph("a:1,2"), &ours).entities[0].fields["entityType"], "other");
}

#[test]
fn the_servers_lines_are_read_and_written_alike() {
    let text = concat!(
        r#"{"type":"entity","name":"A","entityType":"T","extra":[1],"observations":["o"]}"#,
        "\n",
        r#"{"type":"relation","from":"A","to":"B","relationType":"r"}"#,
        "\n"
    );
    let parsed = Graph::parse(text);
    assert_eq!((parsed.graph.text().as_str(), parsed.malformed), (text, 0));
}

#[test]
fn seeds_are_one_object() {
    let seed = r#"{"entities": [{"name": "A", "entityType": "T", "observations": ["o", "o"]}],
                   "relations": [{"from": "A", "to": "A", "relationType": "r"}]}"#;
    let parsed = Graph::parse(seed);
    assert_eq!(parsed.graph.entities[0].observations, ["o"]);
    assert_eq!((parsed.graph.relations.len(), parsed.malformed), (1, 0));
}

#[test]
fn half_lines_are_counted_and_duplicates_united() {
    let parsed = Graph::parse(
        "{\"type\":\"entity\",\"name\":\"a\",\"observations\":[\"1\"]}\n[]\n{\"type\":\"entity\",\"name\":\"a\",\"observations\":[\"2\"]}\n{\"type\":\"ent",
    );
    assert_eq!(parsed.malformed, 2);
    assert_eq!(parsed.graph.entities.len(), 1);
    assert_eq!(parsed.graph.entities[0].observations, ["1", "2"]);
}

fn any_graph() -> impl Strategy<Value = Graph> {
    let entity = ("[a-f]", prop::collection::btree_set("[1-5]", 0..4), "[tu]");
    let entities = prop::collection::btree_map("[a-f]", entity, 0..5);
    let relations = prop::collection::btree_set(("[a-f]", "[a-f]"), 0..5);
    (entities, relations).prop_map(|(entities, relations)| Graph {
        entities: entities
            .into_iter()
            .map(|(name, (_, observations, kind))| Entity {
                name,
                observations: observations.into_iter().collect(),
                fields: [("entityType".to_owned(), kind.into())].into_iter().collect(),
            })
            .collect(),
        relations: relations.into_iter().map(|(from, to)| Relation { from, to, kind: "r".into() }).collect(),
    })
}

/// What a graph says, without order.
fn facts(graph: &Graph) -> BTreeSet<String> {
    let entities = graph.entities.iter().flat_map(|entity| {
        let name = &entity.name;
        entity.observations.iter().map(move |text| format!("{name}: {text}")).chain([name.clone()])
    });
    entities.chain(graph.relations.iter().map(|relation| format!("{relation:?}"))).collect()
}

proptest! {
    #[test]
    fn two_sessions_at_once_keep_both_their_additions(base in any_graph(), ours in any_graph(), theirs in any_graph()) {
        let merged = merge(&base, &ours, &theirs);
        let (merged, before) = (facts(&merged), facts(&base));
        for fact in facts(&ours).union(&facts(&theirs)) {
            prop_assert!(before.contains(fact) || merged.contains(fact), "{} is lost", fact);
        }
    }

    #[test]
    fn nothing_is_invented(base in any_graph(), ours in any_graph(), theirs in any_graph()) {
        let all: BTreeSet<String> = facts(&ours).union(&facts(&theirs)).cloned().collect();
        prop_assert!(facts(&merge(&base, &ours, &theirs)).is_subset(&all));
    }

    #[test]
    fn a_session_alone_is_taken_as_it_is(base in any_graph(), ours in any_graph()) {
        prop_assert_eq!(facts(&merge(&base, &ours, &base)), facts(&ours));
        prop_assert_eq!(facts(&merge(&base, &base, &ours)), facts(&ours));
    }

    #[test]
    fn sides_are_equal_and_a_merge_again_changes_nothing(base in any_graph(), ours in any_graph(), theirs in any_graph()) {
        let merged = merge(&base, &ours, &theirs);
        prop_assert_eq!(facts(&merged), facts(&merge(&base, &theirs, &ours)));
        // After a lost compare-and-swap the same side is merged into the newer graph.
        prop_assert_eq!(facts(&merge(&theirs, &merged, &merged)), facts(&merged));
    }

    #[test]
    fn text_round_trips(graph in any_graph()) {
        prop_assert_eq!(Graph::parse(&graph.text()).graph, graph);
    }
}
