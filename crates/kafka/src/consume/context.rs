//! What librdkafka tells: partitions that come and go, errors, statistics.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, Consumer as _, ConsumerContext, Rebalance, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::commit::commit_within;
use super::options::{ConsumerOptions, From};
use super::{begin, offset_list, refused};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::tracker::{TopicPartition, Tracker};

/// How long Kafka may take to take where partitions begin.
const PLACE: Duration = Duration::from_secs(30);

/// Keeps the tracker true while partitions come and go.
pub(super) struct GroupContext {
    tracker: Arc<Tracker>,
    metrics: Metrics,
    start: From,
    drain: Duration,
    /// Where partitions go on, where Kafka is not who knows.
    places: Mutex<Option<Box<dyn Places>>>,
    /// Kafka took offsets since somebody asked.
    acknowledged: AtomicBool,
    /// Counts what came and went.
    epoch: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Partitions that came since somebody asked.
    came: Vec<TopicPartition>,
    last_error: Option<(KafkaError, String)>,
    /// Nothing more can be read.
    is_lost: bool,
    /// How far each partition reaches in Kafka.
    reaches: HashMap<TopicPartition, i64>,
}

/// Who knows where partitions go on, where that is not Kafka. Its calls block.
pub(crate) trait Places: Send + Sync {
    /// Whether it goes on from what the group committed.
    fn needs_committed(&self) -> bool;

