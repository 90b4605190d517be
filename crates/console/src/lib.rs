//! The web console of a control plane, and the live figures that it shows.
//!
//! [`figures`] reads what components tell of themselves; `sheafctl top` shows the same. A
//! [`Console`] samples them, keeps a quarter of an hour of them in memory, and serves a page
//! without a build step and without requests to elsewhere:
//!
//! | path | what | needs the token |
//! |---|---|---|
//! | `/` | the page | no |
//! | `GET /api/pipelines` | pipelines, their states and runs | no |
//! | `GET /api/picture?pipeline=` | where boxes and lines of the topology stand | no |
//! | `GET /api/history?pipeline=` | figures of the last quarter of an hour | no |
//! | `GET /api/events?pipeline=` | figures as they come: server-sent events | no |
//! | `GET /api/proof?nonce=` | that it knows its token, for `sheafctl console` | no |
//! | `GET /api/logs?pipeline=&component=&tail=&follow=` | what components wrote, a JSON document a line | yes |
//! | `GET /api/batches?pipeline=&state=&queue=&cursor=` | batches by state, of the coordinator | yes |
//! | `POST /api/requeue` | failed batches start anew | yes |
//! | `POST /api/restart`, `POST /api/stop` | as `sheafctl restart` and `stop` | yes |
//!
//! What needs the token takes it as `Authorization: Bearer`, which no page of elsewhere can
//! send. Requests by another name than an address or `localhost`, and those that a browser
//! says come from elsewhere, are refused.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! use sheaf_console::{Console, Coordinators};
//! use sheaf_drivers::control::ServerToken;
//! use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
//! use sheaf_drivers::runner::{self, DurableOptions, Runner};
//! use sheaf_pipeline::control::{ControlPlane, Options};
//! use sheaf_retry::{Clock as _, SystemClock};
//!
//! let clock = SystemClock::shared();
//! let plane = ControlPlane::open(Options::default(), clock.clone())?;
//! let programs = Programs { host: None, store: None, beside: None, path: Vec::new() };
//! let options = ProcessOptions {
//!     folder: folder.path().to_owned(),
//!     keeper: "sheafctl".into(),
//!     programs: programs.clone(),
//!     outlive: false,
//!     prints: false,
//!     log: LogLimits::default(),
//! };
//! let driver = std::sync::Arc::new(ProcessDriver::new(options, clock.clone()));
//! let options = runner::Options {
//!     folder: folder.path().to_owned(),
//!     host: "127.0.0.1".to_owned(),
//!     control: "grpc://127.0.0.1:8080".to_owned(),
//!     environment: Default::default(),
//!     variables: Vec::new(),
//!     authority: None,
//!     durable: DurableOptions {
//!         address: None,
//!         token: None,
//!         insecure: false,
//!         retention: runner::DEFAULT_RETENTION,
//!         programs,
//!     },
//!     tracer: None,
//! };
//! let runner = Runner::new(plane, driver, options, clock.clone());
//! let token = ServerToken::open(&folder.path().join("control-token"), clock.now())?;
//!
//! // The router is served by the admin port.
//! let console = Console::start(runner, token, Coordinators::none(), clock);
//! let _router = console.router();
//! # Ok(())
//! # }
//! ```

mod assets;
mod batches;
mod console;
mod coordinators;
mod events;
pub mod figures;
mod guard;
mod history;
mod live;
mod logs;
mod metrics;
mod pictures;
mod pipelines;
mod problem;
mod steer;

pub use console::{Console, MAX_STREAMS};
pub use coordinators::Coordinators;
