//! The control plane: the registry kept, served and called.
//!
//! | what | for |
//! |---|---|
//! | [`ControlPlane`] | whoever starts and stops components in this process |
//! | [`ControlService`] | gRPC, `sheaf.control.v1` |
//! | [`ControlActions`] | the same for components, as Flight actions with JSON bodies |
//! | [`ControlClient`] | components, workers, and tools elsewhere |
//! | [`Member`] | a component that beats: it registers, and again after a restart of the control plane, and deregisters when it goes |
//!
//! ```
//! use sheaf_flight::{
//!     ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Secret, Server,
//! };
//! use sheaf_pipeline::control::{
//!     ClientOptions, ControlClient, ControlPlane, ControlService, Options,
//! };
//! use sheaf_pipeline::registry::{Filter, Kind, Metadata, Registration, incarnation};
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = SystemClock::shared();
//! let plane = ControlPlane::open(Options::default(), clock.clone())?;
//! let service = ControlService::new(plane);
//! let server = Server::new(FlightRouter::builder().build()?)
//!     .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service.into_server())
//!     .serve(Listener::bind("127.0.0.1:0", "--listen", Exposure::Loopback)?)
//!     .await?;
//!
//! // A worker joins, and is found.
//! let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
//! let target = server.uri().parse()?;
//! let client = ControlClient::new(pool, target, ClientOptions::default(), clock.clone());
//! let worker = Registration {
//!     id: "worker-1".to_owned(),
//!     kind: Kind::Worker,
//!     token: Secret::new(""),
//!     incarnation: incarnation(clock.now().as_millis()),
//!     address: "grpc://127.0.0.1:50051".to_owned(),
//!     health_endpoint: String::new(),
//!     endpoints: Vec::new(),
//!     metadata: Metadata::default(),
//!     load: None,
//! };
//! let member = client.join(worker).await?;
//! member.pulse().tick(); // its own loop does so each time that it comes round
//! let filter = Filter { kinds: vec![Kind::Worker], ..Filter::default() };
//! assert_eq!(client.components(&filter).await?[0].id, "worker-1");
//! member.leave("done").await?;
//! assert!(client.components(&filter).await?.is_empty());
//! # Ok(())
//! # }
//! ```

mod actions;
mod call;
mod client;
mod member;
mod metrics;
mod plane;
mod service;
mod watch;
mod writer;

pub use actions::ControlActions;
pub use call::ClientOptions;
pub use client::{Beaten, ControlClient, Joined};
pub use member::{Describer, Member, Pulse, Standing};
pub use plane::{ControlPlane, Events, Options};
pub use service::ControlService;
