//! What an operator sees of a Sheaf process: its logs, its traces (feature `otlp`), and
//! the admin HTTP port with metrics, health and CPU profiles.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use sheaf_telemetry::{AdminServer, Health, Registry, Status};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let health = Health::new();
//! health.register("store", || Status::up("3 payloads"));
//! let registry = Arc::new(Mutex::new(Registry::default()));
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let admin = AdminServer::start(listener, registry, health.clone())?;
//! health.ready(); // from here on /readyz answers 200
//! println!("curl http://{}/metrics", admin.local_addr());
//! admin.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The admin port
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | OpenMetrics text, for Prometheus (2.5 or newer) to scrape |
//! | `/health` | JSON: phase, version, uptime, every component with its detail; 200, or 503 when a component is down |
//! | `/healthz` | `ok`: the process answers; for a liveness probe |
//! | `/readyz` | 200 when it takes work; 503 with one reason a line while it starts, drains, or a component is down |
//! | `/debug/pprof/` | which profiles there are |
//! | `/debug/pprof/heap` | memory in use, by who allocated it, as `profile.proto`: after [`profile_heap`] |
//! | `/debug/pprof/profile?seconds=N` | CPU profile as `profile.proto` for `go tool pprof`; `&format=folded` for flame graphs |
//!
//! Who may reach it, and whether it is encrypted, is up to the [`Protection`]
//! that it is given; `/health`, `/healthz` and `/readyz` are open in any case.
//!
//! # Traces
//!
//! With the feature `otlp`, [`init_traces`] sends the spans of this process to the collector that
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names, by gRPC. Without it, nothing of that is built.

mod admin;
mod error;
mod health;
mod heap;
mod logs;
mod metrics;
mod process;
mod profile;
mod profile_encoder;
mod profile_proto;
mod protection;
mod traces;

pub use admin::{AdminServer, MAX_CONNECTIONS, Pages};
pub use error::Error;
pub use health::{Component, Health, Phase, Report, Status};
pub use heap::{Sampled, profile_heap};
pub use logs::{LogFormat, LogOptions, init_logs};
pub use metrics::{SharedRegistry, exposition};
pub use process::ProcessMetrics;
pub use profile::{DEFAULT_PROFILE_SECONDS, MAX_PROFILE_SECONDS};
pub use prometheus_client::registry::Registry;
pub use protection::{Accepting, Protection, Refusal, Stream, scheme};
pub use traces::{TraceOptions, Traces, init_traces};
