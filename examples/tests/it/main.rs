//! Every example runs, says what it should, and is short enough to be read.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../../custom_processor/commit_log.rs"]
mod commit_log;
#[path = "../../flight_integration/expiration/endpoints.rs"]
mod endpoints;
mod exchange;
mod files;
mod integration;
#[path = "../../custom_processor/json_lines.rs"]
mod json_lines;
mod left;
mod python;
mod run;
mod server;
mod sessions;
mod sink;
mod workers;
