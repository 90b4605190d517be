//! The figures of the last quarter of an hour, bounded in number.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::figures::Rows;

/// How far back it goes.
pub(crate) const WINDOW_MS: u64 = 15 * 60 * 1_000;
/// Points of one component or edge: one a second.
const POINTS: usize = 900;
/// Components and edges; those beyond have no history. All of it is 12 MB.
const SERIES: usize = 512;

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// By pipeline and place: rows in, rows out, lag, memory.
    Component(String, String),
    /// By pipeline and name: rows, bytes, lag, waiting.
    Edge(String, String),
}

/// What was at one time. What is not known is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at_ms: u64,
    values: [f32; 4],
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    series: BTreeMap<Key, VecDeque<Point>>,
}

/// A point as it is told: its time, and what is known.
type Shown = (u64, [Option<f32>; 4]);

/// What is told of one pipeline: each point is its time and four values.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Told {
    window_ms: u64,
    components: BTreeMap<String, Vec<Shown>>,
    edges: BTreeMap<String, Vec<Shown>>,
}

impl History {
    /// Adds what was read.
    pub(crate) fn add(&mut self, at_ms: u64, rows: &Rows) {
        for row in &rows.components {
            let pipeline = row.place.split_once(':').map_or("", |(pipeline, _)| pipeline);
            let key = Key::Component(pipeline.to_owned(), row.place.clone());
            let values =
                [row.rows_in_per_second, row.rows_out_per_second, row.lag, row.memory_bytes];
            self.push(key, at_ms, values);
        }
        for row in &rows.edges {
            let key = Key::Edge(row.pipeline.clone(), row.edge.clone());
            let waits = [Some(row.lag), Some(row.waiting)];
            let values = [row.rows_per_second, row.bytes_per_second, waits[0], waits[1]];
            self.push(key, at_ms, values);
        }
        self.forget(at_ms);
    }

    fn push(&mut self, key: Key, at_ms: u64, values: [Option<u64>; 4]) {
        if values == [None; 4] {
            // Nobody is there who could tell.
            return;
        }
        if self.series.len() >= SERIES && !self.series.contains_key(&key) {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "they are drawn")]
        let values = values.map(|value| value.map_or(f32::NAN, |value| value as f32));
        let points = self.series.entry(key).or_default();
        if points.len() >= POINTS {
            points.pop_front();
        }
        points.push_back(Point { at_ms, values });
    }

    /// Leaves out what is too old, and who has nothing else.
    fn forget(&mut self, now_ms: u64) {
        let oldest = now_ms.saturating_sub(WINDOW_MS);
        self.series.retain(|_, points| {
            while points.front().is_some_and(|point| point.at_ms < oldest) {
                points.pop_front();
            }
            !points.is_empty()
        });
    }

    /// Everything of one pipeline.
    pub(crate) fn of(&self, wanted: &str) -> Told {
        let mut told = Told { window_ms: WINDOW_MS, ..Told::default() };
        for (key, points) in &self.series {
            let (pipeline, name, into) = match key {
                Key::Component(pipeline, place) => (pipeline, place, &mut told.components),
                Key::Edge(pipeline, edge) => (pipeline, edge, &mut told.edges),
            };
            if pipeline == wanted {
                let known = |value: f32| value.is_finite().then_some(value);
                let points = points.iter().map(|point| (point.at_ms, point.values.map(known)));
                into.insert(name.clone(), points.collect());
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{ComponentRow, EdgeRow};

    fn rows(names: impl IntoIterator<Item = u32>) -> Rows {
        let row = |n: u32| ComponentRow {
            place: format!("p:{n}"),
            rows_in_per_second: Some(u64::from(n)),
            ..ComponentRow::default()
        };
        Rows { components: names.into_iter().map(row).collect(), edges: Vec::new() }
    }

    #[test]
    fn it_keeps_a_window_and_not_more_points_than_it_may() {
        let mut history = History::default();
        for at in 0..5_000 {
            history.add(at * 500, &rows([1]));
        }
        let told = history.of("p");
        let points = &told.components["p:1"];
        assert_eq!(points.len(), POINTS);
        assert_eq!(points[POINTS - 1], (4_999 * 500, [Some(1.0), None, None, None]));
        history.add(4_999 * 500 + WINDOW_MS + 1, &rows([2]));
        let told = history.of("p");
        assert_eq!(told.components.keys().collect::<Vec<_>>(), ["p:2"]);
    }

    #[test]
    fn who_tells_nothing_takes_no_room() {
        let mut history = History::default();
        let silent = ComponentRow { place: "p:1".to_owned(), ..ComponentRow::default() };
        history.add(1, &Rows { components: vec![silent], edges: Vec::new() });
        assert!(history.series.is_empty());
    }

    #[test]
    fn there_are_not_more_series_than_it_may_have() {
        let mut history = History::default();
        history.add(1, &rows(0..2_000));
        history.add(2, &rows(1_000..2_000));
        assert_eq!(history.series.len(), SERIES);
        assert_eq!(history.series.values().map(VecDeque::len).sum::<usize>(), SERIES);
    }

    #[test]
    fn one_pipeline_is_told_of_and_no_other() {
        let mut history = History::default();
        let edge = |pipeline: &str| EdgeRow {
            pipeline: pipeline.to_owned(),
            edge: "a:b".to_owned(),
            lag: 3,
            ..EdgeRow::default()
        };
        let edges = vec![edge("p"), edge("q")];
        history.add(1, &Rows { edges, ..rows([1]) });
        let told = history.of("q");
        assert_eq!((told.components.len(), told.edges.len()), (0, 1));
        assert_eq!(told.edges["a:b"], [(1, [None, None, Some(3.0), Some(0.0)])]);
    }
}
