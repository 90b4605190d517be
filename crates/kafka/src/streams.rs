//! All streams of a gateway, by their topics.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use sheaf_flight::Budget;
use sheaf_retry::SharedClock;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::stream::{StreamOptions, TopicStream};

/// The streams of a gateway: one for each topic that it reads.
pub struct Streams {
    options: StreamOptions,
    memory: Arc<Budget>,
    metrics: Metrics,
    clock: SharedClock,
    all: RwLock<BTreeMap<Arc<str>, Arc<TopicStream>>>,
}

impl Streams {
    /// No streams so far; each has these options, all together this memory.
    pub fn new(
        options: StreamOptions,
        memory: Arc<Budget>,
        metrics: Metrics,
        clock: SharedClock,
    ) -> Arc<Self> {
        Arc::new(Streams { options, memory, metrics, clock, all: RwLock::default() })
    }

    /// The stream of a topic, which is there from now on.
    pub fn open(&self, topic: &Arc<str>) -> Arc<TopicStream> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = all.get(topic) {
            return Arc::clone(stream);
        }
        let (memory, metrics) = (Arc::clone(&self.memory), self.metrics.stream(topic));
        let (options, clock) = (self.options.clone(), Arc::clone(&self.clock));
        let stream = TopicStream::new(Arc::clone(topic), options, memory, metrics, clock);
        all.insert(Arc::clone(topic), Arc::clone(&stream));
        stream
    }

    /// The stream of a topic.
    ///
    /// # Errors
    /// Where the gateway does not read it.
    pub fn get(&self, topic: &str) -> Result<Arc<TopicStream>, Error> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(topic).cloned().ok_or_else(|| {
            // So many names help nobody.
            let mut known: Vec<_> = all.keys().take(20).map(|topic| topic.as_ref()).collect();
            if all.len() > known.len() {
                known.push("…");
            }
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::UnknownTopic { topic: topic.to_owned(), known }
        })
    }

    /// All of them, by topic.
    pub fn all(&self) -> Vec<Arc<TopicStream>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    /// Gives up old rows in all of them, and counts those that have any.
    pub fn expire(&self) {
        let all = self.all();
        all.iter().for_each(|stream| stream.expire());
        self.metrics.show_streams(all.iter().filter(|stream| stream.used_bytes() > 0).count());
    }

    /// Ends all of them.
    pub fn close(&self) {
        self.all().iter().for_each(|stream| stream.close());
    }

    /// Counters of the gateway.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
