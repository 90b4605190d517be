//! One Arrow IPC stream per message.
//!
//! `sheaf-flight` decodes it: bytes that are no valid stream are refused, with
//! no reading outside of them and no more memory than they have.

use arrow_array::{Array as _, RecordBatch};
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder, inspect};

use super::assemble::{MAX_BYTES, MAX_ROWS};
use super::sieve::{Fault, guarded};
use super::{Group, Rejected, Value};
use crate::decode::Error;
use crate::messages::Messages;
use crate::schema::{StreamSchema, conform_columns, distinct, nullable_fields};

/// What the batches of one message may unfold to.
const MAX_MESSAGE_BYTES: u64 = 256 << 20;
/// Keys and headers of one message, repeated for each of its rows.
const MAX_REPEATED_BYTES: usize = 64 << 20;
/// Before each message of a stream, and with a zero length at its end.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Decodes values of any number of rows each.
pub(super) fn decode(
    values: &[Value<'_>],
    messages: &Messages,
    schema: &mut StreamSchema,
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for value in values {
        let repeated = messages.get(value.index as usize).map_or(0, |m| m.repeated_bytes());
        let batches = guarded(|| one(value, repeated, schema).map_err(Fault::somewhere));
        let batches = match batches {
            Ok(batches) => batches,
            Err(fault) => {
                rejected.push(value.rejected(fault.error));
                continue;
            }
        };
        let more: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let size = batches.iter().map(size_of).sum::<usize>() + repeated * more;
        if rows + more > MAX_ROWS || bytes + size > MAX_BYTES {
            rejected.push(value.rejected(format!(
                "with the messages before it in its batch it comes to {} rows and {} bytes, over \
                 the limits of {MAX_ROWS} and {MAX_BYTES}; a smaller --batch-size helps",
                rows + more,
                bytes + size
            )));
            continue;
        }
        (rows, bytes) = (rows + more, bytes + size);
        for batch in batches {
            let of_message = vec![value.index; batch.num_rows()];
            groups.push(Group { batch, rows: of_message });
        }
    }
    Ok(groups)
}

fn one(
    value: &Value<'_>,
    repeated: usize,
    schema: &mut StreamSchema,
) -> Result<Vec<RecordBatch>, String> {
    let batches = stream(value.bytes)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if repeated.saturating_mul(rows) > MAX_REPEATED_BYTES {
        return Err(format!(
            "its key and headers of {repeated} bytes would be repeated {rows} times, over the limit of {MAX_REPEATED_BYTES} bytes"
        ));
    }
    let Some(first) = batches.first() else { return Ok(batches) };
    let theirs = first.schema_ref().fields();
    distinct(theirs)?;
    let fields = schema.widened(schema.fields(), &nullable_fields(theirs))?;
    for batch in &batches {
        // Whether its values can have the types of the stream.
        conform_columns(batch, &fields).map_err(|e| e.to_string())?;
    }
    schema.adopt(fields);
    Ok(batches)
}

fn stream(mut bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let bounds = Bounds {
        max_decoded_bytes: MAX_MESSAGE_BYTES,
        max_rows: MAX_ROWS as u64,
        ..Bounds::default()
    };
    let mut decoder = Decoder::new(bounds);
    let mut batches = Vec::new();
    while let Some((message, rest)) = next(bytes)? {
        bytes = rest;
        if let Decoded::Batch(batch) = decoder.push(&message).map_err(|e| e.to_string())? {
            batches.push(batch);
        }
    }
    match decoder.schema() {
        Some(schema) if batches.is_empty() => Ok(vec![RecordBatch::new_empty(schema.clone())]),
        Some(_) => Ok(batches),
        None => Err("an empty value is not an Arrow IPC stream".to_owned()),
    }
}

/// The bytes of the values themselves: all columns share the memory of the
/// message, which `get_array_memory_size` counts once for each.
fn size_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(MAX_BYTES)).sum()
}

/// The next message of a stream and what follows it; none at its end.
fn next(bytes: &[u8]) -> Result<Option<(Message, &[u8])>, String> {
    const CUT: &str = "the Arrow IPC stream is cut off";
    if bytes.is_empty() {
        return Ok(None);
    }
    let rest = bytes.strip_prefix(&CONTINUATION).ok_or("not an Arrow IPC stream")?;
    let (length, rest) = rest.split_first_chunk().ok_or(CUT)?;
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|e| e.to_string())?;
    if length == 0 {
        let more = rest.len();
        return if more == 0 { Ok(None) } else { Err(format!("{more} bytes follow the stream")) };
    }
    let (header, rest) = rest.split_at_checked(length).ok_or(CUT)?;
    let outline = inspect(header).map_err(|e| e.to_string())?;
    let body = usize::try_from(outline.body_len).ok();
    let (body, rest) = body.and_then(|length| rest.split_at_checked(length)).ok_or(CUT)?;
    let message = Message::new(header.to_vec().into(), body.to_vec().into());
    Ok(Some((message, rest)))
}
