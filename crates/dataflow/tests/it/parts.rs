//! Components for tests: they count, and do as they are told.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use sheaf_dataflow::{
    AnyComponent, ComponentError, Made, Outcome, Processor, Received, Sink, Source, Start,
};
use sheaf_retry::Code;
use tokio::sync::watch;

/// Numbers from `next` up to `end`, so many rows a batch. Its offset is the next number.
pub(crate) struct Numbers {
    pub(crate) next: i64,
    pub(crate) end: i64,
    pub(crate) rows: i64,
    pub(crate) acknowledged: Arc<AtomicU64>,
    /// Where it does not end by itself.
    pub(crate) is_endless: bool,
}

impl Numbers {
    pub(crate) fn up_to(start: &Start, end: i64, rows: i64) -> Self {
        let next = start.offset.as_ref().map_or(0, offset);
        Numbers { next, end, rows, acknowledged: Arc::default(), is_endless: false }
    }

    pub(crate) fn boxed(self) -> AnyComponent {
        AnyComponent::Source(Box::new(self))
    }
}

pub(crate) fn offset(bytes: &Bytes) -> i64 {
    i64::from_le_bytes(bytes.as_ref().try_into().unwrap())
}

pub(crate) fn batch(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(numbers)) as _;
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

pub(crate) fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[async_trait]
impl Source for Numbers {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        if self.next >= self.end {
            if self.is_endless {
                std::future::pending::<()>().await;
            }
            return Ok(None);
        }
        let to = (self.next + self.rows).min(self.end);
        let batch = batch(self.next..to);
        self.next = to;
        Ok(Some(Made { batch, offset: Bytes::copy_from_slice(&to.to_le_bytes()) }))
    }

    fn wants_acknowledgements(&self) -> bool {
        true
    }

    async fn acknowledged(&mut self, at: &Bytes) -> Result<(), ComponentError> {
        self.acknowledged.store(u64::try_from(offset(at)).unwrap(), Ordering::SeqCst);
        Ok(())
    }
}

/// Twenty batches at once, and then its end, for which it takes its time.
pub(crate) struct Slow {
    pub(crate) made: i64,
    /// How often it began with that.
    pub(crate) begun: Arc<AtomicU32>,
}

#[async_trait]
impl Source for Slow {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        if self.made == 20 {
            self.begun.fetch_add(1, Ordering::SeqCst);
            // sleep: it is what makes the source slow.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            return Ok(None);
        }
        self.made += 1;
        let offset = Bytes::copy_from_slice(&self.made.to_le_bytes());
        Ok(Some(Made { batch: batch(self.made..self.made + 1), offset }))
    }
}

/// Passes on what it gets.
#[derive(Default)]
pub(crate) struct Pass {
    given: u64,
}

impl Pass {
    pub(crate) fn boxed() -> AnyComponent {
        AnyComponent::Processor(Box::new(Pass::default()))
    }
}

#[async_trait]
impl Processor for Pass {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.given += 1;
        Ok(Outcome { batches: vec![received.batch.clone()], done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }
}

/// Adds up what it gets, and gives the sum when all has come.
#[derive(Default)]
pub(crate) struct Sum {
    given: u64,
    sum: i64,
}

#[async_trait]
impl Processor for Sum {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.given += 1;
        self.sum += numbers(&received.batch).iter().sum::<i64>();
        Ok(Outcome::default())
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: vec![batch([self.sum])], done: self.given })
    }
}

/// Passes on what it gets, and a negative number for each stream that it is told of: one
/// for each at the beginning with the first batch, and one more where it ends.
#[derive(Default)]
pub(crate) struct Told {
    given: u64,
    begun: Vec<(Arc<str>, u32)>,
    ended: u64,
}

#[async_trait]
impl Processor for Told {
    async fn begin(&mut self, streams: &[(Arc<str>, u32)]) -> Result<(), ComponentError> {
        assert_eq!(self.given, 0);
        self.begun = streams.to_vec();
        Ok(())
    }

