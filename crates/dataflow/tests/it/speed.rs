//! How fast it is: printed, and held against nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow_array::RecordBatch;
use sheaf_dataflow::{AnyComponent, ComponentError, Made, Received, Sink, Source};
use sheaf_retry::{SharedClock, SystemClock};

use crate::cases::World;
use crate::parts::{Pass, batch, numbers};
use crate::shapes::pipeline;

/// The same batch again and again.
struct Same {
    batch: RecordBatch,
    left: u64,
}

#[async_trait::async_trait]
impl Source for Same {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let offset = self.left.to_le_bytes().to_vec().into();
        Ok(Some(Made { batch: self.batch.clone(), offset }))
    }
}

/// The time, once a millisecond.
struct Times {
    clock: SharedClock,
    left: u64,
}

#[async_trait::async_trait]
impl Source for Times {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        self.clock.sleep(std::time::Duration::from_millis(1)).await;
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let batch = batch([nanos(&self.clock)]);
        Ok(Some(Made { batch, offset: vec![0].into() }))
    }
}

fn nanos(clock: &SharedClock) -> i64 {
    i64::try_from(clock.elapsed().as_nanos()).unwrap()
}

/// Counts rows, or how long they took.
struct Count {
    rows: Arc<AtomicI64>,
    given: u64,
    clock: Option<(SharedClock, Arc<std::sync::Mutex<Vec<i64>>>)>,
}

#[async_trait::async_trait]
impl Sink for Count {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        self.rows.fetch_add(i64::try_from(received.batch.num_rows()).unwrap(), Ordering::Relaxed);
        if let Some((clock, took)) = &self.clock {
            took.lock().unwrap().push(nanos(clock) - numbers(&received.batch)[0]);
        }
        self.given += 1;
        Ok(self.given)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.given)
    }
}

async fn linear(credits: u32, source: AnyComponent, sink: Count) -> f64 {
    let filter = format!(
        "id: filter, kind: filter, config: {{where: 'n >= 0'}}, inputs: [{{from: numbers, credits: {credits}}}]"
    );
    let out = format!("id: out, kind: stdout, inputs: [{{from: filter, credits: {credits}}}]");
    let world = World::new(&pipeline(&["numbers"], &[&filter], &[&out])).await;
    let sink = world.host("out", |_| AnyComponent::Sink(Box::new(sink)));
    let filter = world.host("filter", |_| Pass::boxed());
    let clock = SystemClock::shared();
    let source = world.host("numbers", |_| source);
    world.address("numbers").await;
    let begun = clock.elapsed();
    source.done().await;
    let took = (clock.elapsed() - begun).as_secs_f64();
    filter.done().await;
    sink.done().await;
    took
}

/// `cargo test --release -p sheaf-dataflow --test it -- --ignored --nocapture speed`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    for (rows, batches, credits) in [(8_192, 12_000, 32), (1, 300_000, 32), (1, 300_000, 1_024)] {
        let source = Same { batch: batch(0..rows), left: batches };
        let counted = Arc::new(AtomicI64::new(0));
        let sink = Count { rows: Arc::clone(&counted), given: 0, clock: None };
        let took = linear(credits, AnyComponent::Source(Box::new(source)), sink).await;
        let total = counted.load(Ordering::Relaxed);
        assert_eq!(total, rows * i64::try_from(batches).unwrap());
        println!(
            "{rows} rows a batch, {credits} credits: {:.0} rows/s, {:.0} batches/s",
            total as f64 / took,
            batches as f64 / took
        );
    }
    let clock = SystemClock::shared();
    let source = Times { clock: clock.clone(), left: 2_000 };
    let took = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Count { rows: Arc::default(), given: 0, clock: Some((clock, Arc::clone(&took))) };
    linear(32, AnyComponent::Source(Box::new(source)), sink).await;
    let mut took = took.lock().unwrap().clone();
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100] / 2_000;
    println!("one hop: p50 {} us, p99 {} us (half of two)", at(50), at(99));
}
