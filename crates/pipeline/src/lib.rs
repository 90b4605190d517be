//! Pipelines: which components there are, how they are, and who may be one.
//!
//! ```
//! use sheaf_pipeline::registry::{Kind, Limits, Now, Place, Plan, Registry, Token};
//! use sheaf_pipeline::health::Timing;
//! use sheaf_retry::Timestamp;
//!
//! // The plan of a pipeline gives out places, each with a token of its own.
//! let token = Token::generate(0);
//! let plan = Plan {
//!     id: "orders".to_owned(),
//!     places: vec![Place::new("orders:read", Kind::Source, token.digest())],
//!     ..Plan::default()
//! };
//! let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 7);
//! registry.plan(plan, Now::start(Timestamp::EPOCH))?;
//! assert_eq!(registry.component("orders:read")?.status.as_str(), "expected");
//! # Ok::<(), sheaf_pipeline::registry::Error>(())
//! ```

pub mod control;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod registry;
pub mod state;
