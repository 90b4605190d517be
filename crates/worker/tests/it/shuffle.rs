//! Stages whose rows go over real Flight servers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use sheaf_coordinator::{BatchSpec, Fence, State};
use sheaf_exchange::shuffle::{
    Exchange, ExchangeClient, ExchangeOptions, Governor, PartitionKey, ReadOptions, Sender,
    ShuffleHandler,
};
use sheaf_exchange::{PartitionerOptions, Partitioning};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{
    Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_retry::{Code, RetryPolicy, SystemClock};
use sheaf_worker::{
    Config, Job, Output, PassThrough, ProcessError, Processor, Shuffle, ShuffleTask, SpreadBy,
    TaskInput, TaskOutput, Verify,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Calls, DEADLINE, Each, Scene, eager, id};

/// A process that takes partitions.
struct Peer {
    exchange: Exchange,
    server: ServerHandle,
}

impl Peer {
    async fn start(address: &str) -> Self {
        Self::with_memory(address, 64 << 20).await
    }

    async fn with_memory(address: &str, bytes: u64) -> Self {
        let exchange = Exchange::new(Budget::new(bytes), SystemClock::shared());
        let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder());
        let listener = Listener::bind(address, "--flight-addr", Exposure::Loopback).unwrap();
        let server = Server::new(router.build().unwrap()).serve(listener).await.unwrap();
        Peer { exchange, server }
    }

    fn uri(&self) -> String {
        self.server.uri()
    }
}

fn client() -> ExchangeClient {
    let clock = SystemClock::shared();
    let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
    // Chunks so small that there are several.
    let partitioner = PartitionerOptions { chunk_bytes: 8 << 10, ..PartitionerOptions::default() };
    let options = ExchangeOptions { retry: eager(20), partitioner, ..ExchangeOptions::default() };
    ExchangeClient::new(pool, clock, Governor::new(32 << 20), options)
}

fn sending(sender: u32, senders: u32, workers: Vec<String>, by: SpreadBy) -> ShuffleTask {
    let (query, stage, partitions) = ("q".to_owned(), 1, 4);
    ShuffleTask::sending(TaskOutput {
        query,
        stage,
        sender,
        senders,
        workers,
        partitions,
        by,
        only: Vec::new(),
    })
}

fn input(worker: &str, partition: u32) -> TaskInput {
    TaskInput { worker: worker.to_owned(), query: "q".to_owned(), stage: 1, partition }
}

fn by_hash() -> SpreadBy {
    SpreadBy::Hash(vec!["n".to_owned()])
}

/// A payload of these batches with a task.
fn payload(task: &ShuffleTask, batches: &[Vec<i64>]) -> (SchemaRef, Vec<RecordBatch>) {
    let column = |numbers: &Vec<i64>| Arc::new(Int64Array::from(numbers.clone())) as _;
    let plain = RecordBatch::try_from_iter([("n", column(&Vec::new()))]).unwrap().schema();
    let schema = task.on(&plain).unwrap();
    let batch = |numbers| RecordBatch::try_new(schema.clone(), vec![column(numbers)]).unwrap();
    let batches = batches.iter().map(batch).collect();
    (schema, batches)
}

/// One attempt at a task, without a pool.
fn job(task: &ShuffleTask, batches: &[Vec<i64>], fence: u64) -> Job {
    let (schema, batches) = payload(task, batches);
    let messages = encode_batches(schema, &batches).unwrap();
    Job {
        spec: BatchSpec::new(id("task")),
        fence: Fence(fence),
        attempt: 1,
        messages: futures::stream::iter(messages.into_iter().map(Ok)).boxed(),
        inputs: Vec::new(),
        cancelled: CancellationToken::new(),
        progress: sheaf_worker::ProgressHandle::default(),
    }
}

