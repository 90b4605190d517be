//! Tells the store when the work on a payload is over.

use std::sync::Arc;

use futures::StreamExt as _;
use sheaf_coordinator::{Coordinator, Event, State, WatchFilter};
use sheaf_store::Store;

/// Passes on every batch that reaches a terminal state, until the coordinator
/// closes. What is missed is found by the store itself, which asks again from
/// time to time.
pub(super) async fn retire(coordinator: Arc<dyn Coordinator>, store: Store) {
    let mut events = match coordinator.watch(WatchFilter::default()).await {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "payloads will be kept longer: no events");
            return;
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Event::Changed(change) if change.to.is_none_or(State::is_terminal) => {
                store.completed(&[change.id]);
            }
            Event::Changed(_) => {}
            Event::Missed(count) => tracing::debug!(count, "events missed"),
        }
    }
}
