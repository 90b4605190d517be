//! One CSV record per message, without a header line.
//!
//! A given schema says the columns and their types, in the order of the
//! fields. Without one they are `column_1`, `column_2` and so on, as many as
//! most of the first messages have, and all are text: nothing in CSV says
//! more, and a guess would reject what it did not foresee. A record with
//! another number of fields is rejected. An empty field is null.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Decoder;
use arrow_schema::{DataType, Field, Fields, Schema};
use csv_core::ReadFieldResult;

use super::sieve::{Fault, sieve};
use super::{Group, Rejected, Value};
use crate::decode::Error;
use crate::schema::StreamSchema;

/// Decodes values; the schema gets its columns from the first `sample` ones.
pub(super) fn decode(
    values: &[Value<'_>],
    schema: &mut StreamSchema,
    sample: usize,
    rejected: &mut Vec<Rejected>,
) -> Result<Option<Group>, Error> {
    let mut fields = schema.fields().clone();
    if fields.is_empty() {
        let Some(count) = elect(&values[..values.len().min(sample.max(1))]) else {
            rejected.extend(values.iter().map(|value| value.rejected("not a CSV record")));
            return Ok(None);
        };
        let columns: Fields =
            (1..=count).map(|n| Field::new(format!("column_{n}"), DataType::Utf8, true)).collect();
        match schema.widened(&fields, &columns) {
            Ok(wide) => fields = wide,
            Err(error) => {
                rejected.extend(values.iter().map(|value| value.rejected(error.clone())));
                return Ok(None);
            }
        }
    }
    let fields_expected = fields.len();
    let schema_of = Arc::new(Schema::new(fields.clone()));
    let sieved = sieve(values, rejected, |values| {
        let builder = ReaderBuilder::new(Arc::clone(&schema_of)).with_header(false);
        // One more than needed, to see a second record in the last message.
        let decoder = builder.with_batch_size(values.len() + 1).build_decoder();
        attempt(decoder, values, fields_expected)
    })?;
    if sieved.is_some() {
        schema.adopt(fields);
    }
    Ok(sieved.map(Group::from))
}

fn attempt(
    mut decoder: Decoder,
    values: &[Value<'_>],
    fields: usize,
) -> Result<RecordBatch, Fault> {
    for (at, value) in values.iter().enumerate() {
        feed(&mut decoder, value.bytes, fields).map_err(|error| Fault::at(at, error))?;
    }
    let batch = decoder.flush().map_err(Fault::somewhere)?;
    let batch = batch.ok_or_else(|| Fault::somewhere("no CSV record"))?;
    if batch.num_rows() != values.len() {
        return Err(Fault::somewhere("not one row for each message"));
    }
    Ok(batch)
}

fn feed(decoder: &mut Decoder, value: &[u8], fields: usize) -> Result<(), String> {
    std::str::from_utf8(value).map_err(|e| e.to_string())?;
    let record = trimmed(value);
    if record.is_empty() {
        return Err("an empty value is not a CSV record".to_owned());
    }
    let more = || "more follows after the CSV record".to_owned();
    let mut push = |part: &[u8]| {
        let before = decoder.capacity();
        // The error of arrow-csv names a line of the whole batch.
        let consumed = decoder.decode(part).map_err(|_| match fields_of(record) {
            Some(count) if count != fields => format!("{count} fields, the stream has {fields}"),
            _ => more(),
        })?;
        if consumed == part.len() { Ok(before - decoder.capacity()) } else { Err(more()) }
    };
    // Were it the other way round, an open quotation mark after a whole record
    // would go unseen, and swallow the next message.
    if push(record)? > 0 {
        return Err(more());
    }
    match push(b"\n")? {
        1 => Ok(()),
        _ => Err("the CSV record does not end: a quotation mark is open".to_owned()),
    }
}

/// A value without the end of its line.
fn trimmed(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}

/// How many fields most of these have; the first of those that draw.
fn elect(values: &[Value<'_>]) -> Option<usize> {
    let mut votes: Vec<(usize, usize)> = Vec::new();
    for count in values.iter().filter_map(|value| fields_of(trimmed(value.bytes))) {
        match votes.iter_mut().find(|(voted, _)| *voted == count) {
            Some((_, votes)) => *votes += 1,
            None => votes.push((count, 1)),
        }
    }
    votes.iter().rev().max_by_key(|(_, votes)| *votes).map(|(count, _)| *count)
}

fn fields_of(mut record: &[u8]) -> Option<usize> {
    if record.is_empty() || std::str::from_utf8(record).is_err() {
        return None;
    }
    let mut reader = csv_core::Reader::new();
    let mut field = [0; 1_024];
    let mut count = 0;
    loop {
        let (result, read, _) = reader.read_field(record, &mut field);
        record = &record[read..];
        match result {
            ReadFieldResult::OutputFull | ReadFieldResult::InputEmpty => {}
            ReadFieldResult::Field { record_end } => {
                count += 1;
                if record_end {
                    return Some(count);
                }
            }
            ReadFieldResult::End => return (count > 0).then_some(count),
        }
    }
}
