//! Starting and stopping pipelines over gRPC: `sheaf.control.v1.PipelineControl`.
//!
//! The service does what a [`Runner`](crate::runner::Runner) does. To start a pipeline is to have programs run, so
//! each call has to show the token of the server, which is in a file that only its user may
//! read; what the port itself asks for comes on top.

mod client;
mod service;
mod token;

pub use client::{PipelineClient, RemoteStart};
pub use service::PipelineService;
pub use token::ServerToken;

/// The header with the token.
const TOKEN_HEADER: &str = "sheaf-control-token";
/// Largest request: a file as long as files may be, and room to spare.
const MAX_MESSAGE: usize = 8 << 20;
