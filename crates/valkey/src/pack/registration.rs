//! Registrations: the keys and records of batches.
//!
//! All of a call stands in one piece of memory, of which each argument is a part: an
//! allocation for each of them would cost more than all else here.

use std::collections::HashSet;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use sheaf_coordinator::limits;
use sheaf_coordinator::{BatchSpec, Error, OnParentFailure};
use sheaf_proto::BatchId;
use twox_hash::XxHash3_64;

use super::{MAX_EXACT, Packed, RECORD_VERSION, home, micros, no_zero};

/// Batches of a block: fewer are kept by themselves.
pub(crate) const MIN_BLOCK: usize = 8;
const MAX_BLOCK: usize = 64;
/// Bytes of a key and a record beside the texts in them, more or less.
const USUAL_BYTES: usize = 160;

/// Whether the specification asks for nothing beside being run.
fn is_plain(spec: &BatchSpec) -> bool {
    spec.delay.is_zero()
        && spec.expires_after.is_none()
        && spec.dedup_key.is_empty()
        && spec.parents.is_empty()
        && spec.depends_on.is_empty()
}

/// Flags of a record that its specification decides.
fn flags(spec: &BatchSpec) -> u8 {
    let on = match spec.on_parent_failure {
        OnParentFailure::Fail => 0,
        OnParentFailure::Wait => 8,
        OnParentFailure::Cancel => 16,
    };
    u8::from(!spec.parents.is_empty())
        | (u8::from(!spec.dedup_key.is_empty()) << 1)
        | (u8::from(!spec.depends_on.is_empty()) << 2)
        | (u8::from(!is_plain(spec)) << 5)
        | on
}

impl Packed {
    fn options(&mut self, spec: &BatchSpec) {
        if is_plain(spec) {
            return;
        }
        self.micros(spec.delay)
            .f64(spec.expires_after.map_or(-1.0, micros))
            .micros(spec.dedup_window)
            .text(&spec.dedup_key)
            .ids(&spec.parents)
            .ids(&spec.depends_on);
    }

    /// A text as a field of a message of protobuf, none where it is empty.
    fn field(&mut self, tag: u32, text: &str) -> &mut Self {
        if !text.is_empty() {
            encode_key(tag, WireType::LengthDelimited, &mut self.0);
            encode_varint(text.len() as u64, &mut self.0);
            self.raw(text.as_bytes());
        }
        self
    }

    /// The record of a specification that was checked.
    fn record(&mut self, spec: &BatchSpec, scratch: &mut Packed) -> Result<(), Error> {
        let queue = limits::queue(&spec.queue)?;
        for (field, value) in [("rows", spec.rows), ("bytes", spec.bytes)] {
            if value > MAX_EXACT {
                return Err(Error::Limit { field, actual: value, limit: MAX_EXACT });
            }
        }
        no_zero("tenant", &spec.tenant)?;
        self.byte(RECORD_VERSION)
            .byte(flags(spec))
            .raw(&spec.priority.to_le_bytes())
            .u64(spec.rows)
            .u64(spec.bytes)
            .u32(home(&spec.locations))
            .long(|packed| {
                for location in &spec.locations {
                    packed.text(location);
                }
            })
            .text(queue)
            .text(&spec.tenant)
            .short(|packed| {
                if let Some(policy) = &spec.retry {
                    packed.policy(policy);
                }
            })
            .long(|packed| packed.options(spec))
            .u64(digest(spec, queue, scratch))
            // What scripts have no use for: fields of `BatchSpec` of the protocol.
            .field(5, &spec.partition_key)
            .field(14, &spec.checksum)
            .field(15, &spec.schema_fingerprint)
            .field(19, &spec.trace_context);
        Ok(())
    }

    fn key(&mut self, prefix: &str, kind: &str, id: &BatchId) -> &mut Self {
        self.raw(prefix.as_bytes()).raw(kind.as_bytes()).raw(id.as_str().as_bytes())
    }

    /// The keys of batches in one.
    fn joined<'a>(&mut self, prefix: &str, ids: impl Iterator<Item = &'a BatchId>) {
        for (at, id) in ids.enumerate() {
            if at > 0 {
                self.byte(0);
            }
            self.key(prefix, "b:", id);
        }
    }
}

/// What makes two registrations of one identifier the same batch.
fn digest(spec: &BatchSpec, queue: &str, scratch: &mut Packed) -> u64 {
    scratch.0.clear();
    scratch
        .text(queue)
        .text(&spec.tenant)
        .text(&spec.partition_key)
        .ids(&spec.parents)
        .u64(spec.rows)
        .u64(spec.bytes)
        .text(&spec.checksum)
        .text(&spec.schema_fingerprint);
    XxHash3_64::oneshot(&scratch.0)
}

/// Memory that the record of a specification needs, without lists that are rare.
fn usual(spec: &BatchSpec) -> usize {
    let locations: usize = spec.locations.iter().map(String::len).sum();
    USUAL_BYTES
        + 2 * spec.id.as_str().len()
        + locations
        + spec.queue.len()
        + spec.tenant.len()
        + spec.partition_key.len()
        + spec.checksum.len()
        + spec.schema_fingerprint.len()
        + spec.trace_context.len()
}