    async fn stream_ended(
        &mut self,
        from: &Arc<str>,
        from_instance: u32,
    ) -> Result<Option<Outcome>, ComponentError> {
        let is_it = |one: &(Arc<str>, u32)| *one == (Arc::clone(from), from_instance);
        let index = self.begun.iter().position(is_it).unwrap();
        self.ended += 1;
        let batch = batch([-1 - i64::try_from(index).unwrap()]);
        Ok(Some(Outcome { batches: vec![batch], done: self.given }))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("ended_streams", self.ended)]
    }

    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.given += 1;
        Ok(Outcome { batches: vec![received.batch.clone()], done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }
}

/// What sinks of a test have written.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<Batch>>>);

/// Its sequence, and what was in it.
type Batch = (u64, Vec<i64>);

impl Written {
    fn add(&self, received: &Received) {
        self.0.lock().unwrap().push((received.sequence, numbers(&received.batch)));
    }

    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.0.lock().unwrap().iter().flat_map(|(_, numbers)| numbers.clone()).collect()
    }

    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(sequence, _)| *sequence).collect()
    }

    pub(crate) fn batches(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How many rows, and a hash of all in whatever order.
    pub(crate) fn sum(&self) -> (usize, u64) {
        sum(self.numbers())
    }
}

pub(crate) fn sum(numbers: impl IntoIterator<Item = i64>) -> (usize, u64) {
    numbers.into_iter().fold((0, 0), |(count, sum), number| {
        let mixed = number.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        (count + 1, sum.wrapping_add(mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9)))
    })
}

/// Writes into memory.
pub(crate) struct Collect {
    pub(crate) written: Written,
    pub(crate) given: u64,
    /// How long each write takes.
    pub(crate) delay: Duration,
    /// Waits before each write until this is open.
    pub(crate) gate: watch::Receiver<bool>,
    /// Says that something is written only when it is flushed.
    pub(crate) is_buffered: bool,
    /// What has been given counts as written; of buffered ones, at the last flush.
    pub(crate) flushed: u64,
}

impl Collect {
    pub(crate) fn into(written: &Written) -> Self {
        let (open, gate) = watch::channel(true);
        drop(open);
        Collect {
            written: written.clone(),
            given: 0,
            delay: Duration::ZERO,
            gate,
            is_buffered: false,
            flushed: 0,
        }
    }

    pub(crate) fn boxed(self) -> AnyComponent {
        AnyComponent::Sink(Box::new(self))
    }
}

#[async_trait]
impl Sink for Collect {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        // A closed channel is a gate that nobody moves any more.
        while !*self.gate.borrow_and_update() && self.gate.changed().await.is_ok() {}
        if !self.delay.is_zero() {
            // sleep: it is what makes the sink slow.
            tokio::time::sleep(self.delay).await;
        }
        self.written.add(received);
        self.given += 1;
        if !self.is_buffered {
            self.flushed = self.given;
        }
        Ok(self.flushed)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        self.flushed = self.given;
        Ok(self.flushed)
    }
}

/// Writes, and never says so: what was written is not acknowledged.
pub(crate) struct Silent {
    pub(crate) written: Written,
}

#[async_trait]
impl Sink for Silent {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        self.written.add(received);
        Ok(0)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(0)
    }
}

/// Fails so many times before it does what it is to do.
pub(crate) struct Moody {
    pub(crate) inner: Collect,
    /// How often it still fails.
    pub(crate) failures: Arc<AtomicU32>,
    pub(crate) code: Code,
}

#[async_trait]
impl Sink for Moody {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        let less = |failures: u32| failures.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.failures.fetch_update(set, fetch, less).is_ok() {
            return Err(ComponentError::new(self.code, "the database\nis not there"));
        }
        self.inner.write(received).await
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        self.inner.flush().await
    }
}
