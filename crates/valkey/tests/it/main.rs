//! Against real servers.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
mod crashes;
mod damage;
mod kit;
mod load;
mod mutants;
mod outages;
mod replies;
