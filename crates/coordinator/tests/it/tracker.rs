//! Tracking by name.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{BatchTracker, State};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};

#[tokio::test]
async fn tokens_are_kept_and_used() {
    let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
    let coordinator = Arc::new(Embedded::open(Config::memory(), clock.clone()).unwrap());
    let lease = Duration::from_secs(30);
    let tracker = BatchTracker::new(coordinator.clone(), "w", lease);
    let other = BatchTracker::new(coordinator.clone(), "v", lease);
    let id = "a".parse().unwrap();
    tracker.register_batch(super::spec("a")).await.unwrap();
    tracker.register_batch(super::spec("b")).await.unwrap();
    assert_eq!(tracker.list_pending_batches(10).await.unwrap().len(), 2);

    let unheld = tracker.mark_completed(&id).await.unwrap_err();
    assert_eq!(unheld.code(), Code::FailedPrecondition);
    tracker.mark_processing(&id).await.unwrap();
    assert_eq!(other.mark_processing(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(other.heartbeat_batch(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    clock.advance(lease / 2);
    let until = tracker.heartbeat_batch(&id).await.unwrap();
    assert_eq!(until, Timestamp::from_millis(1_045_000));
    assert_eq!(tracker.increment_retry(&id).await.unwrap(), State::Scheduled);
    assert_eq!(tracker.get_batch_metadata(&id).await.unwrap().attempts, 1);

    clock.advance(Duration::from_secs(10));
    coordinator.wake().await.unwrap();
    tracker.mark_processing(&id).await.unwrap();
    clock.advance(lease * 2);
    coordinator.wake().await.unwrap();
    other.mark_processing(&id).await.unwrap();
    assert_eq!(tracker.mark_completed(&id).await.unwrap_err().code(), Code::StaleFence);
    assert_eq!(other.mark_failed(&id, "broken").await.unwrap(), State::Failed);
    assert_eq!(other.get_batch_metadata(&id).await.unwrap().error.unwrap().message, "broken");
    assert_eq!(tracker.expire_old_batches(Duration::from_secs(1)).await.unwrap(), 1);
    let missing = tracker.get_batch_metadata(&"x".parse().unwrap()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}
