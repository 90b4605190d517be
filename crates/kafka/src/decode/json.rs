//! One JSON object per message.

mod direct;
mod number;
mod shape;
mod strict;
mod survey;
mod visit;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{Fields, Schema};

use self::direct::Direct;
use self::strict::Strict;
use super::sieve::{Fault, guarded, sieve};
use super::{Group, Rejected, Value};
use crate::decode::Error;
use crate::schema::StreamSchema;

/// Rows that a decoder has room for at least.
const MIN_ROWS: usize = 1_024;

/// Decodes JSON; keeps its decoder, and the memory of that, between batches.
#[derive(Debug, Default)]
pub(super) struct Json {
    ready: Option<Ready>,
    direct: Option<Direct>,
}

#[derive(Debug)]
struct Ready {
    decoder: Decoder,
    fields: Fields,
    rows: usize,
}

impl Json {
    /// Decodes values under the schema, which may widen for them.
    pub(super) fn decode(
        &mut self,
        values: &[Value<'_>],
        schema: &mut StreamSchema,
        sample: usize,
        rejected: &mut Vec<Rejected>,
    ) -> Result<Option<Group>, Error> {
        let fields = schema.fields().clone();
        if schema.is_given() {
            let sieved = sieve(values, rejected, |v| self.attempt(v, &fields, Strict::Given))?;
            return Ok(sieved.map(Group::from));
        }
        if !fields.is_empty() {
            let direct = self.direct(&fields).read(values);
            let all = direct
                .ok_or(())
                .or_else(|()| guarded(|| self.attempt(values, &fields, Strict::Inferred)));
            if let Ok(batch) = all {
                let rows = values.iter().map(|value| value.index).collect();
                return Ok(Some(Group { batch, rows }));
            }
        }
        let (good, fields) = survey::survey(values, schema, sample, rejected)
            .map_err(|e| Error::Inconsistent { count: values.len(), problem: e.to_string() })?;
        let sieved = sieve(&good, rejected, |v| self.attempt(v, &fields, Strict::Inferred))?;
        schema.adopt(fields);
        Ok(sieved.map(Group::from))
    }

    fn direct(&mut self, fields: &Fields) -> &mut Direct {
        match &mut self.direct {
            Some(direct) if direct.is_for(fields) => {}
            other => *other = Some(Direct::new(fields)),
        }
        self.direct.get_or_insert_with(|| Direct::new(fields))
    }

    fn attempt(
        &mut self,
        values: &[Value<'_>],
        fields: &Fields,
        strict: Strict,
    ) -> Result<RecordBatch, Fault> {
        // It comes back only if all goes well.
        let mut ready = match self.ready.take() {
            Some(ready) if ready.rows > values.len() && ready.fields == *fields => ready,
            _ => Ready::open(values.len(), fields, strict).map_err(Fault::somewhere)?,
        };
        for (at, value) in values.iter().enumerate() {
            feed(&mut ready.decoder, value.bytes, at).map_err(|error| Fault::at(at, error))?;
        }
        let batch = match ready.decoder.flush() {
            Ok(Some(batch)) => batch,
            Ok(None) => RecordBatch::new_empty(Arc::new(Schema::new(fields.clone()))),
            Err(error) => return Err(Fault::somewhere(error)),
        };
        if batch.num_rows() != values.len() {
            return Err(Fault::somewhere("not one row for each message"));
        }
        self.ready = Some(ready);
        Ok(batch)
    }
}

impl Ready {
    fn open(
        rows: usize,
        fields: &Fields,
        strict: Strict,
    ) -> Result<Self, arrow_schema::ArrowError> {
        // One more than needed, to see a second object in the last message.
        let rows = (rows + 1).next_power_of_two().max(MIN_ROWS);
        let decoder = ReaderBuilder::new(Arc::new(Schema::new(fields.clone())))
            .with_batch_size(rows)
            .with_strict_mode(matches!(strict, Strict::Inferred))
            .with_decoder_factory(Arc::new(strict))
            .build_decoder()?;
        Ok(Ready { decoder, fields: fields.clone(), rows })
    }
}

/// Gives a decoder that holds `rows` messages one more, which must be one
/// object and nothing else.
fn feed(decoder: &mut Decoder, value: &[u8], rows: usize) -> Result<(), String> {
    match value.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        Some(b'{') => {}
        Some(_) => return Err("not a JSON object".to_owned()),
        None => return Err("an empty value is not a JSON object".to_owned()),
    }
    let consumed = decoder.decode(value).map_err(|e| e.to_string())?;
    if decoder.len() > rows + 1 || (consumed != value.len() && !decoder.has_partial_record()) {
        return Err("more follows after the JSON object".to_owned());
    }
    if decoder.has_partial_record() {
        return Err("the JSON object ends early".to_owned());
    }
    Ok(())
}
