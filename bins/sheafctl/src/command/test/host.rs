//! Makes the built-in components in this process.

use std::sync::Arc;

use futures::FutureExt as _;
use sheaf_components::Host;

use super::maker::{Built, Made};

/// As in the processes of a pipeline that runs.
pub(super) fn build(made: Made<'_>) -> Built<'_> {
    async move {
        let host = host();
        sheaf_components::build(made.role, made.definition, made.start, &host).await
    }
    .boxed()
}

#[allow(clippy::disallowed_methods, reason = "references may name variables")]
fn host() -> Host {
    Host::with_environment(Arc::new(|name| std::env::var(name).ok()))
}
