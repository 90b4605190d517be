//! Readers of changes.

use std::sync::Arc;

use sheaf_retry::Code;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::error::Error;
use super::model::{Change, Filter};

/// What a reader of changes is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A component has changed.
    Changed(Arc<Change>),
    /// So many events were missed: look at what is the case now.
    Missed(u64),
    /// What was there at the beginning has been said, so many components.
    Current(u64),
}

struct Watcher {
    filter: Filter,
    events: Sender<Event>,
    missed: u64,
}

impl Watcher {
    fn catch_up(&mut self) -> u64 {
        if self.missed > 0 && self.events.try_send(Event::Missed(self.missed)).is_ok() {
            return std::mem::take(&mut self.missed);
        }
        0
    }

    /// The last place is for saying that something was missed: who empties a full
    /// buffer always finds it.
    fn tell(&mut self, change: &Arc<Change>) {
        self.catch_up();
        let is_last = self.events.capacity() <= 1;
        let event = if is_last { Event::Missed(1) } else { Event::Changed(Arc::clone(change)) };
        if self.missed > 0 || self.events.try_send(event).is_err() {
            self.missed += 1;
        }
    }
}

/// All readers, each with a buffer of its own; nobody waits for a slow one.
pub(crate) struct Watchers {
    all: Vec<Watcher>,
    limit: usize,
    buffer: usize,
}

impl Watchers {
    pub(crate) fn new(limit: usize, buffer: usize) -> Self {
        Watchers { all: Vec::new(), limit, buffer: buffer.max(1) + 1 }
    }

    pub(crate) fn add(&mut self, filter: Filter) -> Result<Receiver<Event>, Error> {
        self.tidy();
        if self.all.len() >= self.limit {
            let problem = format!("has {} readers of events, its limit; end one", self.limit);
            return Err(Error::Unavailable { problem, code: Code::Overloaded });
        }
        let (events, receiver) = channel(self.buffer);
        self.all.push(Watcher { filter, events, missed: 0 });
        Ok(receiver)
    }

    /// Drops readers that are gone, and tells slow ones what they missed.
    pub(crate) fn tidy(&mut self) {
        self.all.retain(|watcher| !watcher.events.is_closed());
        for watcher in &mut self.all {
            watcher.catch_up();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn publish(&mut self, change: Change) {
        let change = Arc::new(change);
        for watcher in &mut self.all {
            if watcher.filter.selects_change(&change) {
                watcher.tell(&change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::component;
    use super::*;
    use sheaf_retry::Timestamp;

    fn change(id: &str) -> Change {
        let component = Arc::new(component(id));
        Change { component, before: None, at: Timestamp::EPOCH, removed: false }
    }

    #[test]
    fn a_full_buffer_ends_with_word_of_what_is_missed() {
        let mut watchers = Watchers::new(1, 2);
        let mut events = watchers.add(Filter::default()).unwrap();
        (0..5).for_each(|_| watchers.publish(change("a")));
        let mut read = || std::iter::from_fn(|| events.try_recv().ok()).collect::<Vec<_>>();
        let kept = Event::Changed(Arc::new(change("a")));
        assert_eq!(read(), [kept.clone(), kept.clone(), Event::Missed(1)], "and nobody called");
        watchers.publish(change("a"));
        assert_eq!(read(), [Event::Missed(2), kept]);
    }

    #[test]
    fn readers_are_limited_and_make_room_when_they_go() {
        let mut watchers = Watchers::new(1, 2);
        let first = watchers.add(Filter::default()).unwrap();
        assert!(watchers.add(Filter::default()).is_err());
        drop(first);
        watchers.add(Filter::default()).unwrap();
        assert_eq!(watchers.len(), 1);
    }

    #[test]
    fn a_filter_leaves_out_what_it_does_not_name() {
        let mut watchers = Watchers::new(1, 2);
        let filter = Filter { ids: vec!["b".to_owned()], ..Filter::default() };
        let mut events = watchers.add(filter).unwrap();
        watchers.publish(change("a"));
        watchers.publish(change("b"));
        assert_eq!(events.try_recv().unwrap(), Event::Changed(Arc::new(change("b"))));
        assert!(events.try_recv().is_err());
    }
}
