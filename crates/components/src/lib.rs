//! The built-in sources, processors and sinks of pipelines.
//!
//! [`build`] makes one of its definition. What it needs of the process that it runs in, it is
//! given as a [`Host`].
//!
//! ```
//! use sheaf_components::{Host, build};
//! use sheaf_dataflow::{AnyComponent, Start};
//! use sheaf_pipeline::spec::{Component, Role};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let definition: Component = serde_json::from_str(
//!     r#"{"id": "numbers", "kind": "generate",
//!         "config": {"columns": [{"name": "n", "values": "sequence"}], "rows": 10}}"#,
//! )?;
//! let start = Start {
//!     pipeline: "demo".into(),
//!     component: "numbers".into(),
//!     config: definition.config.clone(),
//!     instance: 0,
//!     replicas: 1,
//!     state_dir: dir.path().into(),
//!     offset: None,
//! };
//! let built = build(Role::Source, &definition, start, &Host::plain()).await?;
//! let AnyComponent::Source(mut source) = built else { return Err("no source".into()) };
//! let made = source.next().await?.ok_or("no rows")?;
//! assert_eq!(made.batch.num_rows(), 10);
//! assert!(source.next().await?.is_none());
//! # Ok(())
//! # }
//! ```

mod bucket;
mod build;
mod columns;
mod databases;
mod encode;
mod failure;
mod flight;
mod host;
mod http;
mod identity;
#[cfg(feature = "kafka")]
mod kafka;
mod offset;
pub mod processors;
mod secrets;
mod sinks;
mod sources;

pub use build::{build, is_built_in};
pub use columns::column_type;
pub use host::{Environment, Host, Output};
