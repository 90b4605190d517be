//! Values that name their schema: those of one schema are decoded together,
//! whatever lies between them, and brought to the columns of the stream.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Fields, Schema};

use super::framing::{self, HEADER_BYTES};
use super::registry::{Known, MAX_SCHEMAS, OWN, Registry};
use super::sieve::{Fault, sieve};
use super::{Group, Rejected, Value, protobuf};
use crate::decode::Error;
use crate::format::Format;
use crate::schema::{StreamSchema, conform_columns, nullable_fields};

/// The schema id of a value, and which of its messages it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    id: u32,
    /// Empty for Avro.
    path: Vec<usize>,
}

/// Decodes Avro or Protobuf; all schema ids are known.
pub(super) fn decode(
    values: &[Value<'_>],
    format: Format,
    registry: &mut Registry,
    schema: &mut StreamSchema,
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<Group>, Error> {
    let mut decoded = Vec::new();
    for (writer, values) in by_writer(values, format, registry, rejected) {
        let attempt = |values: &[Value<'_>]| {
            let batch = match registry.get_mut(writer.id) {
                Some(Known::Avro(avro)) => avro.attempt(values),
                Some(Known::Protobuf(protobuf)) => protobuf.attempt(&writer.path, values),
                _ => Err(Fault::somewhere("the schema is unknown")),
            }?;
            if schema.is_given() { given(&batch, schema.fields()) } else { Ok(batch) }
        };
        decoded
            .extend(sieve(&values, rejected, attempt)?.map(|group| (writer, Group::from(group))));
    }
    // As they would have come one by one.
    decoded.sort_by_key(|(_, group)| group.rows.first().copied());
    let mut fields = schema.fields().clone();
    let mut groups = Vec::with_capacity(decoded.len());
    for (writer, group) in decoded {
        let theirs = nullable_fields(group.batch.schema_ref().fields());
        match schema.widened(&fields, &theirs) {
            Ok(wide) => {
                fields = wide;
                groups.push(group);
            }
            Err(error) => {
                let error = match writer.id {
                    OWN => error,
                    id => format!("schema {id}: {error}"),
                };
                rejected.extend(
                    group
                        .rows
                        .iter()
                        .map(|index| Rejected { index: *index as usize, error: error.clone() }),
                );
            }
        }
    }
    schema.adopt(fields);
    Ok(groups)
}

/// The batch under given columns, into which each value must fit.
fn given(batch: &RecordBatch, fields: &Fields) -> Result<RecordBatch, Fault> {
    let columns = conform_columns(batch, fields).map_err(Fault::somewhere)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(Schema::new(fields.clone()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(Fault::somewhere)
}

/// The values without their headers, by the schema that these name. Those
/// whose schema is no use are rejected.
fn by_writer<'v>(
    values: &[Value<'v>],
    format: Format,
    registry: &Registry,
    rejected: &mut Vec<Rejected>,
) -> Vec<(Writer, Vec<Value<'v>>)> {
    let mut groups: Vec<(Writer, Vec<Value<'v>>)> = Vec::new();
    let mut last = 0;
    for value in values {
        match split(value, format, registry) {
            Err(error) => rejected.push(value.rejected(error)),
            Ok((writer, value)) => {
                let same = groups.get(last).is_some_and(|(known, _)| *known == writer);
                if !same {
                    let found = groups.iter().position(|(known, _)| *known == writer);
                    last = found.unwrap_or(groups.len());
                }
                match groups.get_mut(last) {
                    Some((_, values)) => values.push(value),
                    None => groups.push((writer, vec![value])),
                }
            }
        }
    }
    groups
}

fn split<'v>(
    value: &Value<'v>,
    format: Format,
    registry: &Registry,
) -> Result<(Writer, Value<'v>), String> {
    if let Some(path) = registry.own() {
        return Ok((Writer { id: OWN, path: path.to_vec() }, *value));
    }
    let id = framing::schema_id(value.bytes)
        .ok_or("no header of a schema registry: a zero byte and four of the schema id")?;
    let other = |of: Format| format!("schema {id} is {of}, the stream is {format}");
    let body = Value { index: value.index, bytes: &value.bytes[HEADER_BYTES..] };
    match registry.get(id) {
        Some(Known::Refused(reason)) => Err(format!("schema {id}: {reason}")),
        Some(Known::Avro(_)) if format == Format::Avro => {
            Ok((Writer { id, path: Vec::new() }, body))
        }
        Some(Known::Protobuf(known)) if format == Format::Protobuf => {
            let (path, bytes) = protobuf::message_path(body.bytes)?;
            known.check(&path).map_err(|error| format!("schema {id}: {error}"))?;
            Ok((Writer { id, path }, Value { index: value.index, bytes }))
        }
        Some(Known::Json) => Err(other(Format::Json)),
        Some(Known::Avro(_)) => Err(other(Format::Avro)),
        Some(Known::Protobuf(_)) => Err(other(Format::Protobuf)),
        None if registry.is_absent() => {
            Err(format!("schema {id}: no --schema-registry is given to ask for it"))
        }
        None => Err(format!("schema {id}: the stream names more than {MAX_SCHEMAS} schemas")),
    }
}
