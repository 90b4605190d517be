//! Chunks to messages.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Encoder, Recoder};

use super::codec::{Auto, ChunkCompression};
use crate::error::Error;

/// What encodes the streams of all partitions.
pub(super) struct Encoders {
    schema: SchemaRef,
    compression: ChunkCompression,
    /// One for each partition where there are dictionaries, which its stream
    /// has to bring; otherwise the first does for all.
    each: Vec<Option<Encoder>>,
    /// By partition, where it is found out whether compression pays.
    auto: Vec<Auto>,
    recoder: Recoder,
}

impl Encoders {
    /// The encoders, and the message with which every stream begins.
    pub(super) fn try_new(
        schema: &SchemaRef,
        compression: ChunkCompression,
        partitions: usize,
    ) -> Result<(Self, Message), Error> {
        let (mut encoder, first) = Encoder::try_new(Arc::clone(schema), compression.of_encoder())
            .map_err(Error::Encode)?;
        // What cannot be encoded is known here, and not when rows are lost by it.
        encoder.encode(&RecordBatch::new_empty(Arc::clone(schema))).map_err(Error::Encode)?;
        let dictionaries = schema.fields().iter().any(|field| has_dictionary(field.data_type()));
        let count = if dictionaries { partitions } else { 1 };
        let each = (0..count).map(|_| None).collect();
        let looks = if compression == ChunkCompression::Auto { partitions } else { 0 };
        let auto = (0..looks).map(|_| Auto::default()).collect();
        let (schema, recoder) = (Arc::clone(schema), Recoder::default());
        Ok((Encoders { schema, compression, each, auto, recoder }, first))
    }

    pub(super) fn encode(
        &mut self,
        partition: usize,
        batch: &RecordBatch,
    ) -> Result<Vec<Message>, Error> {
        let place = if self.each.len() == 1 { 0 } else { partition };
        let encoder = match &mut self.each[place] {
            Some(encoder) => encoder,
            none => {
                let schema = Arc::clone(&self.schema);
                let made = Encoder::try_new(schema, self.compression.of_encoder())
                    .map_err(Error::Encode)?;
                none.insert(made.0)
            }
        };
        let messages = encoder.encode(batch).map_err(Error::Encode)?;
        match self.auto.get_mut(partition) {
            Some(auto) => auto.pack(&mut self.recoder, messages),
            None => Ok(messages),
        }
    }
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_dictionary(field.data_type()),
        DataType::RunEndEncoded(_, values) => has_dictionary(values.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        DataType::Union(fields, _) => {
            fields.iter().any(|(_, field)| has_dictionary(field.data_type()))
        }
        _ => false,
    }
}

/// The record batches of a chunk: one, unless its pieces do not go together.
///
/// The keys of a dictionary may be too narrow for all values that its pieces
/// have; then each half of them is a batch, or a half of that.
pub(super) fn batches(
    schema: &SchemaRef,
    columns: &[Vec<ArrayRef>],
    rows: usize,
) -> Result<Vec<RecordBatch>, Error> {
    // Columns that are not whole have their pieces of the same blocks.
    let pieces = columns.iter().find(|pieces| pieces.len() > 1);
    let lengths =
        pieces.map_or_else(|| vec![rows], |pieces| pieces.iter().map(|p| p.len()).collect());
    let mut found = Vec::new();
    // The last is the next one: first piece, pieces, first row.
    let mut left = vec![(0, lengths.len(), 0)];
    while let Some((from, count, row)) = left.pop() {
        let rows: usize = lengths[from..from + count].iter().sum();
        match together(schema, columns, (from, count), (row, rows)) {
            Ok(batch) => found.push(batch),
            Err(error) if count == 1 => return Err(error),
            Err(_) => {
                let half = count / 2;
                let middle: usize = lengths[from..from + half].iter().sum();
                left.push((from + half, count - half, row + middle));
                left.push((from, half, row));
            }
        }
    }
    Ok(found)
}

/// One batch of some pieces, which are some rows.
fn together(
    schema: &SchemaRef,
    columns: &[Vec<ArrayRef>],
    (from, count): (usize, usize),
    (row, rows): (usize, usize),
) -> Result<RecordBatch, Error> {
    let mut arrays = Vec::with_capacity(columns.len());
    for pieces in columns {
        let array = match pieces.as_slice() {
            [whole] if whole.len() == rows => Arc::clone(whole),
            [whole] => whole.slice(row, rows),
            pieces => {
                let pieces: Vec<&dyn Array> =
                    pieces[from..from + count].iter().map(AsRef::as_ref).collect();
                concat(&pieces)?
            }
        };
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
