//! Where components stand in a picture: columns by depth, and an order within
//! each that lets few edges cross (Sugiyama's method: layers, barycentres).

use std::collections::HashMap;

use crate::plan::Plan;

/// Passes over the layers. More change little.
const PASSES: usize = 8;
/// Beyond so many places, order is left as it is: nobody reads such a picture.
const MAX_PLACES: usize = 20_000;

/// A place in the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) column: usize,
    /// From the top, in rows; may be between two.
    pub(super) row: f64,
}

/// The places of components, and the ways of edges between them.
pub(super) struct Layout {
    /// In the order of the plan's components.
    pub(super) places: Vec<Place>,
    /// For each edge of the plan, the places that it passes: its ends, and one
    /// in every column between them.
    pub(super) ways: Vec<Vec<Place>>,
    pub(super) columns: usize,
    pub(super) rows: f64,
}

/// Something that takes a row of a column: a component, or an edge passing by.
struct Item {
    column: usize,
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Layout {
    pub(super) fn of(plan: &Plan) -> Self {
        let index: HashMap<&str, usize> = plan
            .components
            .iter()
            .enumerate()
            .map(|(index, one)| (one.id.as_str(), index))
            .collect();
        let item = |column| Item { column, before: Vec::new(), after: Vec::new() };
        let mut items: Vec<Item> = plan.components.iter().map(|one| item(one.depth)).collect();
        let mut passed = Vec::new();
        for edge in &plan.edges {
            let (from, to) = (index[edge.from.as_str()], index[edge.to.as_str()]);
            let between = items[from].column + 1..items[to].column;
            let mut way = vec![from];
            // A way through many columns is drawn straight in a picture that is too large.
            if items.len() < MAX_PLACES {
                for column in between {
                    way.push(items.len());
                    items.push(item(column));
                }
            }
            way.push(to);
            for pair in way.windows(2) {
                items[pair[0]].after.push(pair[1]);
                items[pair[1]].before.push(pair[0]);
            }
            passed.push(way);
        }
        let rows = rows(&items);
        let place = |item: usize| Place { column: items[item].column, row: rows[item] };
        Layout {
            places: (0..plan.components.len()).map(place).collect(),
            ways: passed.iter().map(|way| way.iter().map(|item| place(*item)).collect()).collect(),
            columns: items.iter().map(|item| item.column + 1).max().unwrap_or(0),
            rows: rows.iter().fold(0.0, |most, row| row.max(most)) + 1.0,
        }
    }
}

/// The row of each item.
fn rows(items: &[Item]) -> Vec<f64> {
    let columns = items.iter().map(|item| item.column + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); columns];
    for (index, item) in items.iter().enumerate() {
        layers[item.column].push(index);
    }
    let mut rows = vec![0.0; items.len()];
    layers.iter().for_each(|layer| in_order(layer, &mut rows));
    let mut best = (crossings(items, &layers, &rows), layers.clone());
    for pass in 0..if items.len() < MAX_PLACES { PASSES } else { 0 } {
        if best.0 == 0 {
            break;
        }
        let forward = pass % 2 == 0;
        for step in 0..columns {
            let layer = &mut layers[if forward { step } else { columns - 1 - step }];
            let centre = |item: &usize| {
                let near = if forward { &items[*item].before } else { &items[*item].after };
                mean(near, &rows).unwrap_or(rows[*item])
            };
            let mut keyed: Vec<(f64, usize)> =
                layer.iter().map(|item| (centre(item), *item)).collect();
            keyed.sort_by(|one, two| one.0.total_cmp(&two.0));
            *layer = keyed.into_iter().map(|(_, item)| item).collect();
            in_order(layer, &mut rows);
        }
        let crossed = crossings(items, &layers, &rows);
        if crossed < best.0 {
            best = (crossed, layers.clone());
        }
    }
    settle(items, &best.1)
}

#[allow(clippy::cast_precision_loss, reason = "rows are few")]
fn in_order(layer: &[usize], rows: &mut [f64]) {
    layer.iter().enumerate().for_each(|(row, item)| rows[*item] = row as f64);
}

#[allow(clippy::cast_precision_loss, reason = "rows are few")]
fn mean(near: &[usize], rows: &[f64]) -> Option<f64> {
    let sum: f64 = near.iter().map(|item| rows[*item]).sum();
    (!near.is_empty()).then(|| sum / near.len() as f64)
}

/// How many pairs of edges cross. Counted for pictures that people look at.
fn crossings(items: &[Item], layers: &[Vec<usize>], rows: &[f64]) -> usize {
    let mut count = 0;
    for layer in layers {
        let edges: Vec<(f64, f64)> = layer
            .iter()
            .flat_map(|item| items[*item].after.iter().map(|to| (rows[*item], rows[*to])))
            .collect();
        if edges.len() > 1_000 {
            continue;
        }
        for (index, one) in edges.iter().enumerate() {
            let later = &edges[index + 1..];
            count += later.iter().filter(|two| (one.0 - two.0) * (one.1 - two.1) < 0.0).count();
        }
    }
    count
}

/// Moves items towards the middle of what they are connected to, in the order
/// found, at least one row apart.
fn settle(items: &[Item], layers: &[Vec<usize>]) -> Vec<f64> {
    let mut rows = vec![0.0; items.len()];
    layers.iter().for_each(|layer| in_order(layer, &mut rows));
    for _ in 0..PASSES {
        for layer in layers.iter().chain(layers.iter().rev()) {
            let wanted: Vec<f64> = layer
                .iter()
                .map(|item| {
                    let near = [items[*item].before.as_slice(), items[*item].after.as_slice()];
                    mean(&near.concat(), &rows).unwrap_or(rows[*item])
                })
                .collect();
            apart(layer, &wanted, &mut rows);
        }
    }
    let top = rows.iter().copied().fold(f64::INFINITY, f64::min);
    // On quarters of a row: boxes that are nearly level look like a mistake.
    rows.iter_mut().for_each(|row| *row = ((*row - top) * 4.0).round() / 4.0);
    rows
}

/// The rows next to those wanted that are at least one apart: neighbours that
/// would overlap form a block, which stands at the mean of what its members want.
#[allow(clippy::cast_precision_loss, reason = "rows are few")]
fn apart(layer: &[usize], wanted: &[f64], rows: &mut [f64]) {
    // (first member, members, sum of what the first one would have to be)
    let mut blocks: Vec<(usize, usize, f64)> = Vec::new();
    let start = |block: &(usize, usize, f64)| block.2 / block.1 as f64;
    for (index, wish) in wanted.iter().enumerate() {
        let mut block = (index, 1, *wish);
        while let Some(before) = blocks.last().filter(|b| start(b) + b.1 as f64 > start(&block)) {
            let shift = (before.1 * block.1) as f64;
            block = (before.0, before.1 + block.1, before.2 + block.2 - shift);
            blocks.pop();
        }
        blocks.push(block);
    }
    for block in &blocks {
        for member in 0..block.1 {
            rows[layer[block.0 + member]] = start(block) + member as f64;
        }
    }
}
