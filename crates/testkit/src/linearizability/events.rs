//! Invocations and returns in the order of time, as a list from which the search
//! takes what it has placed, and into which it puts that back.

use super::Operation;

/// One end of an operation, which is named by its place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Invoked(usize),
    Returned(usize),
}

/// A place in the list; `0` is the end, before the first and after the last.
pub(super) type Place = usize;

/// The list is circular, linked in both ways, and starts at the sentinel `0`.
pub(super) struct Events {
    events: Vec<Event>,
    next: Vec<Place>,
    previous: Vec<Place>,
    /// Where each operation's return stands; `0` where there is none.
    returns: Vec<Place>,
}

impl Events {
    pub(super) fn new<O, R>(history: &[Operation<O, R>]) -> Self {
        let mut timed: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * history.len());
        for (index, operation) in history.iter().enumerate() {
            timed.push((operation.invoked, false, index));
            timed.extend(operation.returned_at().map(|at| (at, true, index)));
        }
        // Invocations first where times are equal: what touches overlaps.
        timed.sort_unstable();
        let count = timed.len() + 1;
        let mut returns = vec![0; history.len()];
        // Of the sentinel, which nobody reads.
        let mut events = vec![Event::Invoked(usize::MAX)];
        for (_, is_return, index) in timed {
            if is_return {
                returns[index] = events.len();
                events.push(Event::Returned(index));
            } else {
                events.push(Event::Invoked(index));
            }
        }
        let next = (1..=count).map(|place| place % count).collect();
        let previous = (0..count).map(|place| (place + count - 1) % count).collect();
        Events { events, next, previous, returns }
    }

    pub(super) fn first(&self) -> Place {
        self.next[0]
    }

    pub(super) fn after(&self, place: Place) -> Place {
        self.next[place]
    }

    pub(super) fn at(&self, place: Place) -> Option<Event> {
        (place != 0).then(|| self.events[place])
    }

    /// Takes out both ends of the operation whose invocation stands here.
    pub(super) fn take(&mut self, invocation: Place) {
        self.unlink(invocation);
        if let Some(back) = self.return_of(invocation) {
            self.unlink(back);
        }
    }

    /// Undoes the last [`Events::take`] that is not undone, which was of this place.
    pub(super) fn put_back(&mut self, invocation: Place) {
        if let Some(back) = self.return_of(invocation) {
            self.link(back);
        }
        self.link(invocation);
    }

    fn return_of(&self, invocation: Place) -> Option<Place> {
        let (Event::Invoked(index) | Event::Returned(index)) = self.events[invocation];
        Some(self.returns[index]).filter(|place| *place != 0)
    }

    fn unlink(&mut self, place: Place) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, place: Place) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }
}
