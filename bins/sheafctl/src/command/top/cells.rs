//! Rows as texts, the same for tables and for the screen.

use sheaf_console::figures::{ComponentRow, EdgeRow};
use sheaf_retry::HumanBytes;
use sheaf_terminal::{Table, count};

type Heading = (&'static str, bool);

pub(super) const COMPONENT: [Heading; 10] = [
    ("component", false),
    ("kind", false),
    ("status", false),
    ("in/s", true),
    ("out/s", true),
    ("bytes/s", true),
    ("lag", true),
    ("memory", true),
    ("restarts", true),
    ("reason", false),
];

pub(super) const EDGE: [Heading; 12] = [
    ("edge", false),
    ("state", false),
    ("rows/s", true),
    ("bytes/s", true),
    ("lag", true),
    ("waiting", true),
    ("credits", true),
    ("dropped", true),
    ("memory", true),
    ("spilled", true),
    ("rows", true),
    ("pipeline", false),
];

fn number(number: Option<u64>) -> String {
    number.map_or("-".into(), count)
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or("-".into(), |bytes| HumanBytes(bytes).to_string())
}

pub(super) fn component(row: &ComponentRow) -> [String; 10] {
    [
        row.place.clone(),
        row.kind.to_owned(),
        row.status.to_owned(),
        number(row.rows_in_per_second),
        number(row.rows_out_per_second),
        bytes(row.bytes_per_second),
        number(row.lag),
        bytes(row.memory_bytes),
        count(row.restarts.into()),
        row.reason.clone(),
    ]
}

pub(super) fn edge(row: &EdgeRow) -> [String; 12] {
    [
        row.edge.clone(),
        row.state.to_owned(),
        number(row.rows_per_second),
        bytes(row.bytes_per_second),
        count(row.lag),
        count(row.waiting),
        count(row.credits),
        count(row.dropped),
        bytes(Some(row.memory_bytes)),
        bytes(Some(row.spilled_bytes)),
        count(row.rows),
        row.pipeline.clone(),
    ]
}

/// The rank of columns that a narrow terminal has no room for.
fn table(headings: &[Heading], optional: &[&str]) -> Table {
    headings.iter().fold(Table::default(), |table, (heading, is_number)| {
        let table = if *is_number { table.right(*heading) } else { table.left(*heading) };
        match optional.iter().position(|one| one == heading) {
            Some(rank) => table.optional(u8::try_from(rank + 1).unwrap_or(u8::MAX)),
            None => table,
        }
    })
}

pub(super) fn component_table(rows: &[ComponentRow]) -> Table {
    let mut table = table(&COMPONENT, &["reason", "restarts", "lag", "kind", "memory"]);
    rows.iter().for_each(|row| table.row(component(row)));
    table
}

pub(super) fn edge_table(rows: &[EdgeRow]) -> Table {
    let optional = ["pipeline", "waiting", "memory", "spilled", "credits", "rows", "dropped"];
    let mut table = table(&EDGE, &optional);
    rows.iter().for_each(|row| table.row(edge(row)));
    table
}
