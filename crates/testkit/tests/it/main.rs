//! The kit itself, on real processes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod call_proxy;
mod cluster;
mod etcd;
mod fault_proxy;
mod kafka;
mod linearizability;
mod netns;
mod process;
mod replica;
mod reply_loss;
mod schema_registry;
mod sentinels;
mod server;
mod tls;
mod wait;
