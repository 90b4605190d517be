//! Completes what a plain client left out about its payloads.

use sheaf_coordinator::BatchSpec;
use sheaf_flight::Error;

use super::CoordinatorActions;
use crate::json::SpecInput;
use crate::payloads::Payloads;

impl CoordinatorActions {
    pub(super) fn payloads(&self) -> Payloads<'_> {
        Payloads {
            coordinator: self.coordinator.as_ref(),
            directory: self.directory.as_deref(),
            is_bare: self.is_bare,
        }
    }

    /// As [`Payloads::resolve`].
    pub(super) async fn resolve(
        &self,
        action: &str,
        inputs: Vec<SpecInput>,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<BatchSpec>, Error> {
        self.payloads().resolve(action, inputs, name).await
    }
}
