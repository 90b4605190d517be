//! What this process gives to its component.

use std::sync::Arc;

use sheaf_components::Host;

/// The environment, the machine's clock and standard output.
#[allow(clippy::disallowed_methods, reason = "a binary")]
pub(crate) fn host(run: u64) -> Host {
    Host { run, ..Host::with_environment(Arc::new(|name| std::env::var(name).ok())) }
}
