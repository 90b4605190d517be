//! The one thread that changes the registry, and has it on disk before it
//! answers.

use std::collections::BTreeSet;

use sheaf_retry::{Retryable as _, SharedClock};
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::registry::{Change, Error, Key, Now, Registry, Touched, Watchers};
use crate::state::Disk;

/// Calls that share one commit at most.
const GROUP: usize = 256;

/// What has to be true before a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// What it changed is on disk, or nothing is changed.
    Hard,
    /// What it changed is written with what comes next.
    Soft,
    /// What others left to be written is written, if it can be.
    Flush,
}

/// Answers a call, with the error if what it changed could not be kept.
pub(super) type Reply = Box<dyn FnOnce(Option<Error>) + Send>;
type Run = Box<dyn FnOnce(&mut Core, Now) -> Reply + Send>;

pub(super) enum Job {
    Call(Durability, Run),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// All that the thread has.
pub(super) struct Core {
    pub(super) registry: Registry,
    pub(super) watchers: Watchers,
    disk: Option<Disk>,
    clock: SharedClock,
    metrics: Metrics,
    /// What is not on disk yet as it is.
    soft: BTreeSet<Key>,
}

/// Calls that were run and wait for their commit.
#[derive(Default)]
struct Group {
    hard: Touched,
    changes: Vec<(bool, Change)>,
    replies: Vec<(bool, Reply)>,
    is_flush: bool,
}

impl Core {
    pub(super) fn new(
        registry: Registry,
        watchers: Watchers,
        disk: Option<Disk>,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        Core { registry, watchers, disk, clock, metrics, soft: BTreeSet::new() }
    }

    /// Takes records of components off the disk that are not in the registry.
    pub(super) fn without(mut self, stray: Vec<String>) -> Self {
        self.soft.extend(stray.into_iter().map(Key::Component));
        self
    }

    /// Until it is closed, or nobody is there who could call.
    pub(super) fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut closed = None;
        while let Some(job) = jobs.blocking_recv() {
            let mut group = Group::default();
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Call(durability, run) => self.run(&mut group, durability, run),
                    Job::Close(reply) => closed = Some(reply),
                }
                if closed.is_none() && group.replies.len() < GROUP {
                    next = jobs.try_recv().ok();
                }
            }
            self.finish(group);
            if closed.is_some() {
                break;
            }
        }
        let flushed = self.close();
        // The file is free before anybody hears of it.
        drop(self);
        if let Some(reply) = closed {
            // Who closed it may have gone.
            drop(reply.send(flushed));
        }
    }

    fn run(&mut self, group: &mut Group, durability: Durability, run: Run) {
        let now = Now::of(&*self.clock);
        let reply = run(self, now);
        let touched = self.registry.take_touched();
        let is_hard = durability == Durability::Hard && !touched.is_empty();
        let changes = self.registry.take_changes().into_iter();
        group.changes.extend(changes.map(|change| (is_hard, change)));
        group.replies.push((is_hard, reply));
        group.is_flush |= durability == Durability::Flush;
        match is_hard {
            true => group.hard.extend(touched),
            false => self.soft.extend(touched.keys().cloned()),
        }
    }

    /// Commits, tells everybody, answers: in this order.
    fn finish(&mut self, group: Group) {
        let Group { hard, changes, replies, is_flush } = group;
        let is_due = !hard.is_empty() || (is_flush && !self.soft.is_empty());
        let failure = if is_due { self.commit(&hard).err() } else { None };
        let is_news = is_flush || !changes.is_empty();
        let mut undone = BTreeSet::new();
        if let Some(error) = &failure {
            tracing::error!(code = %error.code(), error = %chain(error), "the state of the control plane could not be written");
            undone.extend(hard.keys().cloned());
            self.registry.undo(hard);
        }
        for (_, change) in changes {
            if !undone.contains(&Key::Component(change.component.id.clone())) {
                self.metrics.changed(&change);
                self.watchers.publish(change);
            }
        }
        self.watchers.tidy();
        // Counting all components costs something: not for every beat.
        if is_news {
            self.metrics.count(&self.registry, self.watchers.len());
        }
        for (is_hard, reply) in replies {
            reply(failure.as_ref().filter(|_| is_hard).map(again));
        }
    }

    fn commit(&mut self, hard: &Touched) -> Result<(), Error> {
        let Some(disk) = &mut self.disk else {
            self.soft.clear();
            return Ok(());
        };
        let keys: BTreeSet<&Key> = hard.keys().chain(&self.soft).collect();
        let written = disk.commit(&self.registry, keys.into_iter());
        match &written {
            Ok(()) => self.soft.clear(),
            Err(_) => self.metrics.failed(),
        }
        written
    }

    /// Writes down everything, beats included.
    fn close(&mut self) -> Result<(), Error> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let filter = crate::registry::Filter::default();
        let all = self.registry.select(&filter);
        let mut keys: BTreeSet<Key> =
            all.map(|component| Key::Component(component.id.clone())).collect();
        keys.append(&mut self.soft);
        disk.commit(&self.registry, keys.iter())
    }
}

/// The same error for one more caller.
fn again(error: &Error) -> Error {
    Error::State { operation: chain(error), code: error.code(), source: None }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// A call with the way to its answer.
pub(super) fn job<T, F>(
    durability: Durability,
    metrics: Metrics,
    call: F,
) -> (Job, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Core, Now) -> Result<T, Error> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let run: Run = Box::new(move |core, now| {
        let result = call(core, now);
        Box::new(move |failure| {
            let result = match failure {
                Some(failure) => result.and(Err(failure)),
                None => result,
            };
            if let Err(error) = &result {
                metrics.refused(error);
            }
            // The caller may have gone.
            drop(answer.send(result));
        })
    });
    (Job::Call(durability, run), answered)
}

/// Begins to serve on a thread of its own, which waits for the disk.
pub(super) fn spawn(core: Core, jobs: mpsc::Receiver<Job>) -> Result<(), Error> {
    let spawned = std::thread::Builder::new()
        .name("control-plane".to_owned())
        .spawn(move || core.serve(jobs));
    spawned.map(drop).map_err(|error| Error::State {
        operation: "start the thread of the control plane".to_owned(),
        code: sheaf_retry::Code::Overloaded,
        source: Some(Box::new(error)),
    })
}
