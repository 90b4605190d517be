//! Tells the store when the work on a payload is over.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::{Coordinator, Event, State, WatchFilter};
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_store::Store;
use tokio::sync::Notify;

/// Between two tries to watch a coordinator that cannot be reached.
const AGAIN: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 500, cap_ms: 30_000, ..RetryPolicy::TRANSFER };

/// Passes on every batch that reaches a terminal state, without end: a
/// coordinator that went away is watched again when it is back. What is missed
/// is found by the store itself, which asks again from time to time. After each
/// time that it went away `reconnected` is told: it may be another one.
pub(super) async fn retire(
    coordinator: Arc<dyn Coordinator>,
    store: Store,
    clock: SharedClock,
    reconnected: Arc<Notify>,
) {
    let mut is_first = true;
    let mut failures = 0;
    loop {
        match coordinator.watch(WatchFilter::default()).await {
            Ok(mut events) => {
                if !std::mem::take(&mut is_first) {
                    reconnected.notify_one();
                }
                while let Some(event) = events.next().await {
                    failures = 0;
                    pass_on(event, &store, &reconnected);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "payloads are kept longer: the coordinator sends no events");
            }
        }
        let seed = clock.now().as_micros();
        let cap = Duration::from_millis(AGAIN.cap_ms);
        clock.sleep(AGAIN.delay_seeded(failures, seed).unwrap_or(cap)).await;
        failures = failures.saturating_add(1);
    }
}

fn pass_on(event: Event, store: &Store, reconnected: &Notify) {
    match event {
        Event::Changed(change) if change.to.is_none_or(State::is_terminal) => {
            store.completed(&[change.id]);
        }
        Event::Changed(_) => {}
        Event::Missed(count) => {
            tracing::debug!(count, "events missed");
            reconnected.notify_one();
        }
    }
}
