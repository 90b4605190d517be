//! How a file sink writes.

use std::time::Duration;

use parquet::basic::Compression;

/// How a file sink writes; the default suits batches of any size.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Compression of Parquet columns. Snappy by default: every reader has it
    /// and it costs least time; Zstandard at level 1 writes smaller files at a
    /// little more.
    pub parquet_compression: Compression,
    /// Most rows of a Parquet row group.
    pub max_row_group_rows: usize,
    /// Bytes that one open write may hold in memory. Parquet ends its row
    /// group when they are reached; Arrow IPC, which has to hold rows with
    /// dictionaries to the end, refuses more.
    pub max_buffered_bytes: usize,
    /// How old a leftover is at least when `recover` removes it, unless a
    /// newer attempt has replaced it.
    pub min_age: Duration,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions {
            parquet_compression: Compression::SNAPPY,
            max_row_group_rows: 1 << 20,
            max_buffered_bytes: 128 << 20,
            min_age: Duration::from_secs(15 * 60),
        }
    }
}
