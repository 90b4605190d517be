//! The commands that talk to a server: `put`, `get`, `batches …`, `queue …`,
//! `backup`; and `restore` and `coordinator migrate`, which need none.
//!
//! Each command is a `clap::Args` with a `run`; the binary parses and calls it.

mod backup;
mod batches;
mod get;
mod limits;
mod lineage;
mod list;
mod migrate;
mod purge;
mod put;
mod queue;
mod raft;
mod server;
mod show;
mod watch;

pub use backup::{BackupArgs, RestoreArgs};
pub use batches::{BatchesCommand, CancelArgs, RequeueArgs, StatsArgs};
pub use get::GetArgs;
pub use limits::ConfigureArgs;
pub use lineage::LineageArgs;
pub use list::ListArgs;
pub use migrate::{CoordinatorCommand, MigrateArgs};
pub use purge::PurgeArgs;
pub use put::PutArgs;
pub use queue::{QueueArgs, QueueCommand};
pub use raft::{AddLearnerArgs, NodeArgs, RaftCommand, StatusArgs, TransferArgs};
pub use server::{ServerArgs, Session};
pub use show::ShowArgs;
pub use watch::WatchArgs;
