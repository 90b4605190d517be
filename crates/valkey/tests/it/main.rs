//! Against real servers.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
mod crashes;
mod kit;
mod mutants;
mod outages;
mod replies;
