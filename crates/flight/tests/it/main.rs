//! Router, server and client over real gRPC on loopback.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod audit;
mod bounded;
mod compression;
mod drain;
mod early;
mod errors;
mod fallback;
mod guarded;
mod limits;
mod logins;
mod memory;
mod paths;
mod rights;
mod round_trip;
mod services;
mod support;
mod types;
mod web;
