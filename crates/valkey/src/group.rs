//! Calls that come while others are on their way go together with the next.
//!
//! A call that comes alone goes at once. What comes while as many calls as may
//! be are on their way waits for one of them to end, and then goes as one with
//! all that wait: the server's fixed work for a call is shared, and nobody
//! waits longer than for one call before his.

use std::sync::Arc;

use futures::future::BoxFuture;
use sheaf_coordinator::Error;
use sheaf_retry::{Class, Retryable as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Semaphore, oneshot};

/// Calls on their way at once.
const ON_THEIR_WAY: usize = 2;
/// Calls that go as one.
const MAX_CALLS: usize = 64;
/// Things of which calls that go as one have, beyond those of the first.
const MAX_SIZE: usize = 256;
/// Calls that wait; more wait to be among them.
const MAX_WAITING: usize = 1_024;

/// A call, its size, and who waits for its answer.
type Waiting<C, R> = (C, usize, oneshot::Sender<Result<R, Error>>);

/// Does several calls as one: all of them, or none and an error.
pub(crate) type Run<C, R> =
    Box<dyn Fn(Arc<Vec<C>>) -> BoxFuture<'static, Result<Vec<R>, Error>> + Send + Sync>;

/// See the module.
pub(crate) struct Group<C, R> {
    waiting: Sender<Waiting<C, R>>,
    permits: Arc<Semaphore>,
}

/// The other end, for [`lead`].
pub(crate) struct Queue<C, R> {
    waiting: Receiver<Waiting<C, R>>,
    permits: Arc<Semaphore>,
}

impl<C, R> Group<C, R> {
    pub(crate) fn new() -> (Self, Queue<C, R>) {
        let (sender, waiting) = channel(MAX_WAITING);
        let permits = Arc::new(Semaphore::new(ON_THEIR_WAY));
        let group = Group { waiting: sender, permits: Arc::clone(&permits) };
        (group, Queue { waiting, permits })
    }

    /// Does a call, alone or with others. Dropped, it may still happen.
    pub(crate) async fn call(
        &self,
        call: C,
        size: usize,
        alone: impl AsyncFnOnce(C) -> Result<R, Error>,
    ) -> Result<R, Error> {
        // Those that wait go first.
        let is_first = self.waiting.capacity() == MAX_WAITING;
        if is_first && let Ok(_permit) = self.permits.try_acquire() {
            return alone(call).await;
        }
        let (sender, answer) = oneshot::channel();
        if self.waiting.send((call, size, sender)).await.is_err() {
            return Err(closed());
        }
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Error {
    Error::Unavailable { problem: "is closed".to_owned(), code: sheaf_retry::Code::Unavailable }
}

/// Lets those that wait go, until nobody can come any more.
pub(crate) async fn lead<C, R>(mut queue: Queue<C, R>, run: Run<C, R>)
where
    C: Clone + Send + Sync + 'static,
    R: Send + 'static,
{
    let run = Arc::new(run);
    while let Some(first) = queue.waiting.recv().await {
        let Ok(permit) = Arc::clone(&queue.permits).acquire_owned().await else { return };
        let mut size = 0;
        let mut all = vec![first];
        while all.len() < MAX_CALLS && size < MAX_SIZE {
            let Ok(next) = queue.waiting.try_recv() else { break };
            size += next.1;
            all.push(next);
        }
        let run = Arc::clone(&run);
        tokio::spawn(async move {
            let _permit = permit;
            go(all, &run).await;
        });
    }
}

/// Does these calls and tells everybody what became of his.
async fn go<C: Clone, R>(all: Vec<Waiting<C, R>>, run: &Run<C, R>) {
    let (calls, callers): (Vec<C>, Vec<_>) =
        all.into_iter().map(|(call, _, caller)| (call, caller)).unzip();
    let calls = Arc::new(calls);
    let tell = |caller: oneshot::Sender<Result<R, Error>>, answer| {
        // Who no longer waits is not told.
        drop(caller.send(answer));
    };
    match run(Arc::clone(&calls)).await {
        Ok(answers) => {
            for (caller, answer) in callers.into_iter().zip(answers) {
                tell(caller, Ok(answer));
            }
        }
        // One of them is refused: each by itself tells which.
        Err(error) if callers.len() > 1 && error.code().class() == Class::Permanent => {
            for (caller, call) in callers.into_iter().zip(calls.iter()) {
                let answer = run(Arc::new(vec![call.clone()])).await;
                tell(caller, answer.and_then(|mut answers| answers.pop().ok_or_else(closed)));
            }
        }
        Err(error) if callers.len() > 1 => {
            let (code, problem) = (error.code(), format!("did not answer: {}", chain(&error)));
            for caller in callers {
                tell(caller, Err(Error::Unavailable { problem: problem.clone(), code }));
            }
        }
        Err(error) => {
            if let Some(caller) = callers.into_iter().next() {
                tell(caller, Err(error));
            }
        }
    }
}

fn chain(error: &Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use sheaf_retry::Code;
    use tokio::sync::Notify;

    use super::*;

    async fn alone(number: u32) -> Result<u32, Error> {
        Ok(number)
    }

    fn refused() -> Error {
        Error::Draining { queue: "q".to_owned() }
    }

    #[tokio::test]
    async fn calls_that_wait_go_as_one_and_are_told_apart() {
        let (group, queue) = Group::<u32, u32>::new();
        let group = Arc::new(group);
        let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let run: Run<u32, u32> = Box::new(move |calls| {
            seen.lock().unwrap().push(calls.len());
            let bad = calls.contains(&7);
            async move { if bad { Err(refused()) } else { Ok(calls.iter().map(|n| n * 2).collect()) } }
                .boxed()
        });
        let release = Arc::new(Notify::new());
        let mut holders = Vec::new();
        for _ in 0..ON_THEIR_WAY {
            let (group, release) = (Arc::clone(&group), Arc::clone(&release));
            holders.push(tokio::spawn(async move {
                group
                    .call(1, 1, async |n| {
                        release.notified().await;
                        alone(n).await
                    })
                    .await
            }));
        }
        tokio::task::yield_now().await;
        let calls = [5, 6, 7].map(|n| {
            let group = Arc::clone(&group);
            tokio::spawn(async move { group.call(n, 1, alone).await })
        });
        while group.waiting.capacity() > MAX_WAITING - 3 {
            tokio::task::yield_now().await;
        }
        let leader = tokio::spawn(lead(queue, run));
        release.notify_waiters();
        let mut answers = Vec::new();
        for call in calls {
            answers
                .push(tokio::time::timeout(Duration::from_secs(30), call).await.unwrap().unwrap());
        }
        assert_eq!(answers[0].as_ref().unwrap(), &10);
        assert_eq!(answers[1].as_ref().unwrap(), &12);
        assert_eq!(answers[2].as_ref().unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(*sizes.lock().unwrap(), [3, 1, 1, 1], "as one, then each by itself");
        drop(group);
        for holder in holders {
            holder.await.unwrap().unwrap();
        }
        leader.await.unwrap();
    }
}
