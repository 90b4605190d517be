//! The configuration of `serve`: read in layers, checked as a whole.
//!
//! ```
//! use sheaf_node::config::{Machine, Mode, Origin, RawConfig};
//!
//! let mut raw = RawConfig::default();
//! raw.set("lease", "5 bananas", Origin::Flag);
//! raw.set("workers", "100000", Origin::Environment);
//! let problems = raw.validate(&Machine::of(16 << 30)).expect_err("two mistakes");
//! assert_eq!(problems.len(), 2);
//! assert!(problems[1].to_string().starts_with("SHEAF_WORKERS: 100000 is over the limit"));
//!
//! let config = RawConfig::default().validate(&Machine::of(16 << 30)).expect("the defaults");
//! assert_eq!(config.mode(), Mode::All);
//! assert_eq!(config.memory_limit(), 8 << 30);
//! ```

mod address;
mod backend;
mod disk_share;
mod machine;
mod problem;
mod processor;
mod raft;
mod raw;
mod reader;
mod resolved;
mod security;
mod setting;
mod validate;
mod valkey;

pub use address::HostPort;
pub use backend::{Backend, Remote};
pub use disk_share::DiskShare;
pub use machine::Machine;
pub(crate) use machine::confined;
pub use problem::{Problem, Problems};
pub use processor::ProcessorChoice;
pub use raft::RaftConfig;
pub use raw::{FileError, Origin, RawConfig};
pub use resolved::{Config, Mode};
pub use security::SecurityConfig;
pub use setting::{SETTINGS, Setting};
pub(crate) use valkey::Password;
pub use valkey::ValkeyConfig;
