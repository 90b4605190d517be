//! Real processes and servers for tests: started on free ports, watched
//! through their output, killed in every way, and gone when the test ends.
//!
//! A dev-dependency only: nothing that ships uses it.
//!
//! ```
//! use std::time::Duration;
//! use sheaf_testkit::Process;
//!
//! let mut server = Process::command("sh")
//!     .args(["-c", "echo ready flight=grpc://127.0.0.1:4711; exec sleep 60"])
//!     .spawn()?;
//! let ready = server.wait_ready(Duration::from_secs(10))?;
//! assert_eq!(ready.url("flight"), Some("grpc://127.0.0.1:4711"));
//! server.kill9()?;
//! # Ok::<(), sheaf_testkit::Error>(())
//! ```
//!
//! Deadlines here only bound how long a broken test hangs: a test waits for a
//! condition ([`wait_until`], [`Process::wait_for_line`]) and goes on as soon
//! as it holds.
//!
//! Between a client and a server stands a [`FaultProxy`], which breaks the
//! connection in every way a network does, or a [`CallProxy`], which knows
//! calls: it loses the replies of the one that a test names, or holds it where
//! it is until the test has done what it wants to do just then. Of a Valkey's
//! replies, [`FaultProxy::lose_replies`] loses those of the requests named.
//!
//! With the feature `otlp` there is a collector of traces.
//!
//! [`netns`] gives processes a network of their own and cuts it, loses packets, or delays
//! and repeats them.
//! [`linearizability`] checks what clients saw of a replicated system.
//!
//! Servers that the machine may lack ([`Valkey`], [`KafkaBroker`], [`S3Server`],
//! [`EtcdCluster`], [`python`], [`libduckdb`]; a [`SchemaRegistry`] is part of this crate) are provisioned
//! by `cargo xtask services`. Where one is missing, its finder prints a `SKIP`
//! line that the test harness does not swallow and gives `None`; with
//! `SHEAF_REQUIRE_SERVERS=1` it panics instead. Redis ([`Flavour::Redis`]) and a
//! [`Browser`] are optional even then. [`Sentinels`] and [`Cluster`] are the larger topologies.

mod background;
mod browser;
#[cfg(feature = "otlp")]
mod collector;
mod command;
mod error;
mod etcd;
mod kafka;
pub mod linearizability;
pub mod netns;
mod output;
mod port;
mod process;
mod proxy;
mod random;
mod ready;
mod s3;
mod schema_registry;
mod services;
mod valkey;
mod wait;

pub use browser::{Browser, Scheme, Tab};
#[cfg(feature = "otlp")]
pub use collector::{CollectedSpan, Collector};
pub use command::ProcessCommand;
pub use error::Error;
pub use etcd::EtcdCluster;
pub use kafka::{ApiVersion, KafkaBroker};
pub use port::{ReservedPort, free_port};
pub use process::Process;
pub use proxy::{
    Call, CallFault, CallProxy, Fault, FaultProxy, Loss, Noise, ReplyFault, ReplyLoss, RequestHold,
};
pub use ready::Ready;
pub use s3::S3Server;
pub use schema_registry::{Reference, RegisteredSchema, RegistryFault, SchemaKind, SchemaRegistry};
pub use services::{
    PYTHON, REDIS_SERVER, REQUIRE_SERVERS, SERVICES_DIR, SOAK, TEST_KAFKA, TEST_POSTGRES, faketime,
    grpc_packages, libduckdb, postgres, program_beside, python, services_dir, soak, sqlite_driver,
    workspace_root,
};
pub use tempfile::TempDir;
pub use valkey::{
    Cluster, CommandStats, Flavour, Reply, Sentinels, TlsFiles, Valkey, ValkeyConnection,
    ValkeyOptions,
};
pub use wait::{wait_for, wait_for_async, wait_until, wait_until_async};
