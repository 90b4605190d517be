//! Files that a client on the same machine maps, handed over beside Flight.
//!
//! A descriptor cannot travel inside gRPC, so it takes a socket of its own in
//! the file system. A call of Flight tells the client where that is and a
//! lease, which is a secret and good once; by it the client gets the
//! descriptor, and keeps the connection for as long as it uses the bytes:
//!
//! | who | sends |
//! |---|---|
//! | client | the lease and a line feed |
//! | server | one line of JSON, and the descriptor beside it: `{"bytes":4096,"format":"arrow-ipc-file"}` |
//! | server, instead | `{"code":"not_found","error":"…"}` without a descriptor |
//! | client | nothing more; it closes the connection when it is done |
//!
//! 1. There is no name by which a segment could be found: when the last of
//!    both sides is gone, by `kill -9` too, the system has it back.
//! 2. The descriptor is open for reading only, or sealed against writing.
//! 3. Only processes of the server's user reach the socket, as that of
//!    [`LocalListener`](crate::LocalListener); the client looks at whose it is.
//! 4. What the server keeps for a client goes when the connection does.

mod client;
mod pass;
mod server;

pub use client::{Received, SegmentLocation};
pub use server::{Segment, SegmentServer, SegmentSource};

/// Scheme of the locations: `shm+unix:///PATH?lease=LEASE`.
const SCHEME: &str = "shm+unix://";

/// Longest lease.
const MAX_LEASE: usize = 128;
/// Longest answer.
const MAX_ANSWER: usize = 4 << 10;
