//! Tells whoever runs the server which batches failed for good.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::{Change, Coordinator, Event, State, WatchFilter};
use sheaf_retry::{RetryPolicy, SharedClock, Throttle};

/// Lines in a second; what is more is counted.
const LINES: u32 = 20;

/// How long after the last line those that were left out are counted.
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is tried to hear of events.
const WATCHING: RetryPolicy = RetryPolicy {
    max_retries: u32::MAX,
    base_ms: 100,
    factor: 2.0,
    cap_ms: 250,
    jitter: 0.2,
    deadline_ms: None,
};

/// Longest part of a reason in a line, characters.
const REASON: usize = 300;

/// Logs one warning for each batch that ends in `failed` while this node
/// `speaks`, until the coordinator closes.
pub(super) async fn report(
    coordinator: Arc<dyn Coordinator>,
    clock: SharedClock,
    speaks: impl Fn() -> bool + Send,
) {
    // A replicated coordinator has to have a leader first.
    let attempt = async |_| coordinator.watch(WatchFilter::default()).await;
    let watched = sheaf_retry::retry(&WATCHING, 0, clock.clone(), attempt).await;
    let mut events = match watched {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "failed batches will not be in this log: no events");
            return;
        }
    };
    tracing::info!("hears of batches that fail");
    let mut throttle = Throttle::new(LINES);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = clock.sleep(PAUSE), if throttle.skipped() > 0 => {
                count(throttle.take_skipped());
                continue;
            }
        };
        let Some(event) = event else {
            count(throttle.take_skipped());
            return;
        };
        let failed = match &event {
            Event::Changed(change) => change.to == Some(State::Failed),
            Event::Missed(_) => true,
        };
        if !failed || !speaks() {
            continue;
        }
        let Some(left_out) = throttle.admit(clock.elapsed()) else { continue };
        count(left_out);
        match event {
            Event::Changed(change) => line(&change),
            Event::Missed(missed) => {
                tracing::warn!(missed, "events missed: batches that failed may not be in this log");
            }
        }
    }
}

fn count(left_out: u64) {
    if left_out > 0 {
        tracing::warn!(left_out, "more batches failed; list them by their state");
    }
}

fn line(change: &Change) {
    let Change { id, queue, attempts, error, .. } = change;
    let code = error.as_ref().map(|error| tracing::field::display(error.code));
    let reason = error.as_ref().map(|error| first_line(&error.message));
    tracing::warn!(%id, queue, code, attempts, reason, "a batch failed");
}

/// The first line that says something, cut where it is long.
fn first_line(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(first_line("\n  bad rows \nTraceback"), "bad rows");
        assert_eq!(first_line(""), "");
        let long = first_line(&"é".repeat(1_000));
        assert_eq!(long.chars().count(), REASON + 1);
    }
}
