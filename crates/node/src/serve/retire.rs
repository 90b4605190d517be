//! Tells the store when the work on a payload is over.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::{Coordinator, CoordinatorExt as _, Event, Position, State, WatchFilter};
use sheaf_proto::BatchId;
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_store::Store;
use tokio::sync::Notify;

/// Between two tries to watch a coordinator that cannot be reached.
const AGAIN: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 500, cap_ms: 30_000, ..RetryPolicy::TRANSFER };

/// Events that are passed on in one go, where so many are there.
const AT_ONCE: usize = 256;

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
            Ok(events) => {
                let mut events = events.ready_chunks(AT_ONCE);
                if !std::mem::take(&mut is_first) {
                    reconnected.notify_one();
                }
                while let Some(some) = events.next().await {
                    failures = 0;
                    let freed =
                        some.into_iter().filter_map(|one| pass_on(one, &store, &reconnected));
                    let freed: Vec<BatchId> = freed.collect();
                    if !freed.is_empty() {
                        mark_anew(freed, coordinator.as_ref(), &store).await;
                    }
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

/// Tells the store; a batch whose payload is here, and whose mark is not as it
/// should be any more, is the answer.
fn pass_on(event: Event, store: &Store, reconnected: &Notify) -> Option<BatchId> {
    match event {
        Event::Changed(change) if change.to.is_none_or(State::is_terminal) => {
            store.completed(&[change.id]);
            None
        }
        Event::Changed(change) => {
            let is_free =
                change.from == Some(State::Waiting) && store.marked_waiting(&change.id).is_some();
            // Requeued: its mark ended with the work.
            let is_anew =
                change.from.is_some_and(State::is_terminal) && store.is_unmarked(&change.id);
            (is_free || is_anew).then_some(change.id)
        }
        Event::Missed(count) => {
            tracing::debug!(count, "events missed");
            reconnected.notify_one();
            None
        }
    }
}

/// Marks these as they are now: should the coordinator be lost, they are
/// registered again so, without what they depended on.
async fn mark_anew(ids: Vec<BatchId>, coordinator: &dyn Coordinator, store: &Store) {
    // Where it cannot be asked now, the next comparison finds them.
    let Ok(batches) = coordinator.get_all(ids).await else { return };
    let live = batches.iter().filter(|batch| !batch.state.is_terminal());
    let marks = live.map(|batch| {
        let place = store.marked_waiting(&batch.spec.id);
        // The next comparison finds out where it stands.
        let position = place.map_or(Position::UNKNOWN, sheaf_worker::position);
        (batch.spec.id.clone(), sheaf_worker::mark(&batch.spec, batch.state, position))
    });
    store.mark(marks.collect()).await;
}
