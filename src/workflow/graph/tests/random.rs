//! Pictures of random and of large graphs: everything that is in a graph is in each of them, and fits.

use super::super::*;
use proptest::prelude::*;

fn node(id: String, finally: bool) -> Node {
    Node { id, uses: "exec/run".into(), what: What::Call, finally, group: None, standing: None }
}

/// Steps in two sections, each of which waits for some before it.
fn any_graph(most: usize) -> impl Strategy<Value = Graph> {
    let step = (
        prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4),
        prop::bool::weighted(0.2),
        prop::option::weighted(
            0.25,
            prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..5),
        ),
    );
    prop::collection::vec(step, 1..most).prop_map(|steps| {
        let mut graph = Graph { title: "any".into(), nodes: Vec::new(), edges: Vec::new() };
        let (main, last): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, finally, _)| !finally);
        let mut loops = Vec::new();
        for (to, (waits, finally, body)) in main.into_iter().chain(last).enumerate() {
            let id = ["end", "graph", "o"].get(to).map_or_else(|| format!("s{to}"), |id| (*id).to_owned());
            graph.nodes.push(node(id, finally));
            loops.extend(body.map(|body| (to, body)));
            let mut seen = BTreeSet::new();
            for (from, reads) in waits.iter().filter(|_| to > 0) {
                let (from, kind) = (from.index(to), if *reads { Kind::Reads } else { Kind::Needs });
                // `finally` waits for the rest as a whole; only reading makes an edge.
                let allowed = kind == Kind::Reads || graph.nodes[from].finally == finally;
                if allowed && seen.insert(from) {
                    graph.edges.push(Edge { from, to, kind });
                }
            }
        }
        for (each, body) in loops {
            graph.nodes[each].what = What::ForEach;
            let first = graph.nodes.len();
            for (at, (from, reads)) in body.into_iter().enumerate() {
                let id = format!("s{}", first + at);
                let finally = graph.nodes[each].finally;
                graph.nodes.push(Node { group: Some(each), ..node(id, finally) });
                if at > 0 {
                    let kind = if reads { Kind::Reads } else { Kind::Needs };
                    graph.edges.push(Edge { from: first + from.index(at), to: first + at, kind });
                }
            }
        }
        graph
    })
}

/// (waited for, waiting, kind) by name.
fn named(graph: &Graph) -> BTreeSet<(String, String, Kind)> {
    let name = |at: usize| graph.nodes[at].id.clone();
    graph.edges.iter().map(|edge| (name(edge.from), name(edge.to), edge.kind)).collect()
}

/// The steps and edges of Mermaid or DOT text, each as often as it is there.
fn read_back(
    text: &str,
    arrows: [&str; 2],
    bare: fn(&str) -> String,
) -> (Vec<String>, Vec<(String, String, Kind)>) {
    let (mut steps, mut edges) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        let arrow = arrows.into_iter().zip([Kind::Needs, Kind::Reads]).find_map(|(arrow, kind)| {
            let (from, to) = line.split_once(arrow)?;
            Some((bare(from), bare(to), kind))
        });
        match arrow {
            Some((from, to, kind)) => {
                let kind = if line.contains("style=dashed") { Kind::Needs } else { kind };
                edges.push((from, to, kind));
            }
            None if line.contains("exec/run") => steps.push(bare(line)),
            None => {}
        }
    }
    (steps, edges)
}

