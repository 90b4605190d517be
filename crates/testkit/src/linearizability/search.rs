//! The search: place an operation whenever the model allows it, take the last one
//! back where nothing goes on, never try one configuration twice.

use std::collections::HashSet;

use super::events::{Event, Events, Place};
use super::set::{Set, Trimmed};
use super::verdict::{Stuck, Verdict, Violation};
use super::{Model, Operation};

/// Operations placed, of known and of unknown outcome, and the state they led to.
type Configuration<S> = (Trimmed, Trimmed, S);

pub(super) struct Search<'a, M: Model> {
    history: &'a [Operation<M::Op, M::Ret>],
    events: Events,
    /// Of each operation its number among those of its kind, by invocation.
    numbers: Vec<usize>,
    known: Set,
    unknown: Set,
    state: M::State,
    /// What was placed, and the state before it.
    placed: Vec<(Place, M::State)>,
    seen: HashSet<Configuration<M::State>>,
    /// Known operations that are not placed.
    missing: usize,
    /// Where it came no further, the latest in time.
    stuck: Option<Stuck<M::State>>,
    work: u64,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(
        initial: M::State,
        history: &'a [Operation<M::Op, M::Ret>],
        work: u64,
    ) -> Self {
        let missing = history.iter().filter(|operation| operation.ret().is_some()).count();
        Search {
            history,
            events: Events::new(history),
            numbers: numbers(history),
            known: Set::default(),
            unknown: Set::default(),
            state: initial,
            placed: Vec::new(),
            seen: HashSet::new(),
            missing,
            stuck: None,
            work,
        }
    }

    pub(super) fn run(mut self) -> Verdict {
        let mut steps = 0;
        let mut place = self.events.first();
        while self.missing > 0 {
            match self.events.at(place) {
                Some(Event::Invoked(index)) => {
                    if steps == self.work {
                        return Verdict::Undecided { steps };
                    }
                    steps += 1;
                    let went = self.place(place, index);
                    place = if went { self.events.first() } else { self.events.after(place) };
                }
                // It should be placed by now, and cannot be; nor can one before the end.
                end => {
                    if let Some(Event::Returned(index)) = end {
                        self.note(place, index);
                    }
                    let Some(taken) = self.take_back() else {
                        return Verdict::Violation(self.violation());
                    };
                    place = self.events.after(taken);
                }
            }
        }
        Verdict::Linearizable
    }

    /// Lets the operation happen now, if the model allows it here and this is new.
    fn place(&mut self, place: Place, index: usize) -> bool {
        let operation = &self.history[index];
        let is_known = operation.ret().is_some();
        let Some(after) = M::step(&self.state, &operation.op, operation.ret()) else {
            return false;
        };
        // Whether something happens that nobody sees is all the same.
        if !is_known && after == self.state {
            return false;
        }
        let number = self.numbers[index];
        self.kind(is_known).insert(number);
        if !self.seen.insert((self.known.trimmed(), self.unknown.trimmed(), after.clone())) {
            self.kind(is_known).remove(number);
            return false;
        }
        self.events.take(place);
        self.missing -= usize::from(is_known);
        let before = std::mem::replace(&mut self.state, after);
        self.placed.push((place, before));
        true
    }

    fn take_back(&mut self) -> Option<Place> {
        let (place, before) = self.placed.pop()?;
        self.state = before;
        if let Some(Event::Invoked(index)) = self.events.at(place) {
            let is_known = self.history[index].ret().is_some();
            let number = self.numbers[index];
            self.kind(is_known).remove(number);
            self.missing += usize::from(is_known);
        }
        self.events.put_back(place);
        Some(place)
    }

    fn kind(&mut self, is_known: bool) -> &mut Set {
        if is_known { &mut self.known } else { &mut self.unknown }
    }

    /// Remembers the latest return that some order reached and none could pass: the
    /// history up to just before it is linearizable, with it it is not.
    fn note(&mut self, place: Place, culprit: usize) {
        match &mut self.stuck {
            Some(stuck) if stuck.place > place => return,
            Some(stuck) if stuck.place == place => return stuck.add(&self.state),
            _ => {}
        }
        let recent = self.placed.iter().rev().take(Stuck::<M::State>::SHOWN);
        let mut before: Vec<usize> = recent.filter_map(|(at, _)| self.invoked(*at)).collect();
        before.reverse();
        let mut open = Vec::new();
        let mut at = self.events.first();
        while at != place && open.len() < Stuck::<M::State>::SHOWN {
            open.extend(self.invoked(at).filter(|index| *index != culprit));
            at = self.events.after(at);
        }
        self.stuck = Some(Stuck { place, culprit, before, open, states: vec![self.state.clone()] });
    }

    fn invoked(&self, place: Place) -> Option<usize> {
        match self.events.at(place) {
            Some(Event::Invoked(index)) => Some(index),
            _ => None,
        }
    }

    fn violation(self) -> Violation {
        // Without a return there is nothing to violate.
        self.stuck.map_or_else(Violation::default, |stuck| stuck.violation(self.history))
    }
}

fn numbers<O, R>(history: &[Operation<O, R>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|index| history[*index].invoked);
    let mut numbers = vec![0; history.len()];
    let mut next = [0, 0];
    for index in order {
        let next = &mut next[usize::from(history[index].ret().is_some())];
        numbers[index] = *next;
        *next += 1;
    }
    numbers
}
