//! How far the reader of one stream is: between its calls and the component's loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arrow_schema::SchemaRef;
use sheaf_retry::SharedClock;
use tokio::sync::Notify;

use crate::durable::Queue;
use crate::wire::Feedback;

/// How long credits and acknowledgements are gathered before the sender is told of them.
const GATHER: Duration = Duration::from_millis(2);

/// One stream that is read.
pub(crate) struct Place {
    /// The edge, the component that sends, which instance of it, and its place in the registry.
    pub(crate) edge: Arc<str>,
    pub(crate) from: Arc<str>,
    pub(crate) from_instance: u32,
    pub(crate) sender: String,
    /// This instance.
    pub(crate) to: u32,
    credits: u64,
    /// Where its batches wait, where the edge is durable.
    pub(crate) queue: Option<Arc<Queue>>,
    state: Mutex<State>,
    changed: Notify,
    pub(crate) counts: Counts,
    /// Of its batches, once one has come.
    pub(crate) schema: OnceLock<SchemaRef>,
}

/// What was counted since the process began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Of the sender's process that is read.
    epoch: u64,
    /// The last sequence of it that came.
    last: u64,
    acknowledged: u64,
    /// That of the end mark, once it came.
    end: Option<u64>,
    /// Batches that came, and that the component's loop took, of any epoch.
    received: u64,
    handed: u64,
    /// The call, 0 before the first; and what had come before it.
    call: u64,
    before_call: u64,
    is_connected: bool,
    /// What the sender was told in this call.
    told: Feedback,
    /// Somebody was told that there is something to tell.
    is_due: bool,
    /// Nothing more is to be said but what is due.
    is_closed: bool,
}

/// What there is to tell a sender.
enum Told {
    /// This.
    Now(Feedback),
    /// Something, which can wait a little.
    Soon,
    /// Nothing at the moment.
    Nothing,
    /// Nothing any more.
    All,
}

/// How a place is, for people and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) is_connected: bool,
    pub(crate) has_ended: bool,
    pub(crate) credits: u64,
    pub(crate) waiting: u64,
    pub(crate) last: u64,
    pub(crate) acknowledged: u64,
}

/// What a call begins with.
pub(crate) struct Begun {
    pub(crate) call: u64,
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    pub(crate) feedback: Feedback,
}

impl Place {
    pub(crate) fn new(
        edge: Arc<str>,
        from: Arc<str>,
        sender: (String, u32),
        to: u32,
        credits: u32,
        queue: Option<Arc<Queue>>,
    ) -> Self {
        Place {
            edge,
            from,
            sender: sender.0,
            from_instance: sender.1,
            to,
            credits: u64::from(credits.max(1)),
            queue,
            state: Mutex::default(),
            changed: Notify::new(),
            counts: Counts::default(),
            schema: OnceLock::new(),
        }
    }

    /// Batches that may come before one is taken.
    pub(crate) fn credits(&self) -> u32 {
        u32::try_from(self.credits).unwrap_or(u32::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code below panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The component that sends, and which instance of it.
    pub(crate) fn stream(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.from), self.from_instance)
    }

    /// `EDGE FROM->TO`, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{} {}->{}", self.edge, self.from_instance, self.to)
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> Begun {
        let mut state = self.state();
        state.call += 1;
        state.before_call = state.received;
        state.told = self.feedback(&state);
        (state.is_due, state.is_connected) = (false, false);
        let (call, feedback) = (state.call, state.told);
        Begun { call, epoch: state.epoch, last: state.last, feedback }
    }

    /// The sender has answered: its epoch.
    pub(crate) fn connected(&self, epoch: u64) {
        let mut state = self.state();
        state.is_connected = true;
        if state.epoch != epoch {
            state.epoch = epoch;
            (state.last, state.acknowledged, state.end) = (0, 0, None);
            state.told.acknowledged = 0;
        }
        drop(state);
        self.changed.notify_waiters();
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The call is over.
    pub(crate) fn disconnected(&self) {
        self.state().is_connected = false;
    }

    /// A batch came; `false` where it is not newer than those before it.
    pub(crate) fn received(&self, sequence: u64, rows: u64, bytes: u64) -> bool {
        let mut state = self.state();
        state.received += 1;
        let is_new = sequence > state.last;
        state.last = state.last.max(sequence);
        drop(state);
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        self.counts.rows.fetch_add(rows, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        is_new
    }

    /// The end mark came.
    pub(crate) fn ended(&self, end: u64) {
        let mut state = self.state();
        state.end = Some(end);
        state.last = state.last.max(end);
    }

    /// The component's loop has taken a batch, so that another one may come.
    pub(crate) fn handed(&self) {
        let mut state = self.state();
        state.handed += 1;
        self.due(state);
    }

    /// All of this epoch up to this sequence is done with.
    pub(crate) fn acknowledge(&self, epoch: u64, sequence: u64) {
        let mut state = self.state();
        if state.epoch == epoch && sequence > state.acknowledged {
            state.acknowledged = sequence;
            self.due(state);
        }
    }

    /// Everything that came is done with, the end too.
    pub(crate) fn acknowledge_all(&self) {
        let mut state = self.state();
        state.acknowledged = state.last;
        self.due(state);
    }

    /// Nothing more is to be said but what is due.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_waiters();
    }

    /// Whether the sender was told that its end is done with, or need not be told any more.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state();
        state.is_closed || state.end.is_some_and(|end| state.told.acknowledged >= end)
    }

