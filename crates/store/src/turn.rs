//! Work that others wait for, and callers that may stop looking.
//!
//! A call is polled while its client reads, and no longer. What it waits for in
//! a queue it may be given while nobody looks, and then the others wait for a
//! client: so whatever has a queue is waited for in a task, never in a call.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;

/// Runs `work` to its end however seldom the caller is polled; a caller that is
/// dropped ends it at its next await.
pub(crate) async fn by_itself<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    AbortOnDropHandle::new(tokio::spawn(work)).await.map_err(|_| Error::TaskLost)
}

/// Runs `work` when it is its turn, on a thread for that. The turn is that of
/// the work, not of its caller.
pub(crate) async fn in_turn<T, W>(turns: &Arc<Semaphore>, work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let turns = Arc::clone(turns);
    let running = match Arc::clone(&turns).try_acquire_owned() {
        Ok(turn) => run(turn, work),
        // Never closed.
        Err(_) => by_itself(async move { turns.acquire_owned().await.map(|turn| run(turn, work)) })
            .await?
            .map_err(|_| Error::TaskLost)?,
    };
    running.await.map_err(|_| Error::TaskLost)
}

fn run<T, W>(turn: OwnedSemaphorePermit, work: W) -> JoinHandle<T>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(move || {
        let _until_the_end = turn;
        work()
    })
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn a_turn_that_comes_while_nobody_looks_is_used_and_over() {
        let turns = Arc::new(Semaphore::new(1));
        let first = Arc::clone(&turns).try_acquire_owned().unwrap();
        let mut unseen = Box::pin(in_turn(&turns, || 1));
        assert!(unseen.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let next = in_turn(&turns, || 2);
        drop(first);
        assert_eq!(next.await.unwrap(), 2);
        assert_eq!(unseen.await.unwrap(), 1);
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn who_goes_away_in_the_queue_leaves_it() {
        let turns = Arc::new(Semaphore::new(1));
        let first = Arc::clone(&turns).try_acquire_owned().unwrap();
        let mut gone = Box::pin(in_turn(&turns, || panic!("nobody wants it")));
        assert!(gone.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(gone);
        drop(first);
        in_turn(&turns, || ()).await.unwrap();
    }
}
