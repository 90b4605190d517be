//! The footer of an Arrow IPC file, written without decoding the schema.
//!
//! # Source
//! `File.fbs` of the Arrow format, and the binary encoding of FlatBuffers.
//!
//! The footer holds the schema a second time, as a table of its own. Decoding
//! and encoding it would lose what this build does not know of, and give the
//! dictionaries other numbers than the messages of the file use. A flatbuffer
//! points forward to its tables by offsets, wherever they lie; hence the whole
//! schema message is laid down at the end of the footer, byte for byte, and
//! the footer points at the schema table inside it.

use crate::disk::record::Block;

const MAGIC: &[u8; 6] = b"ARROW1";
/// `MetadataVersion.V5`; V4 differs in unions only, which it says per message.
const VERSION_V5: u16 = 4;

/// Bytes of the footer, its length and the magic after it.
///
/// `schema` is the header of the schema message and `schema_at` the offset of
/// its schema table. `None` where the footer would not fit 2 GiB.
pub(super) fn encode(
    version: arrow_ipc::MetadataVersion,
    schema: &[u8],
    schema_at: usize,
    dictionaries: &[Block],
    batches: &[Block],
    metadata: &[(&str, &str)],
) -> Option<Vec<u8>> {
    let mut out = Builder::default();
    // Root offset; vtable at 4 with five fields; table at 20.
    out.u32(20);
    for entry in [14, 24, 4, 8, 12, 16, 20] {
        out.u16(entry);
    }
    out.u16(0);
    out.u32(20 - 4);
    out.u16(u16::try_from(version.0).unwrap_or(VERSION_V5));
    out.u16(0);
    let [schema_ref, dictionaries_ref, batches_ref, metadata_ref] = std::array::from_fn(|_| {
        out.u32(0);
        out.0.len() - 4
    });
    for (reference, blocks) in [(dictionaries_ref, dictionaries), (batches_ref, batches)] {
        // The elements, after the count, are aligned to 8.
        out.pad(8, 4);
        out.point(reference)?;
        out.count(blocks.len())?;
        for block in blocks {
            out.u64(block.offset);
            out.u32(block.metadata_length);
            out.u32(0);
            out.u64(block.body_length);
        }
    }
    out.pad(4, 0);
    out.point(metadata_ref)?;
    out.count(metadata.len())?;
    let references: Vec<_> = metadata
        .iter()
        .map(|_| {
            out.u32(0);
            out.0.len() - 4
        })
        .collect();
    for (reference, (key, value)) in references.into_iter().zip(metadata) {
        out.key_value(reference, key, value)?;
    }
    out.pad(8, 0);
    let schema_table = out.0.len().checked_add(schema_at)?;
    out.point_to(schema_ref, schema_table)?;
    out.0.extend_from_slice(schema);
    out.pad(8, 0);
    let length = i32::try_from(out.0.len()).ok()?;
    out.0.extend_from_slice(&length.to_le_bytes());
    out.0.extend_from_slice(MAGIC);
    Some(out.0)
}

#[derive(Default)]
struct Builder(Vec<u8>);

impl Builder {
    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn count(&mut self, count: usize) -> Option<()> {
        self.u32(u32::try_from(count).ok()?);
        Some(())
    }

    /// Until the length is `rest` more than a multiple of `align`.
    fn pad(&mut self, align: usize, rest: usize) {
        while self.0.len() % align != rest {
            self.0.push(0);
        }
    }

    /// Makes the reference at `at` point to the end.
    fn point(&mut self, at: usize) -> Option<()> {
        self.point_to(at, self.0.len())
    }

    fn point_to(&mut self, at: usize, target: usize) -> Option<()> {
        let offset = u32::try_from(target - at).ok().filter(|offset| *offset < 1 << 31)?;
        self.0[at..at + 4].copy_from_slice(&offset.to_le_bytes());
        Some(())
    }

    fn key_value(&mut self, reference: usize, key: &str, value: &str) -> Option<()> {
        self.pad(4, 0);
        for entry in [8, 12, 4, 8] {
            self.u16(entry);
        }
        self.point(reference)?;
        self.u32(8);
        let (key_ref, value_ref) = (self.0.len(), self.0.len() + 4);
        self.u64(0);
        for (reference, text) in [(key_ref, key), (value_ref, value)] {
            self.pad(4, 0);
            self.point(reference)?;
            self.count(text.len())?;
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(0);
        }
        Some(())
    }
}
