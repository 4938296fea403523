//! Where the steps of a drawing stand: in rows from top to bottom, each step below what it waits for, and beside what it
//! has to do with. Long edges pass between the steps of the rows in between. Knows numbers only.

/// Steps of a row; further ones that could stand beside them go to the next row.
pub(super) const ROW_MAX: usize = 10;

/// Places in all rows together where a long edge passes. Edges beyond that are drawn straight, behind the steps.
const BENDS_MAX: usize = 3_000;

/// The same of one row, so that no row is wider than its steps and as much again.
const ROW_BENDS_MAX: usize = 30;

/// Times that rows are ordered and moved to suit their neighbours, down and up in turn.
const SWEEPS: usize = 12;

/// What is laid out.
pub(super) struct Plan<'p> {
    /// Steps so that each comes after what it waits for.
    pub(super) order: &'p [usize],
    /// Which steps stand below all the others.
    pub(super) below: &'p dyn Fn(usize) -> bool,
    /// (waited for, waiting).
    pub(super) edges: &'p [(usize, usize)],
    /// How wide each step is.
    pub(super) width: &'p dyn Fn(usize) -> f64,
    /// How wide an edge is that passes.
    pub(super) lane: f64,
    /// Space between two things in a row.
    pub(super) gap: f64,
}

/// Where everything stands.
pub(super) struct Layout {
    /// Row and middle of each step.
    pub(super) steps: Vec<(usize, f64)>,
    /// Rows and middles through which each edge passes, its ends not included.
    pub(super) bends: Vec<Vec<(usize, f64)>>,
    /// How many rows there are.
    pub(super) rows: usize,
    /// From the left edge of the leftmost thing to the right edge of the rightmost.
    pub(super) width: f64,
}

/// Something in a row.
struct Slot {
    row: usize,
    width: f64,
    x: f64,
    /// Slots of the row above, and of the row below, that it is tied to.
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays a graph out. The same graph always gets the same places.
pub(super) fn layout(plan: &Plan<'_>) -> Layout {
    let rows = rows(plan);
    let count = rows.iter().map(|row| row + 1).max().unwrap_or(0);
    let mut slots: Vec<Slot> =
        rows.iter().enumerate().map(|(step, row)| Slot::new(*row, (plan.width)(step))).collect();
    let mut in_row: Vec<Vec<usize>> = vec![Vec::new(); count];
    for step in plan.order {
        in_row[rows[*step]].push(*step);
    }
    let chains = chains(plan, &rows, &mut slots, &mut in_row);
    for chain in &chains {
        for pair in chain.windows(2) {
            // One that is drawn straight past several rows ties nothing.
            if slots[pair[0]].row + 1 == slots[pair[1]].row {
                slots[pair[0]].below.push(pair[1]);
                slots[pair[1]].above.push(pair[0]);
            }
        }
    }
    for row in &in_row {
        place(row, &mut slots, plan.gap, None);
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        // Orders settle first; after that only places change.
        let sort = sweep < SWEEPS * 2 / 3;
        for at in 0..count {
            let row = &mut in_row[if down { at } else { count - 1 - at }];
            let wanted: Vec<(usize, f64)> =
                row.iter().map(|slot| (*slot, slots[*slot].wanted(&slots, down))).collect();
            let mut wanted = wanted;
            if sort {
                wanted.sort_by(|(_, a), (_, b)| a.total_cmp(b));
                *row = wanted.iter().map(|(slot, _)| *slot).collect();
            }
            let places: Vec<f64> = wanted.into_iter().map(|(_, x)| x).collect();
            place(row, &mut slots, plan.gap, Some(&places));
        }
    }
    finish(plan, &slots, &chains, count)
}

impl Slot {
    fn new(row: usize, width: f64) -> Self {
        Self { row, width, x: 0.0, above: Vec::new(), below: Vec::new() }
    }

