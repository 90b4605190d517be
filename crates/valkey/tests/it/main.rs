//! Against real servers.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
mod connecting;
mod crashes;
mod damage;
mod durability;
mod kit;
mod load;
mod memory;
mod metrics;
mod migration;
mod mutants;
mod outages;
mod redis;
mod refusals;
mod replies;
mod singles;
mod topologies;
mod versions;