async fn numbers(mut output: Output) -> Result<Vec<i64>, ProcessError> {
    let mut numbers = Vec::new();
    while let Some(batch) = output.rows.next().await {
        numbers.extend(batch?.column(0).as_primitive::<Int64Type>().values());
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Scene {
    async fn add_task(
        &self,
        name: &str,
        task: &ShuffleTask,
        batches: &[Vec<i64>],
        depends_on: &[String],
    ) {
        let (schema, batches) = payload(task, batches);
        self.shelf.put_messages(name, encode_batches(schema, &batches).unwrap());
        let depends_on = depends_on.iter().map(|name| id(name)).collect();
        let retry = Some(eager(3));
        let spec = BatchSpec { depends_on, retry, ..BatchSpec::new(id(name)) };
        self.coordinator.register(vec![spec]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_through_two_stages_once_though_senders_fail_midway() {
    let scene = Scene::new().await;
    let peers = [Peer::start("127.0.0.1:0").await, Peer::start("127.0.0.1:0").await];
    let workers: Vec<String> = peers.iter().map(Peer::uri).collect();
    let senders: Vec<String> = (0..4).map(|sender| format!("send-{sender}")).collect();
    for (sender, name) in (0..4_u32).zip(&senders) {
        let first = i64::from(sender) * 1_000;
        let batches = [(first..first + 600).collect(), (first + 600..first + 1_000).collect()];
        let task = sending(sender, 4, workers.clone(), by_hash());
        scene.add_task(name, &task, &batches, &[]).await;
    }
    for partition in 0..4 {
        let read = input(&workers[partition as usize % 2], partition);
        let task = ShuffleTask::reading(vec![read]);
        scene.add_task(&format!("read-{partition}"), &task, &[], &senders).await;
    }
    // The first attempt at each task of the first stage breaks off between its batches.
    let inner = Each(|job: Job| async move {
        let breaks = job.attempt == 1 && job.spec.id.as_str().starts_with("send-");
        let output = job.into_rows().await?;
        let schema = output.schema.clone();
        Ok(output.map(schema, move |batch| match batch.num_rows() {
            400 if breaks => Err(ProcessError::transient("broken off")),
            _ => Ok(batch),
        }))
    });
    let shuffle = Shuffle::new(client(), Arc::new(inner));
    let (config, coordinator) = (Config::new("pool").with_worker_count(3), &scene.coordinator);
    let sink = scene.sink().await;
    let worker = scene.worker_with(config, shuffle, Some(sink), coordinator.clone());
    scene.counts(State::Completed, 8).await;
    let summary = worker.shutdown().await;
    assert_eq!((summary.completed, summary.failed), (8, 4));
    assert_eq!(scene.results().await, (0..4_000).collect::<Vec<_>>());
    // What the first stage sent is in no file.
    let names = std::fs::read_dir(scene.folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("send-")), "{names:?}");
    assert_eq!(client().cleanup_query_data(&workers, "q").await.unwrap(), 4);
    assert!(peers.iter().all(|peer| peer.exchange.budget().used() == 0));
}

/// A processor that stands still after its first batch, until it is told to go on.
fn halfway() -> (impl Processor, tokio::sync::oneshot::Sender<()>) {
    let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let waits = Each(move |job: Job| {
        let gate = gate.clone();
        async move {
            let Output { schema, mut rows, .. } = job.into_rows().await?;
            let gate = gate.lock().unwrap().take().unwrap();
            let first = rows.next().await;
            let rest = futures::stream::once(async move { gate.await.unwrap() });
            let mut rows = Some(rows);
            let rest = rest.flat_map(move |()| rows.take().unwrap());
            Ok(Output::new(schema, futures::stream::iter(first).chain(rest).boxed()))
        }
    });
    (waits, go_on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_lease_was_lost_changes_nothing_after_the_next_has_begun() {
    let peer = Peer::start("127.0.0.1:0").await;
    let task = sending(0, 1, vec![peer.uri()], SpreadBy::Single);
    let TaskOutput { partitions, .. } = task.output.clone().unwrap();
    let task = ShuffleTask::sending(TaskOutput { partitions: 1, ..task.output.unwrap() });
    assert_eq!(partitions, 4);

    // The old one stands still when it has sent half of its rows.
    let (waits, go_on) = halfway();
    let old = Shuffle::new(client(), Arc::new(waits));
    let batches = [vec![1, 2], vec![3]];
    let old_job = job(&task, &batches, 1 << 45);
    let old = tokio::spawn(async move { old.process(old_job).await });
    let new = Shuffle::new(client(), Arc::new(PassThrough));
    let output = new.process(job(&task, &[vec![1], vec![2, 3]], (1 << 45) + 1)).await.unwrap();
    assert_eq!(output.written, Some(3));
    go_on.send(()).unwrap();
    let error = old.await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::StaleFence, "{error}");

    let key = PartitionKey::try_new("q", 1, 0).unwrap();
    let (uri, options) = (peer.uri(), ReadOptions::default());
    let reader = client().request_data_from_worker(&uri, &key, None, options).await.unwrap();
    assert!(reader.schema().metadata().is_empty());
    let read = numbers(Output::new(
        reader.schema(),
        reader
            .into_stream()
            .map(|batch| batch.map_err(|error| ProcessError::from_error(&error)))
            .boxed(),
    ));
    assert_eq!(read.await.unwrap(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_restarted_midway_costs_an_attempt_and_no_rows() {
    let peer = Peer::start("127.0.0.1:0").await;
    let (uri, address) = (peer.uri(), peer.server.local_addr().to_string());
    let task = ShuffleTask::sending(TaskOutput {
        partitions: 1,
        ..sending(0, 1, vec![uri.clone()], SpreadBy::Single).output.unwrap()
    });
    let batches = [(0..4_000).collect::<Vec<_>>(), (4_000..8_000).collect()];
    let (waits, go_on) = halfway();
    let sender = Shuffle::new(client(), Arc::new(waits));
    let first = job(&task, &batches, 1);
    let first = tokio::spawn(async move { sender.process(first).await });
    let some = sheaf_testkit::wait_for_async(DEADLINE, "some chunks to be there", || async {
        let here = peer.exchange.get_available_partitions("q", 1).ok()?;
        (here.partitions[0].rows > 0).then_some(())
    });
    some.await.unwrap();
    peer.server.drain(Duration::ZERO).await;
    let peer = Peer::start(&address).await;
    go_on.send(()).unwrap();
    let error = first.await.unwrap().unwrap_err();
    assert!(!error.permanent && error.code == Code::PayloadLost, "{error:?}");
    // The coordinator gives it to the next one.
    let sender = Shuffle::new(client(), Arc::new(PassThrough));
    sender.process(job(&task, &batches, 2)).await.unwrap();
    let read = ShuffleTask::reading(vec![input(&uri, 0)]);
    let read = numbers(sender.process(job(&read, &[], 3)).await.unwrap()).await.unwrap();
    assert_eq!(read, (0..8_000).collect::<Vec<_>>());
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_gone_fails_for_good_and_a_worker_that_is_away_does_not() {
    let peer = Peer::start("127.0.0.1:0").await;
    let uri = peer.uri();
    let shuffle = Shuffle::new(client(), Arc::new(PassThrough));
    let shuffle = shuffle.with_wait(Duration::ZERO);
    let read = |worker: &str| job(&ShuffleTask::reading(vec![input(worker, 3)]), &[], 1);
    let error = shuffle.process(read(&uri)).await.unwrap_err();
    assert!(error.permanent && error.code == Code::PayloadLost, "{error:?}");
    assert!(error.message.contains(&uri) && error.message.contains("q/1/3"), "{error}");
    peer.server.drain(Duration::ZERO).await;
    let error = shuffle.process(read(&uri)).await.unwrap_err();
    assert!(!error.permanent && error.code == Code::Unavailable, "{error:?}");
    assert!(error.message.contains(&uri) && error.message.contains("q/1/3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_spreading_reaches_the_processors_of_the_next_stage() {
    let peers = [Peer::start("127.0.0.1:0").await, Peer::start("127.0.0.1:0").await];
    let workers: Vec<String> = peers.iter().map(Peer::uri).collect();
    let by_range = Partitioning::Custom(Arc::new(|batch: &RecordBatch, _| {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        Ok(numbers.values().iter().map(|n| u32::from(*n > 5)).collect())
    }));
    let shuffle = Shuffle::new(client(), Arc::new(Verify)).with_partitioning("range", by_range);
    let ways = [
        (SpreadBy::RoundRobin, 10),
        (SpreadBy::Broadcast, 20),
        (SpreadBy::Named("range".to_owned()), 10),
        (by_hash(), 10),
    ];
    for (stage, (by, wanted)) in (1..).zip(ways) {
        let output = TaskOutput {
            query: "q".to_owned(),
            stage,
            sender: 0,
            senders: 1,
            workers: workers.clone(),
            partitions: 2,
            by: by.clone(),
            only: Vec::new(),
        };
        let task = ShuffleTask::sending(output);
        let sent = shuffle.process(job(&task, &[(0..10).collect()], 1)).await.unwrap();
        assert_eq!(sent.written, Some(wanted), "{by:?}");
        let inputs = [0, 1].map(|at| TaskInput { stage, ..input(&workers[at as usize], at) });
        let task = ShuffleTask::reading(inputs.to_vec());
        let read = numbers(shuffle.process(job(&task, &[], 1)).await.unwrap()).await.unwrap();
        assert_eq!(read.len() as u64, wanted, "{by:?}");
        let mut unique = read.clone();
        unique.dedup();
        assert_eq!(unique, (0..10).collect::<Vec<_>>(), "{by:?}");
    }
    let task = sending(0, 1, workers, SpreadBy::Named("mine".to_owned()));
    let error = shuffle.process(job(&task, &[vec![1]], 1)).await.unwrap_err();
    assert!(error.permanent && error.message.contains("knows range"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_reads_each_of_its_inputs_by_itself() {
    let scene = Scene::new().await;
    let peer = Peer::start("127.0.0.1:0").await;
    let uri = peer.uri();
    let task = sending(0, 1, vec![uri.clone()], by_hash());
    scene.add_task("send", &task, &[(0..100).collect()], &[]).await;
    let read = ShuffleTask::reading(vec![input(&uri, 0), input(&uri, 2)]);
    scene.add_task("join", &read, &[], &["send".to_owned()]).await;
    let plain = Calls::default();
    let seen = plain.clone();
    let inner = Each(move |job: Job| {
        let seen = seen.clone();
        async move {
            if job.inputs.is_empty() {
                seen.next();
                return job.into_rows().await;
            }
            let [left, right] = <[_; 2]>::try_from(job.into_inputs().await?).unwrap();
            let left = numbers(Output::new(left.schema, left.rows)).await?;
            let right = numbers(Output::new(right.schema, right.rows)).await?;
            assert!(!left.is_empty() && !right.is_empty());
            assert!(left.iter().all(|n| !right.contains(n)));
            let both = [left, right].concat();
            let column = Arc::new(Int64Array::from(both)) as _;
            Ok(Output::from_batch(RecordBatch::try_from_iter([("n", column)])?))
        }
    });
    let shuffle = Shuffle::new(client(), Arc::new(inner));
    let (sink, coordinator) = (Some(scene.sink().await), scene.coordinator.clone());
    let worker = scene.worker_with(Config::new("pool"), shuffle, sink, coordinator);
    scene.counts(State::Completed, 2).await;
    worker.shutdown().await;
    assert_eq!(plain.get(), 1);
    let results = scene.results().await;
    assert!(!results.is_empty() && results.len() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_reads_more_partitions_of_one_worker_than_a_connection_has_room_for() {
    const INPUTS: u32 = 70;
    let peer = Peer::with_memory("127.0.0.1:0", 256 << 20).await;
    let local = client().with_local(peer.uri(), peer.exchange.clone());
    let each: Vec<i64> = (0..160_000).collect();
    let column = Arc::new(Int64Array::from(each.clone())) as _;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    for partition in 0..INPUTS {
        let key = PartitionKey::try_new("q", 1, partition).unwrap();
        let (one, rows) = (Sender::only(), futures::stream::iter([Ok(batch.clone())]));
        local.store_intermediate_results(&key, one, batch.schema(), rows).await.unwrap();
    }
    let inner = Each(move |job: Job| {
        let each = each.clone();
        async move {
            let mut count = 0;
            for input in job.into_inputs().await? {
                assert_eq!(numbers(Output::new(input.schema, input.rows)).await?, each);
                count += 1;
            }
            let column = Arc::new(Int64Array::from(vec![count])) as _;
            Ok(Output::from_batch(RecordBatch::try_from_iter([("n", column)])?))
        }
    });
    let uri = peer.uri();
    let inputs = (0..INPUTS).map(|partition| input(&uri, partition)).collect();
    let shuffle = Shuffle::new(client(), Arc::new(inner));
    let worked = shuffle.process(job(&ShuffleTask::reading(inputs), &[], 1));
    let worked = tokio::time::timeout(Duration::from_secs(60), worked).await;
    let output = worked.expect("the readers hold each other up").unwrap();
    assert_eq!(numbers(output).await.unwrap(), [i64::from(INPUTS)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_without_a_task_are_worked_as_without_stages() {
    let scene = Scene::new().await;
    scene.add("plain", &[1, 2, 3], RetryPolicy::none()).await;
    let shuffle = Shuffle::new(client(), Arc::new(PassThrough));
    let (sink, coordinator) = (Some(scene.sink().await), scene.coordinator.clone());
    let worker = scene.worker_with(Config::new("pool"), shuffle, sink, coordinator);
    scene.counts(State::Completed, 1).await;
    worker.shutdown().await;
    assert_eq!(scene.results().await, [1, 2, 3]);
}
