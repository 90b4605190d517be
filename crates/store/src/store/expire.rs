//! Deletes what is past its time, and only that.
//!
//! Every payload has one time at which it is looked at. Its owner is asked
//! then, about many payloads at once, and the answer says whether it goes or
//! when it is looked at next. What the owner does not answer is kept.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sheaf_proto::BatchId;
use sheaf_retry::{Retryable as _, Timestamp};

use super::entry::Entry;
use super::{Inner, Store};
use crate::error::Error;
use crate::retention::Standing;

/// Payloads asked about at once.
const ASK: usize = 256;
/// Longest sleep: a clock that was set back is noticed after this.
const LONGEST: Duration = Duration::from_secs(60);
/// Work that is not over is looked at again after this, should nobody say
/// sooner that it is.
pub(super) const LIVE: Duration = Duration::from_secs(600);

impl Store {
    /// Says that the work on these payloads is over, so that they need not wait
    /// for their next look: the owner is asked what became of them. Unknown
    /// names are passed over.
    pub fn completed(&self, ids: &[BatchId]) {
        let inner = &self.inner;
        let after = match inner.options.delete_on_completion {
            true => Duration::ZERO,
            false => inner.options.ttl,
        };
        let at = inner.now().plus(after);
        for id in ids {
            if let Some(entry) = inner.index.get(id) {
                inner.index.schedule(&entry, at);
            }
        }
        inner.unmark_later(ids);
    }
}

pub(super) fn start(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    inner.tasks.spawn(run(weak));
}

/// Ends when the store closes or is gone.
async fn run(weak: Weak<Inner>) {
    let mut failures = 0;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let due = take_due(&inner);
        if due.is_empty() {
            let closing = inner.closing.clone();
            let wait = wait_for(&inner);
            let (clock, index) = (Arc::clone(&inner.clock), Arc::clone(&inner.index));
            drop(inner);
            tokio::select! {
                () = closing.cancelled() => return,
                () = index.due.notified() => {}
                () = clock.sleep(wait) => {}
            }
            continue;
        }
        if inner.closing.is_cancelled() {
            return;
        }
        look_at(&inner, due, &mut failures).await;
    }
}

fn wait_for(inner: &Inner) -> Duration {
    if let Some(left) = inner.held_for() {
        return left.min(LONGEST);
    }
    let next = inner.index.state().deadlines.peek().map(|Reverse((at, _))| *at);
    next.map_or(LONGEST, |at| at.since(inner.now()).min(LONGEST))
}

/// Entries whose time has come, no more than are asked about at once; none
/// while payloads are held.
fn take_due(inner: &Inner) -> Vec<Arc<Entry>> {
    let now = inner.now();
    let mut due = Vec::new();
    if inner.held_for().is_some() {
        return due;
    }
    let mut state = inner.index.state();
    while due.len() < ASK
        && let Some(Reverse((at, _))) = state.deadlines.peek()
        && *at <= now
    {
        let Some(Reverse((at, id))) = state.deadlines.pop() else { break };
        if let Some(entry) = state.entries.get(&id)
            && entry.due_at.load(Ordering::Relaxed) == at.as_micros()
            && !entry.is_pinned()
        {
            due.push(Arc::clone(entry));
        }
    }
    due
}

async fn look_at(inner: &Arc<Inner>, due: Vec<Arc<Entry>>, failures: &mut u32) {
    let asked_at = inner.now();
    let asked: Vec<_> = due.iter().map(|entry| entry.asked()).collect();
    let asking = inner.options.owner.standings(&asked);
    let Some(answer) = inner.closing.run_until_cancelled(asking).await else { return };
    let standings = match answer {
        Ok(standings) if standings.len() == due.len() => {
            *failures = 0;
            standings
        }
        wrong => {
            let policy = &inner.options.ask_again;
            let seed = sheaf_retry::Jitter::seed_of(asked[0].id.as_str());
            let cap = Duration::from_millis(policy.cap_ms);
            let mut wait = policy.delay_seeded(*failures, seed).unwrap_or(cap);
            *failures = failures.saturating_add(1);
            inner.metrics.owner_failures.inc();
            if let Err(error) = &wrong {
                wait = wait.max(error.retry_after().unwrap_or_default());
                tracing::warn!(%error, kept = due.len(), "the owner of payloads cannot be asked");
            }
            for entry in &due {
                inner.index.schedule(entry, asked_at.plus(wait));
            }
            return;
        }
    };
    // Over, or forgotten by the owner that knew it.
    let over = asked.iter().zip(&standings).filter(|(_, standing)| !standing.is_needed());
    inner.unmark_asked(over.map(|(asked, _)| asked)).await;
    // Side by side, so that their directories are synced together.
    let mut expiring = Vec::new();
    for (entry, standing) in due.iter().zip(standings) {
        match next_look(inner, entry, standing, asked_at) {
            Some(at) => inner.index.schedule(entry, at),
            None => expiring.push(expire(inner, entry, asked_at)),
        }
    }
    futures::future::join_all(expiring).await;
}

/// When to look again; `None` for a payload that is past its time.
fn next_look(
    inner: &Inner,
    entry: &Entry,
    standing: Standing,
    now: Timestamp,
) -> Option<Timestamp> {
    let ttl = inner.options.ttl;
    match standing {
        Standing::Live | Standing::Lost => {
            Some(now.plus(ttl.min(LIVE).max(Duration::from_millis(1))))
        }
        Standing::Completed { .. } if inner.options.delete_on_completion => None,
        // Since then or since its last use: a ticket says so long.
        Standing::Completed { since } | Standing::Terminal { since } => {
            let until = now.plus(ttl.saturating_sub(since)).max(entry.used_at().plus(ttl));
            (until > now).then_some(until)
        }
        Standing::Unregistered => {
            let until = entry.used_at().plus(ttl);
            (until > now).then_some(until)
        }
    }
}

async fn expire(inner: &Arc<Inner>, entry: &Arc<Entry>, asked_at: Timestamp) {
    let id = entry.as_put().id.clone();
    let later = asked_at.plus(inner.options.ttl.min(LIVE).max(Duration::from_millis(1)));
    let (_claim, current) = inner.index.claim(&id).await;
    if !current.is_some_and(|current| Arc::ptr_eq(&current, entry)) {
        return;
    }
    if entry.is_pinned() {
        return inner.index.schedule(entry, later);
    }
    match inner.remove(entry, Some(asked_at)).await {
        Ok(true) => {
            inner.metrics.expired.inc();
        }
        // Put, read or looked up again since the owner was asked.
        Ok(false) => inner.index.schedule(entry, later),
        // Held since it was found due: as soon as the hold ends.
        Err(Error::Held { .. }) => inner.index.schedule(entry, asked_at),
        Err(error) => {
            tracing::warn!(payload = %id, %error, "an expired payload stays for now");
            inner.index.schedule(entry, later);
        }
    }
}
