//! Makes a component of its definition.

use sheaf_dataflow::{AnyComponent, ComponentError, Start};
use sheaf_pipeline::spec::{Component, Role};
#[cfg(not(feature = "kafka"))]
use sheaf_retry::Code;

use crate::failure::refused;
use crate::host::Host;
use crate::{processors, sinks, sources};

/// Makes the component that a definition describes.
///
/// References to secrets are looked up now; no message shows what they stand for.
///
/// # Errors
/// - `invalid_argument` where the definition is not of the form of its kind, the kind is not
///   known, or a reference leads nowhere;
/// - `unimplemented` where the kind is not built in;
/// - those of the place that the component reads or writes.
pub async fn build(
    role: Role,
    definition: &Component,
    start: Start,
    host: &Host,
) -> Result<AnyComponent, ComponentError> {
    let id = &definition.id;
    let own = || {
        refused(format!(
            "{id} has no kind: a component of one's own is started by its command or image"
        ))
    };
    let malformed = |error: serde_json::Error| {
        let kind = definition.kind.as_deref().unwrap_or_default();
        refused(format!("the configuration of {id} is not that of a {role} of kind {kind}"))
            .because(error)
    };
    if let Some(kind) = &definition.kind
        && !role.kinds().contains(&kind.as_str())
    {
        let kinds = role.kinds().join(", ");
        return Err(refused(format!(
            "{id}: there is no {role} of kind {kind}; write one of {kinds}"
        )));
    }
    match role {
        Role::Source => {
            let config = definition.source().map_err(malformed)?.ok_or_else(own)?;
            sources::build(&config, &start, host).await.map(AnyComponent::Source)
        }
        Role::Processor => {
            let config = definition.processor().map_err(malformed)?.ok_or_else(own)?;
            processors::build(&config, &start).map(AnyComponent::Processor)
        }
        Role::Sink => {
            let config = definition.sink().map_err(malformed)?.ok_or_else(own)?;
            sinks::build(&config, &start, host).await.map(AnyComponent::Sink)
        }
    }
}

/// Whether this build has a kind: that of Kafka is a feature.
pub fn is_built_in(role: Role, kind: &str) -> bool {
    role.kinds().contains(&kind) && (kind != "kafka" || cfg!(feature = "kafka"))
}

#[cfg(not(feature = "kafka"))]
pub(crate) fn missing(role: &str, start: &Start) -> ComponentError {
    let text = format!(
        "{}: a {role} of kind kafka is not in this build; build sheaf-component with its feature \
         `kafka`, which it has by default",
        start.component
    );
    ComponentError::new(Code::Unimplemented, text)
}
