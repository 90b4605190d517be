//! Assembly of a Sheaf process: what `sheaf serve` is made of, and the commands
//! that talk to it.
//!
//! The binary only parses and calls: everything it can do is here.
//!
//! ```
//! use sheaf_node::config::{Machine, Origin, RawConfig};
//!
//! // default < file < environment < flag, whatever the order of the calls.
//! let file = RawConfig::from_yaml("sheaf.yaml", "workers: 4\nlease: 10s\n")?;
//! let mut flags = RawConfig::default();
//! flags.set("workers", "8", Origin::Flag);
//! let config = file.over(flags).validate(&Machine::this()).expect("valid settings");
//! assert_eq!((config.workers(), config.lease().as_secs()), (8, 10));
//! # Ok::<(), sheaf_node::config::FileError>(())
//! ```
//!
//! | module | what it has |
//! |---|---|
//! | [`config`] | the settings of `serve`: one table, four layers, every problem at once |
//! | [`args`] | the same table as a command line |
//! | [`serve`](mod@serve) | a server, or workers for one, from the ready line to the drain |
//! | [`client`] | `put`, `get`, `batches …`, `queue …`, `coordinator …`, `backup`, `restore` |
//! | [`backup`] | what a backup is, and the way back to a data directory |
//! | [`doctor`] | whether machine, configuration and servers fit together |
//! | [`demo`] | the whole way of the data on one machine, with a kill half-way |

pub mod args;
pub mod backup;
pub mod client;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod serve;