    /// The middle of what it is tied to in the row above or below; its own place where there is nothing.
    fn wanted(&self, slots: &[Self], above: bool) -> f64 {
        let tied = if above { &self.above } else { &self.below };
        if tied.is_empty() {
            return self.x;
        }
        tied.iter().map(|slot| slots[*slot].x).sum::<f64>() / tied.len() as f64
    }
}

/// The row of each step: one below the lowest that it waits for, or further down where that row is full.
fn rows(plan: &Plan<'_>) -> Vec<usize> {
    let mut waits: Vec<Vec<usize>> = vec![Vec::new(); plan.order.len()];
    for (from, to) in plan.edges {
        waits[*to].push(*from);
    }
    let mut ranks = vec![0_usize; plan.order.len()];
    let mut first = 0;
    for below in [false, true] {
        for step in plan.order.iter().filter(|step| (plan.below)(**step) == below) {
            ranks[*step] = waits[*step].iter().map(|from| ranks[*from] + 1).max().unwrap_or(0).max(first);
        }
        first = plan.order.iter().map(|step| ranks[*step] + 1).max().unwrap_or(0);
    }
    let mut members = vec![0_usize; first];
    plan.order.iter().for_each(|step| members[ranks[*step]] += 1);
    let starts: Vec<usize> = members
        .iter()
        .scan(0, |next, members| {
            let start = *next;
            *next += members.div_ceil(ROW_MAX);
            Some(start)
        })
        .collect();
    let mut filled = vec![0_usize; first];
    let mut rows = vec![0; plan.order.len()];
    for step in plan.order {
        let rank = ranks[*step];
        // As even as can be: two rows of six rather than one of ten and one of two.
        let lines = members[rank].div_ceil(ROW_MAX);
        rows[*step] = starts[rank] + filled[rank] * lines / members[rank];
        filled[rank] += 1;
    }
    rows
}

/// The slots through which each edge goes, its ends included.
fn chains(
    plan: &Plan<'_>,
    rows: &[usize],
    slots: &mut Vec<Slot>,
    in_row: &mut [Vec<usize>],
) -> Vec<Vec<usize>> {
    let mut chains: Vec<Vec<usize>> = plan.edges.iter().map(|(from, to)| vec![*from, *to]).collect();
    let mut bends = vec![0_usize; in_row.len()];
    let mut left = BENDS_MAX;
    // Short ones first: they need the least, and the straight line of a long one hides more of itself.
    let mut long: Vec<usize> = (0..plan.edges.len()).collect();
    long.sort_by_key(|edge| rows[plan.edges[*edge].1] - rows[plan.edges[*edge].0]);
    for edge in long {
        let (from, to) = plan.edges[edge];
        let between = rows[from] + 1..rows[to];
        if between.len() > left || bends[between.clone()].iter().any(|bends| *bends >= ROW_BENDS_MAX) {
            continue;
        }
        left -= between.len();
        let mut chain = vec![from];
        for row in between {
            bends[row] += 1;
            slots.push(Slot::new(row, plan.lane));
            in_row[row].push(slots.len() - 1);
            chain.push(slots.len() - 1);
        }
        chain.push(to);
        chains[edge] = chain;
    }
    chains
}

/// Puts a row where it wants to be as nearly as its order and the space between things allow.
fn place(row: &[usize], slots: &mut [Slot], gap: f64, wanted: Option<&[f64]>) {
    // Without what keeps two neighbours apart, places only have to ascend: groups that do not are set to their mean.
    let mut offset = 0.0;
    let mut groups: Vec<(f64, usize)> = Vec::new();
    let mut offsets = Vec::with_capacity(row.len());
    for (at, slot) in row.iter().enumerate() {
        if at > 0 {
            offset += (slots[row[at - 1]].width + slots[*slot].width) / 2.0 + gap;
        }
        offsets.push(offset);
        let mut group = (wanted.map_or(0.0, |wanted| wanted[at]) - offset, 1);
        while let Some((mean, size)) = groups.last().copied().filter(|(mean, _)| *mean > group.0) {
            groups.pop();
            let total = mean * size as f64 + group.0 * group.1 as f64;
            group = (total / (size + group.1) as f64, size + group.1);
        }
        groups.push(group);
    }
    let places = groups.iter().flat_map(|(mean, size)| std::iter::repeat_n(*mean, *size));
    for ((slot, place), offset) in row.iter().zip(places).zip(offsets) {
        slots[*slot].x = place + offset;
    }
}

fn finish(plan: &Plan<'_>, slots: &[Slot], chains: &[Vec<usize>], rows: usize) -> Layout {
    let left = slots.iter().map(|slot| slot.x - slot.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = slots.iter().map(|slot| slot.x + slot.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let left = if left.is_finite() { left } else { 0.0 };
    let place = |slot: &usize| (slots[*slot].row, slots[*slot].x - left);
    Layout {
        steps: (0..plan.order.len()).map(|step| place(&step)).collect(),
        bends: chains.iter().map(|chain| chain[1..chain.len() - 1].iter().map(place).collect()).collect(),
        rows,
        width: if right.is_finite() { right - left } else { 0.0 },
    }
}
