//! The real binary: every command as people and programs use it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod backend;
mod backup;
mod bad_disk;
mod bad_input;
mod clocks;
mod commands;
mod commit_steps;
mod config;
mod damaged_record;
mod doctor;
mod dying_workers;
mod fleet;
mod harness;
mod held;
mod hostile;
mod kill;
mod lifecycle;
mod lost_replies;
mod lost_state;
mod mixed;
mod old_data;
mod operations;
mod outages;
mod parts;
mod paused;
mod pyarrow;
mod raft;
mod refusals;
mod remote;
mod security;
mod shared;
mod shutdown;
mod stages;
mod valkey;
mod workers;
