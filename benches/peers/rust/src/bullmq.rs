//! BullMQ's own port to Rust: the same scripts, another client.
//!
//! Settings, each the best of what was tried on two cores:
//! - N = 1: `add`, 64 calls at once; one worker with concurrency 64.
//! - N = 64: `add_bulk` of 64, which goes as 64 calls over one connection, four
//!   of them at once; one worker with concurrency 64.
//! - `remove_on_complete`: nobody asks for what is done.
//! - The stalled check runs as often as the lock lasts: 30 s each by default.

use std::time::Duration;

use bullmq::options::RedisConnectionOptions;
use bullmq::types::RemoveOnFinish;
use bullmq::worker::{CancellationToken, WorkerEvent};
use bullmq::{BulkJob, Job, JobOptions, Queue, QueueOptions, Worker, WorkerOptions};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::common::{Counter, Options, Progress, QUEUE, Record, Result, now_ns, say_enqueued};

const NAME: &str = "noop";
const BULKS: usize = 4;
/// Calls at once with one job each, and jobs at once in the worker.
const AT_ONCE: usize = 64;

fn connection(options: &Options) -> RedisConnectionOptions {
    RedisConnectionOptions::new().host("127.0.0.1").port(options.port)
}

async fn queue(options: &Options) -> Result<Queue> {
    let job = JobOptions::new().remove_on_complete(RemoveOnFinish::Bool(true));
    let settings = QueueOptions::new().connection(connection(options)).default_job_options(job);
    Ok(Queue::with_options(QUEUE, settings).await?)
}

pub(crate) async fn enqueue(options: Options) -> Result<()> {
    let queue = queue(&options).await?;
    let next = std::cell::Cell::new(0);
    let from = now_ns();
    let caller = || async {
        while next.get() < options.jobs {
            let first = next.get();
            next.set((first + options.n as u64).min(options.jobs));
            if options.n == 1 {
                queue.add(NAME, Record::new(first)).await?;
            } else {
                let jobs =
                    (first..next.get()).map(|number| BulkJob::new(NAME, Record::new(number)));
                queue.add_bulk(jobs.collect()).await?;
            }
        }
        Ok::<_, bullmq::Error>(())
    };
    let callers = if options.n == 1 { AT_ONCE } else { BULKS };
    try_join_all((0..callers).map(|_| caller())).await?;
    say_enqueued(options.jobs, from);
    Ok(())
}

pub(crate) async fn work(options: Options, hold: bool) -> Result<()> {
    let counter = Counter::new(options.each, hold);
    let mut settings = WorkerOptions::new().connection(connection(&options)).concurrency(AT_ONCE);
    if let Some(lease) = options.lease {
        settings = settings.lock_duration(lease).stalled_interval(lease);
    }
    let jobs = counter.clone();
    let processor = move |job: Job, _: CancellationToken| {
        let jobs = jobs.clone();
        async move {
            let number = job.data().get("number").and_then(Value::as_u64);
            jobs.run(number.unwrap_or(u64::MAX)).await;
            Ok(json!(null))
        }
    };
    let worker = Worker::with_options(QUEUE, processor, settings).await?;
    println!("ready");
    let (mut completed, mut progress) = (0, Progress::new());
    loop {
        match tokio::time::timeout(Duration::from_secs(1), worker.next_event()).await {
            // Sent when the server has answered that the job is completed.
            Ok(Some(WorkerEvent::Completed { .. })) => completed += 1,
            Ok(Some(WorkerEvent::Failed { error, .. } | WorkerEvent::Error(error))) => {
                return Err(error.into());
            }
            _ => {}
        }
        if !hold && (completed >= options.jobs || progress.is_over(completed)) {
            counter.end(options.jobs);
        }
    }
}

pub(crate) async fn trickle(options: Options) -> Result<()> {
    let queue = queue(&options).await?;
    let mut sent = Vec::new();
    for number in 0..options.jobs {
        // Until the worker is idle again.
        tokio::time::sleep(options.pause).await;
        sent.push((number, now_ns()));
        queue.add(NAME, Record::new(number)).await?;
    }
    println!("{}", json!({ "sent": sent }));
    Ok(())
}