/// The edges that an ASCII picture shows: lines are followed from each step to where they come from; words are taken as
/// they are.
fn followed(picture: &str) -> BTreeSet<(String, String, Kind)> {
    let grid: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
    let at = |row: usize, column: usize| grid[row].get(column).copied().unwrap_or(' ');
    let up = |c: char| "│╎├┤┼┴╰╯".contains(c);
    let left = |c: char| "─╌┤┼┴┬╯╮".contains(c);
    let right = |c: char| "─╌├┼┴┬╰╭".contains(c);
    let crossed = |c: char| "│╎".contains(c);
    let mark = |c: char| "○↻".contains(c);
    let marker = |row: usize| grid[row].iter().position(|c| mark(*c));
    let name = |row: usize| {
        let text: String = grid[row].iter().collect();
        text.split(['○', '↻', '│', '╎', '╌', '╮', '╭', ' ']).find(|word| !word.is_empty()).unwrap().to_owned()
    };
    // Up a lane to the step it begins at.
    let source = |mut row: usize, column: usize| loop {
        row -= 1;
        match at(row, column) {
            c if mark(c) => return name(row),
            // A second lane begins beside its step.
            c @ ('╮' | '╭') => {
                let (from, to) = if c == '╮' { (0, column) } else { (column, grid[row].len()) };
                assert!((from..to).any(|column| mark(at(row, column))), "{picture}");
                return name(row);
            }
            c => assert!(up(c), "{c:?} in row {row} of\n{picture}"),
        }
    };
    let mut edges = BTreeSet::new();
    for row in (0..grid.len()).filter(|row| marker(*row).is_some()) {
        let column = marker(row).unwrap();
        let mut add = |from: String, kind: Kind| {
            assert!(edges.insert((from, name(row), kind)), "twice in\n{picture}");
        };
        let mut own = row;
        while own > 0
            && grid[own - 1].iter().any(|c| *c != ' ')
            && marker(own - 1).is_none()
            && up_or_down(at(own - 1, column))
        {
            own -= 1;
            let line: String = grid[own].iter().collect();
            let mut lanes = Vec::new();
            let steps: [(bool, Vec<usize>); 2] =
                [(true, (0..column).rev().collect()), (false, (column + 1..grid[own].len()).collect())];
            for (leftwards, path) in steps {
                let mut open = if leftwards { left(at(own, column)) } else { right(at(own, column)) };
                for place in path {
                    let c = at(own, place);
                    if !open || crossed(c) {
                        continue;
                    }
                    if up(c) {
                        lanes.push(place);
                    }
                    open = if leftwards { left(c) } else { right(c) };
                }
            }
            let dashed = lanes.is_empty() && at(own, column) == '╎' || line.contains('╌');
            let kind = if dashed { Kind::Needs } else { Kind::Reads };
            for lane in lanes {
                add(source(own, lane), kind);
            }
            // A second line of joins above is looked at next; otherwise the column itself goes up to a step.
            let above = marker(own - 1).is_none() && up_or_down(at(own - 1, column));
            if up(at(own, column)) && !above {
                add(source(own, column), kind);
            }
        }
        let text: String = grid[row].iter().collect();
        for (word, kind) in [("reads ", Kind::Reads), ("needs ", Kind::Needs)] {
            let Some((_, told)) =
                text.split_once(&format!("  {word}")).or_else(|| text.split_once(&format!(", {word}")))
            else {
                continue;
            };
            let told = told.split(", needs ").next().unwrap();
            told.split(", ")
                .flat_map(|names| names.split(" and "))
                .for_each(|from| add(from.to_owned(), kind));
        }
    }
    edges
}

