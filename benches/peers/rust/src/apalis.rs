//! apalis on Redis.
//!
//! Settings, each the best of what was tried on two cores:
//! - N = 1: `push`, 64 calls at once; a worker that fetches one task and runs 64 at
//!   once.
//! - N = 64: `push_bulk` of 64, one script call; a worker that fetches 64 at once.
//! - An idle worker asks for tasks every millisecond. apalis-redis 1.0.0 keeps each
//!   pushed task as one that is due now, for which it sends no pub/sub message: the
//!   workers of `RedisStorageFactory` find it at their next heartbeat only (30 s).
//! - `emit_events(false)`: so nobody is sent what nobody listens to.
//! - `lock_tasks(false)`: a call less for each batch; a dead worker's tasks come
//!   back by its missed heartbeats in any case. `persist_results` stays: without
//!   it a task is never marked as done.
//! - A dead worker is one that missed as many heartbeats as fit into the lease.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::TaskSink;
use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy, PollWith};
use apalis_core::error::BoxDynError;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_redis::{Config, RedisStorage};
use redis::AsyncCommands;
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior};
use tower::limit::ConcurrencyLimitLayer;

use crate::common::{Counter, Options, Progress, QUEUE, Record, Result, now_ns, say_enqueued};

/// Calls at once with one job each, and jobs at once in the worker.
const AT_ONCE: usize = 64;
/// Heartbeats in a lease.
const HEARTBEATS: u32 = 2;
/// Between two looks of an idle worker.
const IDLE: Duration = Duration::from_millis(1);
const POLL: Duration = Duration::from_millis(2);

fn config(options: &Options) -> Config {
    let config =
        Config::default().queue(QUEUE).batch_size(options.n).lock_tasks(false).emit_events(false);
    match options.lease {
        None => config,
        Some(lease) => {
            config.heartbeat_interval(lease / HEARTBEATS).missed_heartbeats(HEARTBEATS as usize)
        }
    }
}

pub(crate) async fn enqueue(options: Options) -> Result<()> {
    let connection = apalis_redis::connect(options.url()).await?;
    let storage = RedisStorage::<Record>::new(connection).with_config(config(&options));
    let next = Cell::new(0);
    let from = now_ns();
    let caller = || async {
        let mut storage = storage.clone();
        while next.get() < options.jobs {
            let first = next.get();
            next.set((first + options.n as u64).min(options.jobs));
            if options.n == 1 {
                storage.push(Record::new(first)).await?;
            } else {
                storage.push_bulk((first..next.get()).map(Record::new).collect()).await?;
            }
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let callers = if options.n == 1 { AT_ONCE } else { 1 };
    try_join_all((0..callers).map(|_| caller())).await?;
    say_enqueued(options.jobs, from);
    Ok(())
}

/// A look every [`IDLE`]. apalis's own `IntervalStrategy` forgets to have itself
/// woken when a look takes longer than the interval, and the worker stands still.
struct Ticks(Interval);

impl Ticks {
    fn new() -> Self {
        let mut ticks = tokio::time::interval(IDLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks(ticks)
    }
}

impl PollStrategy for Ticks {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = Poll::Pending;
        while self.0.poll_tick(cx).is_ready() {
            due = Poll::Ready(Some(()));
        }
        due
    }
}

async fn noop(record: Record, counter: Data<Counter>) -> Result<(), BoxDynError> {
    counter.run(record.number).await;
    Ok(())
}

pub(crate) async fn work(options: Options, hold: bool) -> Result<()> {
    let counter = Counter::new(options.each, hold);
    let config = config(&options);
    let done = config.done_jobs_set();
    let mut connection = apalis_redis::connect(options.url()).await?;
    let storage = RedisStorage::<Record>::new(connection.clone()).with_config(config);
    let backend = PollWith::new(storage, Ticks::new());
    // A name that was used before would wait until its former owner is dead.
    let worker = WorkerBuilder::new(format!("worker-{}", std::process::id()))
        .backend(backend)
        .layer(ConcurrencyLimitLayer::new(AT_ONCE))
        .data(counter.clone())
        .build(noop);
    let mut running = tokio::spawn(async move { worker.run().await.map_err(|e| e.to_string()) });
    println!("ready");
    let mut progress = Progress::new();
    loop {
        tokio::select! {
            ended = &mut running => return Err(format!("the worker ended: {ended:?}").into()),
            () = tokio::time::sleep(POLL) => {}
        }
        let count = counter.count();
        let mut over = progress.is_over(count);
        // Marked as done is what counts; asked only when all ran.
        if count >= options.jobs && !hold {
            over |= connection.scard::<_, u64>(&done).await? >= options.jobs;
        }
        if over && !hold {
            counter.end(options.jobs);
        }
    }
}

pub(crate) async fn trickle(options: Options) -> Result<()> {
    let connection = apalis_redis::connect(options.url()).await?;
    let mut storage = RedisStorage::<Record>::new(connection).with_config(config(&options));
    let mut sent = Vec::new();
    for number in 0..options.jobs {
        // Until the worker is idle again.
        tokio::time::sleep(options.pause).await;
        sent.push((number, now_ns()));
        storage.push(Record::new(number)).await?;
    }
    println!("{}", json!({ "sent": sent }));
    Ok(())
}