    /// What there is to tell the sender of this call, once there is something; `None` when all
    /// has been said.
    pub(crate) async fn next_feedback(&self, call: u64, clock: &SharedClock) -> Option<Feedback> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.look(call, false) {
                Told::Now(feedback) => return Some(feedback),
                Told::All => return None,
                Told::Nothing => changed.await,
                Told::Soon => tokio::select! {
                    biased;
                    () = changed => {}
                    () = clock.sleep(GATHER) => {
                        if let Told::Now(feedback) = self.look(call, true) {
                            return Some(feedback);
                        }
                    }
                },
            }
        }
    }

    /// What to tell now; `is_late` where it was gathered for long enough.
    fn look(&self, call: u64, is_late: bool) -> Told {
        let mut state = self.state();
        if state.call != call {
            return Told::All;
        }
        // Before the sender has said who it is, what is known may be of another one.
        if !state.is_connected {
            return Told::Nothing;
        }
        let now = self.feedback(&state);
        if now != state.told {
            if !is_late && !self.is_urgent(&state, now) {
                return Told::Soon;
            }
            state.told = now;
            state.is_due = false;
            return Told::Now(now);
        }
        state.is_due = false;
        if state.is_closed || state.end.is_some_and(|end| now.acknowledged >= end) {
            return Told::All;
        }
        Told::Nothing
    }

    fn feedback(&self, state: &State) -> Feedback {
        let credits = (self.credits + state.handed).saturating_sub(state.before_call);
        Feedback { credits, acknowledged: state.acknowledged }
    }

    /// Whether it is so much that it is told at once.
    fn is_urgent(&self, state: &State, now: Feedback) -> bool {
        let many = self.credits / 4;
        now.credits.saturating_sub(state.told.credits) > many
            || now.acknowledged.saturating_sub(state.told.acknowledged) > many
            || state.is_closed
            || state.end.is_some_and(|end| now.acknowledged >= end)
    }

    /// Wakes who tells the sender: when there is something at all, and when it is much.
    fn due(&self, mut state: MutexGuard<'_, State>) {
        let now = self.feedback(&state);
        let wakes = !state.is_due || self.is_urgent(&state, now);
        state.is_due = true;
        drop(state);
        if wakes {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            is_connected: state.is_connected,
            has_ended: state.end.is_some(),
            credits: self.credits.saturating_sub(state.received.saturating_sub(state.handed)),
            waiting: state.received.saturating_sub(state.handed),
            last: state.last,
            acknowledged: state.acknowledged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::SystemClock;

    fn place(credits: u32) -> Place {
        Place::new("a:b".into(), "a".into(), ("p:a".to_owned(), 0), 0, credits, None)
    }

    #[test]
    fn a_new_call_allows_no_more_than_there_is_room_for() {
        let place = place(4);
        assert_eq!(place.begin().feedback.credits, 4);
        place.connected(9);
        for sequence in 1..=3 {
            assert!(place.received(sequence, 1, 1));
        }
        place.handed();
        // Two wait still: two more may come.
        let begun = place.begin();
        assert_eq!((begun.feedback.credits, begun.epoch, begun.last), (2, 9, 3));
        place.handed();
        place.handed();
        assert_eq!(place.feedback(&place.state()).credits, 4);
    }

    #[test]
    fn another_process_of_the_sender_begins_anew() {
        let place = place(4);
        place.begin();
        place.connected(9);
        place.received(5, 1, 1);
        place.acknowledge(9, 5);
        place.begin();
        place.connected(10);
        place.acknowledge(9, 5);
        let begun = place.begin();
        assert_eq!((begun.epoch, begun.last, begun.feedback.acknowledged), (10, 0, 0));
        assert!(place.received(1, 1, 1));
        assert!(!place.received(1, 1, 1), "the same one twice");
    }

    #[tokio::test]
    async fn the_sender_is_told_and_then_no_more() {
        let (place, clock) = (place(4), SystemClock::shared());
        let call = place.begin().call;
        place.connected(9);
        place.received(1, 1, 1);
        place.handed();
        let told = place.next_feedback(call, &clock).await.unwrap();
        assert_eq!((told.credits, told.acknowledged), (5, 0));
        place.ended(2);
        place.acknowledge(9, 1);
        assert_eq!(place.next_feedback(call, &clock).await.unwrap().acknowledged, 1);
        assert!(!place.is_done());
        place.acknowledge(9, 2);
        assert_eq!(place.next_feedback(call, &clock).await.unwrap().acknowledged, 2);
        assert!(place.is_done());
        assert_eq!(place.next_feedback(call, &clock).await, None);
        place.begin();
        assert_eq!(place.next_feedback(call, &clock).await, None, "an older call");
    }
}
