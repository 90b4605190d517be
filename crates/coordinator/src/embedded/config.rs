//! How an embedded coordinator is set up.

use std::path::PathBuf;

use crate::engine;

/// What an answered call survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power: every answer waits for an fsync, shared by all calls
    /// that came in meanwhile.
    #[default]
    Disk,
    /// Nothing but an orderly [`close`](super::Embedded::close), which writes
    /// a snapshot where there is a path. After a crash the state is that of
    /// the last close; fencing tokens do not repeat even then.
    Memory,
}

/// Setting up an [`Embedded`](super::Embedded) coordinator.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file; its directory must exist. `None` keeps everything
    /// in memory and needs [`Durability::Memory`].
    pub path: Option<PathBuf>,
    /// What an answered call survives.
    pub durability: Durability,
    /// Policy and retention.
    pub engine: engine::Config,
    /// Most calls that wait for the writer; more are refused as overloaded.
    pub max_calls: usize,
    /// Most claims that wait for work; more are refused as overloaded.
    pub max_waiting: usize,
    /// Most readers of events; more are refused as overloaded.
    pub max_watchers: usize,
    /// Events kept for a slow reader; it is told how many more it missed.
    pub watch_buffer: usize,
    /// Memory for pages of the database file, bytes.
    pub cache_bytes: usize,
}

impl Config {
    /// Durable in this file.
    pub fn disk(path: impl Into<PathBuf>) -> Self {
        Config { path: Some(path.into()), durability: Durability::Disk, ..Config::memory() }
    }

    /// In memory, without a file: nothing outlives the process. Fencing tokens
    /// ascend over reopenings as long as they are at least a second apart and
    /// within twelve days, for nothing but the clock tells one from the other;
    /// with a path they ascend always.
    pub fn memory() -> Self {
        Config {
            path: None,
            durability: Durability::Memory,
            engine: engine::Config::default(),
            max_calls: 8_192,
            max_waiting: 4_096,
            max_watchers: 256,
            watch_buffer: 1_024,
            cache_bytes: 64 << 20,
        }
    }
}