    /// Where these go on; those that are missing begin.
    fn claim(
        &self,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error>;

    /// These begin there.
    fn begin(&self, places: &[(TopicPartition, i64)]) -> Result<(), Error>;
}

impl GroupContext {
    pub(super) fn new(
        tracker: Arc<Tracker>,
        options: &ConsumerOptions,
        places: Option<Box<dyn Places>>,
        metrics: Metrics,
    ) -> Self {
        let (start, drain) = (options.start, options.drain);
        let (acknowledged, epoch) = (AtomicBool::new(false), AtomicU64::new(0));
        let (state, places) = (Mutex::default(), Mutex::new(places));
        GroupContext { tracker, metrics, start, drain, places, acknowledged, epoch, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one whenever partitions came or went.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether Kafka took offsets since this was asked.
    pub(super) fn take_acknowledged(&self) -> bool {
        self.acknowledged.swap(false, Ordering::AcqRel)
    }

    /// Partitions that came since this was asked.
    pub(super) fn take_came(&self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.state().came)
    }

    /// How far each partition reaches in Kafka, as it was lately.
    pub(super) fn reaches(&self) -> HashMap<TopicPartition, i64> {
        self.state().reaches.clone()
    }

    /// Nothing more can be read.
    pub(super) fn lose(&self) {
        self.state().is_lost = true;
    }

    /// Nothing more is to be read, and nobody is asked any more where to go on.
    pub(super) fn end(&self) {
        self.lose();
        drop(self.places.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether nothing more can be read.
    pub(super) fn is_lost(&self) -> bool {
        self.state().is_lost
    }

    /// What librdkafka complained about last; why no broker can be had rather than
    /// that none can.
    pub(super) fn last_error(&self) -> Option<(KafkaError, String)> {
        self.state().last_error.clone()
    }

    fn came(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        if self.is_lost() {
            return;
        }
        let partitions = partitions(list);
        for partition in &partitions {
            self.tracker.assign(partition.clone());
        }
        if let Err(error) = self.place(consumer, list, &partitions) {
            // Without its place a partition cannot be read: messages would be there
            // twice, or not at all.
            tracing::error!(%error, "it is not known where to go on; reading stops");
            self.state().is_lost = true;
            return;
        }
        self.state().came.extend(partitions);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let done = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = done {
            tracing::error!(%error, "partitions cannot be taken up");
        }
    }

    /// Says where each partition is read from: where its rows end, else where it
    /// begins. The end of a partition as it is now is written down at once:
    /// after a restart it would be another one.
    fn place(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
        partitions: &[TopicPartition],
    ) -> Result<(), Error> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let needs_committed = places.as_ref().is_some_and(|places| places.needs_committed());
        let known = match &*places {
            Some(places) if needs_committed => {
                places.claim(partitions, &begin::committed(consumer, list)?)?
            }
            Some(places) => places.claim(partitions, &BTreeMap::new())?,
            None => begin::committed(consumer, list)?,
        };
        if places.is_some() {
            // Kafka may know less, where whoever had them could not tell it.
            for (partition, offset) in &known {
                self.tracker.reached(partition, *offset);
                self.tracker.follows(partition, *offset, *offset);
            }
        }
        let is_new = |one: &&TopicPartition| !known.contains_key(*one);
        let new: Vec<TopicPartition> = partitions.iter().filter(is_new).cloned().collect();
        let is_written_down = self.start != From::Earliest || needs_committed;
        if !is_written_down {
            for TopicPartition { topic, partition } in &new {
                list.set_partition_offset(topic, *partition, Offset::Beginning)
                    .map_err(|source| refused(format!("begin {topic}/{partition}"), source))?;
            }
        }
        let begun = match is_written_down {
            false => Vec::new(),
            true => begin::offsets(consumer, &new, self.start)?,
        };
        if !begun.is_empty() {
            tracing::info!(partitions = begun.len(), start = ?self.start, "begun");
            if places.is_none() || needs_committed {
                commit_within(consumer, &offset_list(&begun), PLACE)
                    .map_err(|source| refused("commit where to begin".to_owned(), source))?;
            }
            if let Some(places) = &*places {
                places.begin(&begun)?;
            }
        }
        for (TopicPartition { topic, partition }, offset) in known.into_iter().chain(begun) {
            list.set_partition_offset(&topic, partition, Offset::Offset(offset))
                .map_err(|source| refused(format!("go on at {topic}/{partition}"), source))?;
        }
        Ok(())
    }

    fn went(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = partitions(list);
        // Whoever lost them may not commit, so there is nothing to wait for.
        let is_lost = consumer.assignment_lost();
        if !is_lost {
            self.tracker.wait_blocking(&partitions, self.drain);
        }
        let last = partitions
            .iter()
            .filter_map(|partition| Some((partition.clone(), self.tracker.revoke(partition)?)));
        let last: Vec<_> = last.collect();
        if !is_lost && !last.is_empty() {
            let done = commit_within(consumer, &offset_list(&last), self.drain);
            self.metrics.committed(done.is_ok());
            if let Err(error) = done {
                tracing::warn!(%error, "offsets of partitions that go cannot be committed");
            }
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let done = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = done {
            tracing::error!(%error, "partitions cannot be let go");
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let of = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
        topic: element.topic().into(),
        partition: element.partition(),
    };
    list.elements().into_iter().map(of).collect()
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Warning => tracing::info!(facility, "librdkafka: {message}"),
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let says_little = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut state = self.state();
        if !says_little || state.last_error.is_none() {
            state.last_error = Some((error.clone(), reason.to_owned()));
        }
        drop(state);
        match says_little {
            true => tracing::debug!(%error, "Kafka: {reason}"),
            false => tracing::warn!(%error, "Kafka: {reason}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut reaches = HashMap::new();
        for (name, known) in &statistics.topics {
            let topic: Arc<str> = Arc::from(name.as_str());
            let mut lag = 0;
            // The number -1 stands for messages of no partition.
            for (number, of) in known.partitions.iter().filter(|(number, _)| **number >= 0) {
                let partition = TopicPartition { topic: Arc::clone(&topic), partition: *number };
                reaches.insert(partition, of.hi_offset);
                if of.app_offset >= 0 {
                    lag += (of.ls_offset.min(of.hi_offset) - of.app_offset).max(0);
                }
            }
            self.metrics.stream(&topic).lag.set(lag);
        }
        self.state().reaches = reaches;
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(partitions = list.count(), "partitions came");
                self.came(consumer, list);
                self.post_rebalance(consumer, &Rebalance::Assign(list));
            }
            _ => {
                tracing::info!(partitions = list.count(), "partitions go");
                self.went(consumer, list);
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let of_one = offsets.elements().into_iter().find_map(|one| one.error().err());
        let result = result.and(of_one.map_or(Ok(()), Err));
        self.metrics.committed(result.is_ok());
        self.acknowledged.fetch_or(result.is_ok(), Ordering::AcqRel);
        if let Err(error) = result {
            tracing::warn!(%error, "offsets were not committed; they are with the next");
            partitions(offsets).iter().for_each(|one| self.tracker.not_committed(one));
        }
    }
}
