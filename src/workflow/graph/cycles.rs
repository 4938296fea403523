//! Steps that wait for each other in a circle. The only module that knows the graph library.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;
use std::collections::VecDeque;

/// One cycle of every group of steps that wait for each other, each starting at its lowest index. `edges` are
/// (waiting, awaited). Steps that wait for themselves are cycles of one.
pub(crate) fn cycles(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::with_capacity(count, edges.len());
    let nodes: Vec<_> = (0..count).map(|_| graph.add_node(())).collect();
    for (from, to) in edges {
        graph.update_edge(nodes[*from], nodes[*to], ());
    }
    let mut found: Vec<_> = kosaraju_scc(&graph)
        .into_iter()
        .filter_map(|group| {
            let start = *group.iter().min()?;
            if group.len() == 1 && !graph.contains_edge(start, start) {
                return None;
            }
            // The shortest way from the start back to it, so that the message is as short as it can be.
            let mut before = vec![None; count];
            let mut queue = VecDeque::from([start]);
            while let Some(at) = queue.pop_front() {
                for next in graph.neighbors(at) {
                    if next == start {
                        let mut path = vec![at.index()];
                        let mut step = at;
                        while step != start {
                            step = before[step.index()]?;
                            path.push(step.index());
                        }
                        path.reverse();
                        return Some(path);
                    }
                    if before[next.index()].is_none() && group.contains(&next) {
                        before[next.index()] = Some(at);
                        queue.push_back(next);
                    }
                }
            }
            None
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::cycles;

    #[test]
    fn the_shortest_cycle_of_each_group() {
        assert!(cycles(4, &[(1, 0), (2, 1), (3, 0), (3, 2)]).is_empty());
        assert_eq!(cycles(5, &[(0, 1), (1, 2), (2, 0), (1, 0), (3, 4), (4, 3)]), [vec![0, 1], vec![3, 4]]);
        assert_eq!(cycles(2, &[(1, 1)]), [vec![1]]);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let edges: Vec<_> = (1..50_000).map(|step| (step, step - 1)).collect();
        assert!(cycles(50_000, &edges).is_empty());
    }
}
