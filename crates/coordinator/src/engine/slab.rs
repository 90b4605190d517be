//! Records at stable places, in chunks so that growing copies nothing.

use super::record::Record;

const CHUNK: usize = 1_024;

#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Vec<Option<Record>>>,
    free: Vec<u32>,
    length: u32,
}

impl Slab {
    /// Keeps `record`; the engine's limit on batches is far below `u32::MAX`.
    pub(super) fn insert(&mut self, record: Record) -> u32 {
        self.length += 1;
        if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = Some(record);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Some(record));
        u32::try_from(chunk * CHUNK + self.chunks[chunk].len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Record> {
        let record = self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].take()?;
        self.free.push(slot);
        self.length -= 1;
        Some(record)
    }

    /// # Panics
    /// On a slot without a record: indexes hold only slots that are taken.
    pub(super) fn get(&self, slot: u32) -> &Record {
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
            .as_ref()
            .expect("indexes hold only slots that are taken")
    }

    /// # Panics
    /// As [`Slab::get`].
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Record {
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
            .as_mut()
            .expect("indexes hold only slots that are taken")
    }

    pub(super) fn len(&self) -> usize {
        self.length as usize
    }
}
