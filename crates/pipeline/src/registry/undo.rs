//! What an event has touched, and how to take it back.
//!
//! All that stands in maps goes in and out here, so that what is derived from
//! it (places, bytes) is always that of what is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Registry;
use super::model::{Component, Now};
use super::pipeline::Pipeline;

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Component(String),
    Pipeline(String),
}

/// A record as it was, if it was there.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    Component(Option<Arc<Component>>),
    Pipeline(Option<Arc<Pipeline>>),
}

/// Records that were changed, each as it was before the first change.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    records: BTreeMap<Key, Before>,
}

impl Touched {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.records.keys()
    }

    /// Takes in what a later event touched: what was there first stays.
    pub(crate) fn extend(&mut self, later: Touched) {
        for (key, before) in later.records {
            self.records.entry(key).or_insert(before);
        }
    }
}

impl Registry {
    /// Puts a component in place of the one of its id, or takes it out.
    pub(super) fn put_component(&mut self, id: &str, new: Option<Arc<Component>>) {
        let old = self.swap_component(id, new);
        let key = Key::Component(id.to_owned());
        self.touched.records.entry(key).or_insert(Before::Component(old));
    }

    /// As [`Registry::put_component`], of what is not worth writing down by itself.
    pub(super) fn put_quietly(&mut self, id: &str, new: Arc<Component>) {
        drop(self.swap_component(id, Some(new)));
    }

    /// As [`Registry::put_component`], of a pipeline and its places.
    pub(super) fn put_pipeline(&mut self, id: &str, new: Option<Arc<Pipeline>>) {
        let old = self.swap_pipeline(id, new);
        let key = Key::Pipeline(id.to_owned());
        self.touched.records.entry(key).or_insert(Before::Pipeline(old));
    }

    fn swap_component(&mut self, id: &str, new: Option<Arc<Component>>) -> Option<Arc<Component>> {
        self.bytes += new.as_ref().map_or(0, |new| new.weight());
        let old = match new {
            Some(new) => self.components.insert(id.to_owned(), new),
            None => self.components.remove(id),
        };
        self.bytes -= old.as_ref().map_or(0, |old| old.weight());
        old
    }

    fn swap_pipeline(&mut self, id: &str, new: Option<Arc<Pipeline>>) -> Option<Arc<Pipeline>> {
        let old = self.pipelines.remove(id);
        if let Some(old) = &old {
            self.bytes -= old.weight();
            for place in &old.plan.places {
                self.places.remove(&place.id);
            }
        }
        if let Some(new) = new {
            self.bytes += new.weight();
            for (index, place) in new.plan.places.iter().enumerate() {
                self.places.insert(place.id.clone(), (id.to_owned(), index));
            }
            self.pipelines.insert(id.to_owned(), new);
        }
        old
    }

    /// Puts everything back to what it was. Fences that were given out meanwhile
    /// are not given out again.
    pub(crate) fn undo(&mut self, touched: Touched) {
        for (key, before) in touched.records {
            match (key, before) {
                (Key::Component(id), Before::Component(before)) => {
                    drop(self.swap_component(&id, before));
                }
                (Key::Pipeline(id), Before::Pipeline(before)) => {
                    drop(self.swap_pipeline(&id, before));
                }
                (Key::Component(_), Before::Pipeline(_))
                | (Key::Pipeline(_), Before::Component(_)) => {}
            }
        }
    }

    /// Takes in a pipeline as it was stored, and makes its places.
    pub(crate) fn load_pipeline(&mut self, pipeline: Pipeline, now: Now) {
        let id = pipeline.plan.id.clone();
        for place in &pipeline.plan.places {
            let expected = super::plans::expected(&id, place, now);
            drop(self.swap_component(&place.id, Some(Arc::new(expected))));
        }
        drop(self.swap_pipeline(&id, Some(Arc::new(pipeline))));
    }

    /// Takes in a component as it was stored. Its silence begins now. One whose
    /// place is not there any more is left out, which is answered with false.
    pub(crate) fn load_component(&mut self, mut component: Component, now: Now) -> bool {
        let place = self.places.get(&component.id).cloned();
        let is_worker = component.kind == super::Kind::Worker;
        if is_worker != place.is_none() {
            return false;
        }
        if let Some((pipeline, index)) = place {
            let Some(place) =
                self.pipelines.get(&pipeline).and_then(|found| found.plan.places.get(index))
            else {
                return false;
            };
            if place.kind != component.kind {
                return false;
            }
            // The plan is where they come from.
            component.connections = place.connections.clone();
            (component.pipeline, component.component) = (pipeline, place.component.clone());
            component.replica = place.replica;
        }
        (component.held.heard, component.held.said) = (now.elapsed, now.elapsed);
        let id = component.id.clone();
        drop(self.swap_component(&id, Some(Arc::new(component))));
        true
    }
}
