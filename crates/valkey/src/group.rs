//! Calls that come while others are on their way go together with the next.
//!
//! Who is told the end of his call asks for the next thing at once, so a call waits
//! until everybody who can run has run: one step of the runtime, not of a clock. It then
//! goes as one with what has come, in two halves where that is much: the server has work
//! while the answers of the other half are read. The server's fixed work for a call is
//! shared, and nobody waits longer than for two calls before his.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use sheaf_coordinator::Error;
use sheaf_retry::{Class, Retryable as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Semaphore, oneshot};

/// Calls on their way at once.
const ON_THEIR_WAY: usize = 2;
/// Calls that come together and go as one, before there are halves.
const MIN_SHARE: usize = 8;
/// Calls that go as one.
const MAX_CALLS: usize = 64;
/// Calls that have so many things go as they are: with more of them the server would only
/// wait longer for the first of them, and all callers for each other.
const MAX_SIZE: usize = 64;
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
}

/// The other end, for [`lead`].
pub(crate) struct Queue<C, R> {
    waiting: Receiver<Waiting<C, R>>,
}

impl<C, R> Group<C, R> {
    pub(crate) fn new() -> (Self, Queue<C, R>) {
        let (sender, waiting) = channel(MAX_WAITING);
        (Group { waiting: sender }, Queue { waiting })
    }

    /// Does a call, with others that come at the same time. Dropped, it may still happen.
    pub(crate) async fn call(&self, call: C, size: usize) -> Result<R, Error> {
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
    let permits = Arc::new(Semaphore::new(ON_THEIR_WAY));
    // Callers of those that are on their way: they come again.
    let away = Arc::new(AtomicUsize::new(0));
    while let Some(first) = queue.waiting.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        tokio::task::yield_now().await;
        let callers = 1 + queue.waiting.len() + away.load(Ordering::Relaxed);
        let most = callers.div_ceil(ON_THEIR_WAY).clamp(MIN_SHARE, MAX_CALLS);
        let mut size = first.1;
        let mut all = vec![first];
        while all.len() < most && size < MAX_SIZE {
            let Ok(next) = queue.waiting.try_recv() else { break };
            size += next.1;
            all.push(next);
        }
        let (run, away) = (Arc::clone(&run), Arc::clone(&away));
        let count = all.len();
        away.fetch_add(count, Ordering::Relaxed);
        tokio::spawn(async move {
            let _permit = permit;
            go(all, &run).await;
            away.fetch_sub(count, Ordering::Relaxed);
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

    fn refused() -> Error {
        Error::Draining { queue: "q".to_owned() }
    }

    type Sizes = Arc<std::sync::Mutex<Vec<usize>>>;

    /// Doubles numbers, but refuses 7; notes how many went as one.
    fn doubling(sizes: &Sizes, release: Option<Arc<Notify>>) -> Run<u32, u32> {
        let sizes = Arc::clone(sizes);
        Box::new(move |calls| {
            sizes.lock().unwrap().push(calls.len());
            let release = release.clone();
            async move {
                if let Some(release) = release {
                    release.notified().await;
                }
                if calls.contains(&7) {
                    return Err(refused());
                }
                Ok(calls.iter().map(|n| n * 2).collect())
            }
            .boxed()
        })
    }

    type Calls = Vec<tokio::task::JoinHandle<Result<u32, Error>>>;

    fn calls(group: &Arc<Group<u32, u32>>, numbers: impl IntoIterator<Item = u32>) -> Calls {
        let call = |n| {
            let group = Arc::clone(group);
            tokio::spawn(async move { group.call(n, 1).await })
        };
        numbers.into_iter().map(call).collect()
    }

    async fn all(calls: Calls) -> Vec<Result<u32, Error>> {
        let mut answers = Vec::new();
        for call in calls {
            let answer = tokio::time::timeout(Duration::from_secs(30), call).await;
            answers.push(answer.unwrap().unwrap());
        }
        answers
    }

    #[tokio::test]
    async fn calls_that_come_together_go_as_one_and_are_told_apart() {
        let (group, queue) = Group::new();
        let (group, sizes) = (Arc::new(group), Sizes::default());
        let leader = tokio::spawn(lead(queue, doubling(&sizes, None)));
        let answers = all(calls(&group, [5, 6, 7])).await;
        assert_eq!(answers[0].as_ref().unwrap(), &10);
        assert_eq!(answers[1].as_ref().unwrap(), &12);
        assert_eq!(answers[2].as_ref().unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(*sizes.lock().unwrap(), [3, 1, 1, 1], "as one, then each by itself");
        assert_eq!(group.call(1, 1).await.unwrap(), 2);
        assert_eq!(sizes.lock().unwrap().last(), Some(&1));
        drop(group);
        leader.await.unwrap();
    }

    #[tokio::test]
    async fn many_calls_are_halved_and_others_wait_while_both_are_on_their_way() {
        let (group, queue) = Group::new();
        let (group, sizes) = (Arc::new(group), Sizes::default());
        let release = Arc::new(Notify::new());
        let leader = tokio::spawn(lead(queue, doubling(&sizes, Some(Arc::clone(&release)))));
        let first = calls(&group, 100..140);
        while sizes.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        let more = calls(&group, 200..203);
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*sizes.lock().unwrap(), [20, 20]);
        release.notify_waiters();
        all(first).await;
        while sizes.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        release.notify_waiters();
        all(more).await;
        assert_eq!(*sizes.lock().unwrap(), [20, 20, 3]);
        drop(group);
        leader.await.unwrap();
    }
}
