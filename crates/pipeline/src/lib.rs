//! Pipelines: what their files say, what is wrong with them, and what is to run.
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

pub mod check;
pub mod diagnostics;
pub mod graph;
pub mod plan;
pub mod spec;
