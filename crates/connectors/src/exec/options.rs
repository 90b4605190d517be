//! What an external program may take.

use std::time::Duration;

/// What an external program may take.
#[derive(Clone, Debug)]
pub struct ExecLimits {
    /// Longest run; by default there is no limit but the caller's.
    pub timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL, and for output that is still in the pipes
    /// when the program has ended.
    pub grace: Duration,
    /// Most bytes on its standard output.
    pub max_output_bytes: u64,
    /// Bytes kept of the end of its standard error.
    pub stderr_tail_bytes: usize,
}

impl Default for ExecLimits {
    fn default() -> Self {
        ExecLimits {
            timeout: None,
            grace: Duration::from_secs(5),
            max_output_bytes: 4 << 30,
            stderr_tail_bytes: 4 << 10,
        }
    }
}
