//! Says to the registry what batches look like, which is known when the first ones have come.

use std::sync::Arc;
use std::time::Duration;

use sheaf_pipeline::control::Describer;
use sheaf_pipeline::registry::Metadata;
use sheaf_retry::{Disposition, Retryable as _, SharedClock};

use crate::stats::Stats;

/// How often it is looked whether more is known.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Ports that a registration may have.
const MOST: usize = 64;

/// Looks without end, and says what is new.
pub(super) async fn describe(
    describer: Describer,
    metadata: Metadata,
    stats: Arc<Stats>,
    clock: SharedClock,
) {
    let mut said = 0;
    loop {
        clock.sleep(LOOK_EVERY).await;
        let (mut inputs, mut outputs) = stats.ports();
        inputs.truncate(MOST);
        outputs.truncate(MOST);
        let known = inputs.len() + outputs.len();
        if known == said {
            continue;
        }
        let metadata = Metadata { inputs, outputs, ..metadata.clone() };
        match describer.describe(metadata).await {
            Ok(()) => said = known,
            Err(error) if error.disposition() == Disposition::Permanent => {
                tracing::warn!(%error, "what its batches look like is not shown");
                said = known;
            }
            // The control plane may be away: it is said later.
            Err(error) => tracing::debug!(%error, "what its batches look like was not said"),
        }
    }
}
