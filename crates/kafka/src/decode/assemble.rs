//! Puts rows, tombstones and the columns that every stream has together.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::Group;
use crate::decode::Error;
use crate::messages::Messages;
use crate::schema::{Rows, StreamSchema, conform_columns, message_columns};

/// Messages in one batch: so many that no column of ours outgrows its offsets
/// with the longest name that a topic can have.
pub(super) const MAX_ROWS: usize = 4 << 20;

/// Bytes of keys, values and headers in one batch: what 32-bit offsets count.
pub(super) const MAX_BYTES: usize = i32::MAX as usize;

/// Refuses messages that no batch can hold.
pub(super) fn check_size(messages: &Messages) -> Result<(), Error> {
    let bytes = messages.content_bytes();
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge { what: "bytes", actual: bytes, limit: MAX_BYTES });
    }
    if messages.len() > MAX_ROWS {
        return Err(Error::TooLarge { what: "messages", actual: messages.len(), limit: MAX_ROWS });
    }
    Ok(())
}

/// The batch of all groups and tombstones, in the order of the messages.
pub(super) fn assemble(
    topic: &str,
    partition: i32,
    messages: &Messages,
    groups: Vec<Group>,
    schema: &StreamSchema,
) -> Result<Option<RecordBatch>, Error> {
    let order = Order::of(messages, &groups);
    let count = order.rows.len();
    if count == 0 {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(schema.output().fields().len());
    for column in joined(groups, schema)? {
        columns.push(match &order.picks {
            Some(picks) => take(&column, picks, None).map_err(|e| Error::column("", e))?,
            None => column,
        });
    }
    let whole = order.rows.len() == messages.len() && order.one_each;
    let rows = if whole { Rows::All } else { Rows::At(&order.rows) };
    columns.extend(message_columns(topic, partition, messages, rows, usize::MAX));
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema.output()), columns, &options)
        .map(Some)
        .map_err(|e| Error::column("", e))
}

/// The columns of all groups, one group after another.
fn joined(groups: Vec<Group>, schema: &StreamSchema) -> Result<Vec<ArrayRef>, Error> {
    let fields = schema.fields();
    let mut parts = groups.iter().map(|group| conform_columns(&group.batch, fields));
    let Some(first) = parts.next().transpose()? else {
        return Ok(fields.iter().map(|field| new_null_array(field.data_type(), 0)).collect());
    };
    let rest = parts.collect::<Result<Vec<_>, _>>()?;
    if rest.is_empty() {
        return Ok(first);
    }
    let of_column = |at: usize| {
        let all: Vec<_> =
            std::iter::once(&first).chain(&rest).map(|part| part[at].as_ref()).collect();
        concat(&all).map_err(|e| Error::column(fields[at].name(), e))
    };
    (0..fields.len()).map(of_column).collect()
}

/// Which row comes where.
struct Order {
    /// The message of each row of the batch.
    rows: Vec<u32>,
    /// Each message has at most one row.
    one_each: bool,
    /// The row of the groups for each row of the batch, null for a tombstone;
    /// none if they are in order as they are.
    picks: Option<UInt32Array>,
}

impl Order {
    fn of(messages: &Messages, groups: &[Group]) -> Self {
        let mut rows: Vec<u32> = Vec::with_capacity(messages.len());
        groups.iter().for_each(|group| rows.extend(&group.rows));
        let decoded = rows.len();
        if messages.has_tombstones() {
            let all = (0..).zip(messages.iter());
            let tombstones = all.filter(|(_, message)| message.is_tombstone());
            rows.extend(tombstones.map(|(index, _)| index));
        }
        let in_order = rows.len() == decoded && rows.is_sorted();
        let mut picks = None;
        if !in_order {
            let mut pairs: Vec<(u32, Option<u32>)> = (0u32..)
                .zip(&rows)
                .map(|(at, row)| (*row, ((at as usize) < decoded).then_some(at)))
                .collect();
            // Rows of one message stay as they were.
            pairs.sort_by_key(|(row, _)| *row);
            rows.clear();
            rows.extend(pairs.iter().map(|(row, _)| *row));
            picks = Some(pairs.into_iter().map(|(_, pick)| pick).collect());
        }
        let one_each = rows.windows(2).all(|pair| pair[0] != pair[1]);
        Order { rows, one_each, picks }
    }
}
