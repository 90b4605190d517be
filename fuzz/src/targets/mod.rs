//! The targets: what each does with arbitrary bytes, and what it must not do.
//!
//! Of `mod.rs` form, so that a test of another crate can include the folder by
//! its path.

pub(crate) mod actions;
pub(crate) mod control_record;
pub(crate) mod coordinator_record;
pub(crate) mod descriptor;
pub(crate) mod exchange_chunk;
pub(crate) mod format;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod journal;
pub(crate) mod put;
pub(crate) mod raft_frame;
pub(crate) mod samples;
pub(crate) mod store_file;
pub(crate) mod support;
pub(crate) mod ticket;

/// One decoder of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Of the binary, of the corpus and of the folder of its regressions.
    pub(crate) name: &'static str,
    /// Takes any bytes, says whether they were accepted as valid; panics where a
    /// promise is broken.
    pub(crate) run: fn(&[u8]) -> bool,
    /// Valid inputs, made by the real encoders, from which mutation starts.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// What its inputs are made of.
    pub(crate) words: &'static [&'static str],
}

macro_rules! targets {
    ($($name:ident),*) => {
        [$(Target {
            name: stringify!($name),
            run: $name::run,
            seeds: $name::seeds,
            words: $name::WORDS,
        }),*]
    };
}

/// All of them.
pub(crate) const TARGETS: [Target; 13] = targets!(
    actions,
    control_record,
    coordinator_record,
    descriptor,
    exchange_chunk,
    format,
    frames,
    handshake,
    journal,
    put,
    raft_frame,
    store_file,
    ticket
);
