//! What differs between the rows that were expected and those that came.

use serde::Serialize;
use serde_json::Value;
use sheaf_pipeline::spec::Row;

use super::rows::same;

/// One thing that is not as expected; rows are counted from 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Difference {
    /// A value, in a row that was expected otherwise.
    Value { row: usize, column: String, expected: Option<Value>, got: Option<Value> },
    /// A row that did not come.
    Missing { row: usize, expected: Row },
    /// A row that came and was not expected.
    Surplus { row: usize, got: Row },
}

/// All differences, in the order of the rows.
pub(super) fn compare(expected: &[Row], got: &[Row], any_order: bool) -> Vec<Difference> {
    let expected: Vec<(usize, &Row)> = (1..).zip(expected).collect();
    let got: Vec<(usize, &Row)> = (1..).zip(got).collect();
    let pairs = if any_order { alike(expected, got) } else { aligned(&expected, &got) };
    pairs.into_iter().flat_map(|(expected, got)| differences(expected, got)).collect()
}

type Numbered<'a> = (usize, &'a Row);
type Pair<'a> = (Option<Numbered<'a>>, Option<Numbered<'a>>);

/// Rows by their places, between those that are equal at the beginning and at the end.
fn aligned<'a>(mut expected: &[Numbered<'a>], mut got: &[Numbered<'a>]) -> Vec<Pair<'a>> {
    while let ([one, rest @ ..], [other, others @ ..]) = (expected, got)
        && distance(one.1, other.1) == 0
    {
        (expected, got) = (rest, others);
    }
    while let ([rest @ .., one], [others @ .., other]) = (expected, got)
        && distance(one.1, other.1) == 0
    {
        (expected, got) = (rest, others);
    }
    let most = expected.len().max(got.len());
    (0..most).map(|index| (expected.get(index).copied(), got.get(index).copied())).collect()
}

/// Equal rows, wherever they are, then each of the rest with the one most like it.
fn alike<'a>(mut expected: Vec<Numbered<'a>>, mut got: Vec<Numbered<'a>>) -> Vec<Pair<'a>> {
    expected.retain(|one| match got.iter().position(|other| distance(one.1, other.1) == 0) {
        Some(found) => {
            got.remove(found);
            false
        }
        None => true,
    });
    let mut pairs = Vec::new();
    for one in expected {
        let near = (0..got.len()).min_by_key(|index| distance(one.1, got[*index].1));
        // Rows that have nothing in common are two rows.
        let near = near.filter(|index| distance(one.1, got[*index].1) < one.1.len());
        pairs.push((Some(one), near.map(|index| got.remove(index))));
    }
    pairs.extend(got.into_iter().map(|other| (None, Some(other))));
    pairs
}

/// In how many columns two rows differ; a column that is not there is as one without a value.
fn distance(one: &Row, other: &Row) -> usize {
    columns(one, other).count()
}

fn columns<'a>(one: &'a Row, other: &'a Row) -> impl Iterator<Item = &'a String> {
    let more = other.keys().filter(move |name| !one.contains_key(*name));
    let value = |row: &'a Row, name: &str| row.get(name).unwrap_or(&Value::Null);
    one.keys().chain(more).filter(move |name| !same(value(one, name), value(other, name)))
}

fn differences(expected: Option<Numbered<'_>>, got: Option<Numbered<'_>>) -> Vec<Difference> {
    match (expected, got) {
        (Some((row, expected)), None) => {
            vec![Difference::Missing { row, expected: expected.clone() }]
        }
        (None, Some((row, got))) => vec![Difference::Surplus { row, got: got.clone() }],
        (Some((row, expected)), Some((_, got))) => columns(expected, got)
            .map(|column| Difference::Value {
                row,
                column: column.clone(),
                expected: expected.get(column).cloned(),
                got: got.get(column).cloned(),
            })
            .collect(),
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
