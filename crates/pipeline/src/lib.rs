//! Pipelines: what their files say, what is wrong with them, what is to run, and how it fares.
//!
//! A file becomes a [`Pipeline`](spec::Pipeline) or a [`Report`](diagnostics::Report), and
//! then a [`Plan`](plan::Plan):
//!
//! ```
//! let text = "
//! apiVersion: sheaf.dev/v1
//! kind: Pipeline
//! metadata: {name: hello}
//! sources:
//!   - {id: numbers, kind: generate, config: {columns: [{name: n, values: sequence}]}}
//! sinks:
//!   - {id: out, kind: stdout, inputs: [numbers]}
//! ";
//! let checked = sheaf_pipeline::check::check("hello.yaml", text)?;
//! let plan = sheaf_pipeline::plan::Plan::new(&checked.pipeline);
//! assert_eq!(plan.edges[0].id, "numbers:out");
//! # Ok::<(), sheaf_pipeline::diagnostics::Report>(())
//! ```
//!
//! What runs registers with the control plane, which knows how it is; the registry's own
//! [`Plan`](registry::Plan) gives out the places that components may take:
//!
//! ```
//! use sheaf_pipeline::health::Timing;
//! use sheaf_pipeline::registry::{Kind, Limits, Now, Place, Plan, Registry, Token};
//! use sheaf_retry::Timestamp;
//!
//! // Each place has a token of its own.
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

pub mod check;
pub mod control;
pub mod diagnostics;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod health;
pub mod plan;
pub mod registry;
pub mod spec;
pub mod state;
