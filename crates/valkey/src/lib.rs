//! The coordinator on Valkey: what must still happen to every batch, kept by
//! scripts on a server that many processes share.

mod address;
mod checks;
mod config;
mod control;
mod coordinator;
mod error;
mod link;
mod listen;
mod metrics;
mod pack;
mod parking;
mod query;
mod register;
mod schedule;
mod script;
mod unpack;
mod watch;
mod work;

pub use address::Address;
pub use config::Durability;
pub use coordinator::{Builder, ValkeyCoordinator};
