//! Flights by aircraft: their number, their minutes of delay, and the worst delay.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int16Type, Int64Type};
use arrow_array::{Array as _, Int16Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::workers::{Error, Reducer};

/// Groups by their key; those flights are one group whose aircraft is not known.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Option<String>, Group>);

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    flights: i64,
    /// Of flights that arrived; none where none did.
    minutes: Option<i64>,
    worst: Option<i16>,
}

impl Group {
    fn add(&mut self, other: Group) {
        self.flights += other.flights;
        self.minutes = match (self.minutes, other.minutes) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.worst = self.worst.max(other.worst);
    }
}

/// Flights to groups, which a worker does before it sends them.
pub(crate) fn group(flights: RecordBatch) -> Result<RecordBatch, Error> {
    let delays = column(&flights, "arr_delay")?.as_primitive_opt::<Int16Type>();
    let delays = delays.ok_or("delays are no numbers of 16 bits")?;
    let one = |row: usize| {
        let delay = delays.is_valid(row).then(|| delays.value(row));
        Group { flights: 1, minutes: delay.map(i64::from), worst: delay }
    };
    let mut groups = Groups::default();
    groups.add(&flights, one)?;
    groups.rows()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn arrow_array::Array, Error> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))?;
    Ok(column.as_ref())
}

impl Groups {
    fn add(&mut self, rows: &RecordBatch, one: impl Fn(usize) -> Group) -> Result<(), Error> {
        let keys = column(rows, "tailnum")?.as_string_opt::<i32>();
        for (row, key) in keys.ok_or("aircraft are no texts")?.iter().enumerate() {
            self.0.entry(key.map(str::to_owned)).or_default().add(one(row));
        }
        Ok(())
    }

    fn rows(&self) -> Result<RecordBatch, Error> {
        let columns: [Arc<dyn arrow_array::Array>; 4] = [
            Arc::new(self.0.keys().map(Option::as_deref).collect::<StringArray>()),
            Arc::new(Int64Array::from_iter_values(self.0.values().map(|group| group.flights))),
            Arc::new(self.0.values().map(|group| group.minutes).collect::<Int64Array>()),
            Arc::new(self.0.values().map(|group| group.worst).collect::<Int16Array>()),
        ];
        Ok(RecordBatch::try_new(schema(), columns.into())?)
    }
}

fn schema() -> SchemaRef {
    let field = |name, of, nullable| Field::new(name, of, nullable);
    Arc::new(Schema::new(vec![
        field("tailnum", DataType::Utf8, true),
        field("flights", DataType::Int64, false),
        field("minutes", DataType::Int64, true),
        field("worst", DataType::Int16, true),
    ]))
}

impl Reducer for Groups {
    fn push(&mut self, _: usize, batch: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        let flights = column(batch, "flights")?.as_primitive::<Int64Type>();
        let minutes = column(batch, "minutes")?.as_primitive::<Int64Type>();
        let worst = column(batch, "worst")?.as_primitive::<Int16Type>();
        self.add(batch, |row| Group {
            flights: flights.value(row),
            minutes: minutes.is_valid(row).then(|| minutes.value(row)),
            worst: worst.is_valid(row).then(|| worst.value(row)),
        })?;
        Ok(None)
    }

    fn finish(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.rows().map(Some)
    }
}