fn up_or_down(c: char) -> bool {
    "│╎├┤┼┬╭╮".contains(c)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_and_edge_is_in_mermaid_and_dot_once(graph in any_graph(20)) {
        let names: Vec<String> = graph.nodes.iter().map(|node| node.id.clone()).collect();
        let plain = |text: &str| {
            let name = text.split('[').next().unwrap().trim().replace("_STEP", "");
            name.strip_prefix("subgraph ").unwrap_or(&name).to_owned()
        };
        let quoted = |text: &str| text.split('"').nth(1).unwrap().to_owned();
        for (steps, edges) in [
            read_back(&mermaid(&graph), [" -.-> ", " --> "], plain),
            read_back(&dot(&graph), [" -- ", " -> "], quoted),
        ] {
            // Those of a loop stand inside it, wherever the others are.
            let (mut steps, mut names) = (steps, names.clone());
            steps.sort();
            names.sort();
            prop_assert_eq!(steps, names);
            prop_assert_eq!(edges.len(), graph.edges.len());
            prop_assert_eq!(edges.into_iter().collect::<BTreeSet<_>>(), named(&graph));
        }
    }

    #[test]
    fn every_step_and_edge_is_in_an_image_once(graph in any_graph(20)) {
        let image = svg(&graph);
        prop_assert_eq!(image.matches("<title>step ").count(), graph.nodes.len());
        for (from, to, kind) in named(&graph) {
            prop_assert_eq!(image.matches(&format!("<title>{to} {} {from}</title>", kind.word())).count(), 1);
        }
        prop_assert_eq!(image.matches("marker-end").count(), graph.edges.len() + 2, "and two in the legend");
    }

    #[test]
    fn lines_on_a_terminal_lead_where_they_should(graph in any_graph(14)) {
        let picture = ascii(&graph, Glyphs::Boxes);
        prop_assert_eq!(followed(&picture), named(&graph), "{}", picture);
        let rows = picture.lines().filter(|line| line.contains("exec/run")).count();
        prop_assert_eq!(rows, graph.nodes.len());
    }

    #[test]
    fn steps_stand_below_what_they_wait_for_and_beside_each_other(mut graph in any_graph(60)) {
        graph.nodes.iter_mut().for_each(|node| node.group = None);
        let order = [graph.order(false, None), graph.order(true, None)].concat();
        let edges: Vec<_> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        let below = |step: usize| graph.nodes[step].finally;
        let plan = layout::Plan { order: &order, below: &below, edges: &edges, width: &|_| 100.0, lane: 10.0, gap: 20.0 };
        let found = layout::layout(&plan);
        for (from, to) in &edges {
            prop_assert!(found.steps[*from].0 < found.steps[*to].0);
        }
        let last = |finally: bool| found.steps.iter().zip(&graph.nodes).filter(move |(_, node)| node.finally == finally).map(|(step, _)| step.0);
        prop_assert!(last(false).max() < last(true).min() || last(true).count() == 0);
        for row in 0..found.rows {
            let steps = found.steps.iter().filter(|step| step.0 == row).map(|step| (step.1, 50.0));
            let bends = found.bends.iter().flatten().filter(|bend| bend.0 == row).map(|bend| (bend.1, 5.0));
            let mut all: Vec<(f64, f64)> = steps.chain(bends).collect();
            prop_assert!(all.len() <= 40);
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            for pair in all.windows(2) {
                prop_assert!(pair[1].0 - pair[1].1 >= pair[0].0 + pair[0].1 + 19.999, "{all:?}");
            }
            prop_assert!(all.iter().all(|(x, half)| x - half >= -0.001 && x + half <= found.width + 0.001));
        }
    }
}

#[test]
fn a_thousand_steps_are_drawn_at_once_and_fit() {
    let node = |at: usize| node(format!("s{at}"), at > 990);
    let edge = |from: usize, to: usize| Edge { from, to, kind: Kind::Reads };
    let shapes: [(&str, Vec<Edge>); 4] = [
        ("a chain", (1..1000).map(|to| edge(to - 1, to)).collect()),
        ("a fan", (1..999).flat_map(|to| [edge(0, to), edge(to, 999)]).collect()),
        (
            "all of the first",
            (1..1000)
                .flat_map(|to| BTreeSet::from([0, to - 1]).into_iter().map(move |from| edge(from, to)))
                .collect(),
        ),
        (
            "a thicket",
            (1..1000)
                .flat_map(|to| {
                    (1..=5)
                        .map(move |n| to * 7919 * n % to)
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .map(move |from| edge(from, to))
                })
                .collect(),
        ),
    ];
    for (what, edges) in shapes {
        let graph = Graph { title: what.into(), nodes: (0..1000).map(node).collect(), edges };
        let (picture, image) = (ascii(&graph, Glyphs::Boxes), svg(&graph));
        let texts = [mermaid(&graph), dot(&graph)];
        assert!(texts.iter().all(|text| text.lines().count() > graph.nodes.len() + graph.edges.len()));
        let lanes = picture.lines().filter_map(|line| line.chars().position(|c| c == 's')).max().unwrap();
        assert!(lanes <= 50, "{what}: {lanes} characters before the names");
        let width: f64 = image.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(width < 5_000.0 && image.len() < 4 << 20, "{what}: {width} pixels, {} bytes", image.len());
    }
}