/// The key and the record of a specification that was checked.
///
/// # Errors
/// `Limit` and `Invalid` for what only this coordinator does not take.
pub(crate) fn spec(prefix: &str, spec: &BatchSpec) -> Result<[Bytes; 2], Error> {
    let mut packed = Packed(Vec::with_capacity(usual(spec)));
    let mut parts = Parts::default();
    parts.end(packed.key(prefix, "b:", &spec.id));
    packed.record(spec, &mut Packed::default())?;
    parts.end(&packed);
    let mut all = parts.of(packed);
    Ok([all.next().unwrap_or_default(), all.next().unwrap_or_default()])
}

/// Where in one piece of memory each argument ends.
#[derive(Default)]
struct Parts(Vec<usize>);

impl Parts {
    fn end(&mut self, packed: &Packed) {
        self.0.push(packed.0.len());
    }

    fn of(self, mut packed: Packed) -> impl Iterator<Item = Bytes> {
        let all = packed.done();
        let mut from = 0;
        self.0.into_iter().map(move |end| all.slice(std::mem::replace(&mut from, end)..end))
    }
}

/// The keys and records of a registration, after a head that tells whether all
/// are plain: of one queue, tenant and priority, each another, without options.
///
/// # Errors
/// As [`spec`].
pub(crate) fn register(
    prefix: &str,
    specs: &[&BatchSpec],
    smallest: usize,
) -> Result<Vec<Bytes>, Error> {
    let mut seen = HashSet::with_capacity(specs.len());
    let first = specs.first().map_or(Ok(""), |spec| limits::queue(&spec.queue))?;
    let mut plain = !specs.is_empty();
    let (mut rows, mut bytes) = (0.0, 0.0);
    let mut memory = USUAL_BYTES;
    for spec in specs {
        plain &= is_plain(spec)
            && spec.on_parent_failure == OnParentFailure::Fail
            && seen.insert(&spec.id)
            && limits::queue(&spec.queue)? == first
            && (&spec.tenant, spec.priority) == (&specs[0].tenant, specs[0].priority);
        rows += spec.rows as f64;
        bytes += spec.bytes as f64;
        memory += usual(spec) + 2 * prefix.len();
    }
    let blocks = if plain { blocks(specs, smallest) } else { Vec::new() };
    let mut packed = Packed(Vec::with_capacity(memory));
    let mut parts = Parts(Vec::with_capacity(specs.len() * 2 + blocks.len() + 1));
    packed.byte(u8::from(plain));
    if plain {
        packed.raw(&specs[0].priority.to_le_bytes()).f64(rows).f64(bytes).text(first);
        packed.text(&specs[0].tenant).u16(u16::try_from(blocks.len()).unwrap_or(u16::MAX));
    }
    for block in &blocks {
        let sum = |of: fn(&BatchSpec) -> u64| block.iter().map(|spec| of(spec) as f64).sum();
        packed
            .u16(u16::try_from(block.len()).unwrap_or(u16::MAX))
            .f64(sum(|spec| spec.rows))
            .f64(sum(|spec| spec.bytes))
            .u32(home(&block[0].locations));
    }
    parts.end(&packed);
    for block in &blocks {
        packed.joined(prefix, block.iter().map(|spec| &spec.id));
        parts.end(&packed);
    }
    let mut scratch = Packed::default();
    for spec in specs {
        parts.end(packed.key(prefix, "b:", &spec.id));
        packed.record(spec, &mut scratch)?;
        parts.end(&packed);
    }
    Ok(parts.of(packed).collect())
}

/// The beginning of plain batches as blocks, each of payloads at the same places.
fn blocks<'a, 'b>(specs: &'a [&'b BatchSpec], smallest: usize) -> Vec<&'a [&'b BatchSpec]> {
    let mut blocks = Vec::new();
    for same in specs.chunk_by(|one, next| one.locations == next.locations) {
        for block in same.chunks(MAX_BLOCK) {
            if block.len() < smallest {
                return blocks;
            }
            blocks.push(block);
        }
    }
    blocks
}

/// The keys of some batches in one.
pub(crate) fn joined<'a>(prefix: &str, ids: impl Iterator<Item = &'a BatchId>) -> Bytes {
    let mut packed = Packed(Vec::with_capacity(MAX_BLOCK * USUAL_BYTES / 4));
    packed.joined(prefix, ids);
    packed.done()
}

/// The key of a batch.
pub(crate) fn key(prefix: &str, kind: &str, id: &BatchId) -> Bytes {
    Bytes::from([prefix, kind, id.as_str()].concat())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use sheaf_proto::coordinator::v1 as proto;

    use super::*;

    #[test]
    fn texts_are_fields_of_the_protocol() {
        let long = "x".repeat(70_000);
        let mut packed = Packed::default();
        packed.field(5, "key").field(14, "").field(15, &long).field(19, "00-ab");
        let read = proto::BatchSpec::decode(&packed.0[..]).unwrap();
        let asked = proto::BatchSpec {
            partition_key: "key".to_owned(),
            schema_fingerprint: long,
            trace_context: "00-ab".to_owned(),
            ..proto::BatchSpec::default()
        };
        assert_eq!(read, asked);
        assert_eq!(packed.0, asked.encode_to_vec());
        let mut checksum = Packed::default();
        checksum.field(14, "sum");
        let asked = proto::BatchSpec { checksum: "sum".to_owned(), ..proto::BatchSpec::default() };
        assert_eq!(checksum.0, asked.encode_to_vec());
    }
}
