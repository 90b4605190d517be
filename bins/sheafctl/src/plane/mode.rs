//! What differs between a run and a server.

use std::path::PathBuf;

use sheaf_dataflow::SharedTracer;

/// See the module.
pub(crate) struct Mode {
    /// Where it remembers runs, where nothing is said.
    pub(crate) state: PathBuf,
    /// Whether components go on without it.
    pub(crate) outlive: bool,
    /// Whether `stdout` sinks print to its standard output.
    pub(crate) prints: bool,
    /// Whether others may start pipelines here.
    pub(crate) starts: bool,
    /// Whether others start the components.
    pub(crate) elsewhere: bool,
    /// The only pipeline, where it is for one run.
    pub(crate) run_of: Option<String>,
    /// Who records starts of components.
    pub(crate) tracer: Option<SharedTracer>,
}
