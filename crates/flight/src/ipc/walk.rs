//! Holds the nodes and buffers of one message against the layout of its schema.

use std::collections::HashSet;

use arrow_ipc::{FieldNode, MetadataVersion, RecordBatch};

use super::Bounds;
use super::compression::Compression;
use super::inspect::{limit, malformed, parse};
use super::layout::{Layout, Shape};
use crate::error::Error;
use crate::message::Message;

/// A buffer's length before the compressed bytes: little-endian, -1 where they
/// are not compressed after all.
const COMPRESSED_PREFIX: u64 = 8;

pub(super) struct Walk<'a> {
    message: &'a Message,
    batch: RecordBatch<'a>,
    defined: &'a HashSet<i64>,
    unions_have_validity: bool,
    compressed: bool,
    body_len: u64,
    nodes: usize,
    buffers: usize,
    variadic: usize,
    decoded: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        message: &'a Message,
        batch: RecordBatch<'a>,
        version: MetadataVersion,
        defined: &'a HashSet<i64>,
    ) -> Result<Self, Error> {
        let compressed = Compression::of(batch)? != Compression::None;
        Ok(Walk {
            message,
            batch,
            defined,
            unions_have_validity: version < MetadataVersion::V5,
            compressed,
            body_len: message.body_len() as u64,
            nodes: 0,
            buffers: 0,
            variadic: 0,
            decoded: 0,
        })
    }

    /// Every column of the message: `rows` long, and nothing left over.
    ///
    /// `as_values` reads the columns as the values of dictionaries.
    pub(super) fn run<'l>(
        mut self,
        columns: impl Iterator<Item = &'l Layout>,
        rows: u64,
        as_values: bool,
        bounds: &Bounds,
    ) -> Result<(), Error> {
        for column in columns {
            let length = self.field(column, as_values)?;
            if length != rows {
                let name = &column.name;
                return Err(malformed(format!("column {name:?} has {length} rows, not {rows}")));
            }
        }
        let left = [
            ("nodes", self.nodes, self.batch.nodes().map_or(0, |list| list.len())),
            ("buffers", self.buffers, self.batch.buffers().map_or(0, |list| list.len())),
            (
                "variadic buffer counts",
                self.variadic,
                self.batch.variadicBufferCounts().map_or(0, |list| list.len()),
            ),
        ];
        for (what, used, there) in left {
            if used != there {
                return Err(malformed(format!("{there} {what}, the schema asks for {used}")));
            }
        }
        if self.decoded > bounds.max_decoded_bytes {
            let (is, max) = (self.decoded, bounds.max_decoded_bytes);
            return Err(limit(format!("buffers unfold to {is} bytes, the limit is {max}")));
        }
        Ok(())
    }

    /// Takes the nodes and buffers of one field; returns its length.
    fn field(&mut self, layout: &Layout, as_values: bool) -> Result<u64, Error> {
        let (length, nulls) = self.node(layout)?;
        let validity = if nulls > 0 { length.div_ceil(8) } else { 0 };
        if let Some(dictionary) = layout.dictionary
            && !as_values
        {
            if nulls < length && !self.defined.contains(&dictionary.id) {
                let (name, id) = (&layout.name, dictionary.id);
                return Err(malformed(format!(
                    "column {name:?} uses dictionary {id} before it is defined"
                )));
            }
            self.buffer(layout, validity)?;
            self.buffer(layout, bytes_of(length, dictionary.index_bits, layout)?)?;
            return Ok(length);
        }
        let offsets = |width: u64, more: u64| match length {
            0 => Ok(0),
            some => bytes_of(some + more, width * 8, layout),
        };
        match layout.shape {
            Shape::Null | Shape::RunEndEncoded => {}
            Shape::Fixed { bits } => {
                self.buffer(layout, validity)?;
                self.buffer(layout, bytes_of(length, bits, layout)?)?;
            }
            Shape::Variable { offset } => {
                self.buffer(layout, validity)?;
                self.buffer(layout, offsets(offset, 1)?)?;
                self.buffer(layout, 0)?;
            }
            Shape::View => {
                self.buffer(layout, validity)?;
                self.buffer(layout, bytes_of(length, 128, layout)?)?;
                for _ in 0..self.variadic_count(layout)? {
                    self.buffer(layout, 0)?;
                }
            }
            Shape::List { offset } => {
                self.buffer(layout, validity)?;
                self.buffer(layout, offsets(offset, 1)?)?;
            }
            Shape::ListView { offset } => {
                self.buffer(layout, validity)?;
                self.buffer(layout, offsets(offset, 0)?)?;
                self.buffer(layout, offsets(offset, 0)?)?;
            }
            Shape::FixedSizeList { .. } | Shape::Struct => self.buffer(layout, validity)?,
            Shape::Union { dense } => {
                if self.unions_have_validity {
                    self.buffer(layout, 0)?;
                }
                self.buffer(layout, length)?;
                if dense {
                    self.buffer(layout, bytes_of(length, 32, layout)?)?;
                }
            }
        }
        self.children(layout, length)?;
        Ok(length)
    }

    fn children(&mut self, layout: &Layout, length: u64) -> Result<(), Error> {
        let least = match layout.shape {
            Shape::Struct | Shape::Union { dense: false } => length,
            Shape::FixedSizeList { width } => bytes_of(length, width.saturating_mul(8), layout)?,
            _ => 0,
        };
        for child in &layout.children {
            let has = self.field(child, false)?;
            if has < least {
                let (outer, inner) = (&layout.name, &child.name);
                return Err(malformed(format!(
                    "field {inner:?} has {has} values, {outer:?} around it needs {least}"
                )));
            }
        }
        Ok(())
    }

    fn node(&mut self, layout: &Layout) -> Result<(u64, u64), Error> {
        let name = &layout.name;
        let nodes = self.batch.nodes().filter(|nodes| self.nodes < nodes.len());
        let nodes = nodes
            .ok_or_else(|| malformed(format!("{} nodes end before column {name:?}", self.nodes)))?;
        let node: &FieldNode = nodes.get(self.nodes);
        self.nodes += 1;
        let (length, nulls) = (node.length(), node.null_count());
        match (u64::try_from(length), u64::try_from(nulls)) {
            (Ok(length), Ok(nulls)) if nulls <= length => Ok((length, nulls)),
            _ => {
                Err(malformed(format!("column {name:?} has {length} values, {nulls} of them null")))
            }
        }
    }

    fn variadic_count(&mut self, layout: &Layout) -> Result<u64, Error> {
        let name = &layout.name;
        let counts = self.batch.variadicBufferCounts();
        let counts = counts.filter(|counts| self.variadic < counts.len());
        let count = counts
            .ok_or_else(|| malformed(format!("no variadic buffer count for column {name:?}")))?
            .get(self.variadic);
        self.variadic += 1;
        u64::try_from(count)
            .map_err(|_| malformed(format!("column {name:?} has {count} variadic buffers")))
    }

    /// Takes one buffer, which holds at least `need` bytes once it is decompressed.
    fn buffer(&mut self, layout: &Layout, need: u64) -> Result<(), Error> {
        let name = &layout.name;
        let buffers = self.batch.buffers().filter(|buffers| self.buffers < buffers.len());
        let buffers = buffers.ok_or_else(|| {
            malformed(format!("{} buffers end before column {name:?}", self.buffers))
        })?;
        let (offset, length) = {
            let buffer = buffers.get(self.buffers);
            (buffer.offset(), buffer.length())
        };
        let number = self.buffers;
        self.buffers += 1;
        let inside = match (u64::try_from(offset), u64::try_from(length)) {
            (Ok(offset), Ok(length)) => offset
                .checked_add(length)
                .filter(|end| *end <= self.body_len)
                .map(|_| (offset, length)),
            _ => None,
        };
        let Some((offset, length)) = inside else {
            let body = self.body_len;
            return Err(malformed(format!(
                "buffer {number} of column {name:?} is at {offset} with {length} bytes, outside the body of {body}"
            )));
        };
        let holds = if self.compressed { self.decompressed(offset, length, name)? } else { length };
        if holds < need {
            return Err(malformed(format!(
                "buffer {number} of column {name:?} holds {holds} bytes and needs {need}"
            )));
        }
        Ok(())
    }

    fn decompressed(&mut self, offset: u64, length: u64, name: &str) -> Result<u64, Error> {
        if length == 0 {
            return Ok(0);
        }
        let prefix = (length >= COMPRESSED_PREFIX).then(|| read_i64(self.message, offset));
        let holds = match prefix {
            Some(-1) => Some(length - COMPRESSED_PREFIX),
            Some(prefix) => u64::try_from(prefix).ok(),
            None => None,
        };
        let holds = holds.ok_or_else(|| {
            malformed(format!("a compressed buffer of column {name:?} does not tell its length"))
        })?;
        self.decoded = self.decoded.saturating_add(holds);
        Ok(holds)
    }
}

