//! Readers of events.

use sheaf_retry::Code;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::contract::Error;
use crate::request::{Change, Event, WatchFilter};

#[derive(Debug)]
struct Watcher {
    filter: WatchFilter,
    events: Sender<Event>,
    missed: u64,
}

impl Watcher {
    /// Tells how many were missed as soon as there is room to tell it.
    fn catch_up(&mut self) {
        if self.missed > 0 && self.events.try_send(Event::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
    }

    /// The last place is only for saying that something was missed: a reader
    /// that empties a full buffer always finds it, also when nothing more
    /// happens, and can look by itself at what is the case now.
    fn tell(&mut self, change: &Change) {
        self.catch_up();
        let event = match self.events.capacity() {
            1 => Event::Missed(1),
            _ => Event::Changed(change.clone()),
        };
        if self.missed > 0 || self.events.try_send(event).is_err() {
            self.missed += 1;
        }
    }
}

/// Readers of events: bounded in number, and in what is kept for a slow one.
#[derive(Debug)]
pub struct Watchers {
    all: Vec<Watcher>,
    limit: usize,
    buffer: usize,
}

impl Watchers {
    /// At most `limit` of them, with `buffer` events kept for each.
    pub fn new(limit: usize, buffer: usize) -> Self {
        Watchers { all: Vec::new(), limit, buffer: buffer.max(1) + 1 }
    }

    /// One more, of what happens from now on.
    ///
    /// # Errors
    /// `Unavailable` as overloaded for one too many, `Limit` for too long a filter.
    pub fn add(&mut self, filter: WatchFilter) -> Result<Receiver<Event>, Error> {
        crate::limits::at_most("ids", filter.ids.len(), crate::limits::MAX_ITEMS)?;
        self.tidy();
        if self.all.len() >= self.limit {
            let problem = format!("has {} readers of events, its limit", self.limit);
            return Err(Error::Unavailable { problem, code: Code::Overloaded });
        }
        let (events, receiver) = channel(self.buffer);
        self.all.push(Watcher { filter, events, missed: 0 });
        Ok(receiver)
    }

    /// Drops readers that are gone, and tells slow ones what they missed.
    pub fn tidy(&mut self) {
        self.all.retain(|watcher| !watcher.events.is_closed());
        self.all.iter_mut().for_each(Watcher::catch_up);
    }

    /// Whether nobody reads.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Tells all of them that something happened of which nobody knows how much.
    pub fn miss(&mut self) {
        for watcher in &mut self.all {
            watcher.missed += 1;
            watcher.catch_up();
        }
    }

    /// Tells those who asked for them.
    pub fn publish(&mut self, changes: &[Change]) {
        for watcher in &mut self.all {
            for change in changes {
                if watcher.filter.selects(change) {
                    watcher.tell(change);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Timestamp;

    use super::*;

    #[test]
    fn a_full_buffer_ends_with_word_of_what_is_missed() {
        let change = Change {
            id: "a".parse().unwrap(),
            queue: "q".to_owned(),
            from: None,
            to: None,
            at: Timestamp::EPOCH,
            worker: None,
            error: None,
            attempts: 0,
        };
        let mut watchers = Watchers::new(1, 2);
        let mut events = watchers.add(WatchFilter::default()).unwrap();
        let changes = vec![change; 5];
        watchers.publish(&changes);
        let mut read = || std::iter::from_fn(|| events.try_recv().ok()).collect::<Vec<_>>();
        let kept = Event::Changed(changes[0].clone());
        assert_eq!(read(), [kept.clone(), kept.clone(), Event::Missed(1)], "and nobody called");
        watchers.publish(&changes[..1]);
        assert_eq!(read(), [Event::Missed(2), kept]);
    }
}