/// Bytes that the compressed buffers of a message say that they unfold to,
/// before anything is decoded; 0 where nothing is compressed.
///
/// # Errors
/// [`MalformedData`](sheaf_retry::Code::MalformedData) where the header is no
/// valid flatbuffer. Buffers that lie outside the body count nothing here: a
/// [`StreamValidator`](super::StreamValidator) refuses them.
pub fn unfolded_bytes(message: &Message) -> Result<u64, Error> {
    if message.header.is_empty() {
        return Ok(0);
    }
    let parsed = parse(&message.header, &Bounds::default())?;
    let dictionary = || parsed.header_as_dictionary_batch().and_then(|batch| batch.data());
    let Some(batch) = parsed.header_as_record_batch().or_else(dictionary) else { return Ok(0) };
    let (Some(_), Some(buffers)) = (batch.compression(), batch.buffers()) else { return Ok(0) };
    let body = message.body_len() as u64;
    let declared = buffers.iter().filter_map(|buffer| {
        let (offset, length) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()));
        let (offset, length) = (offset.ok()?, length.ok()?);
        offset.checked_add(length).filter(|end| length >= COMPRESSED_PREFIX && *end <= body)?;
        let declared = read_i64(message, offset);
        Some(u64::try_from(declared).unwrap_or(length))
    });
    Ok(declared.fold(0, u64::saturating_add))
}

fn bytes_of(length: u64, bits: u64, layout: &Layout) -> Result<u64, Error> {
    let bits = length.checked_mul(bits).ok_or_else(|| {
        malformed(format!("column {:?} has {length} values of {bits} bits", layout.name))
    })?;
    Ok(bits.div_ceil(8))
}

/// The little-endian number at an offset of the body, which holds all of it.
fn read_i64(message: &Message, offset: u64) -> i64 {
    let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut bytes = [0; 8];
    let mut filled = 0;
    for piece in &message.body {
        let rest = piece.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(piece.len());
        let take = rest.len().min(bytes.len() - filled);
        bytes[filled..filled + take].copy_from_slice(&rest[..take]);
        filled += take;
    }
    i64::from_le_bytes(bytes)
}
