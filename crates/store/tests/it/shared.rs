//! Payloads as memory shared with other programs of this machine.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use sheaf_flight::{
    CallOptions, Exposure, FlightRouter, Limits, Listener, LocalListener, SegmentLocation,
    SegmentServer, Server, ServerHandle,
};
use sheaf_retry::{Code, ManualClock, Retryable as _, SystemClock, Timestamp};
use sheaf_store::{
    ClientPut, Durability, FlightClient, NAMESPACE, Options, SharedMemory, Store, StoreHandler,
};
use sheaf_testkit::{TempDir, wait_until};

use crate::support::{batch, id};

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    _server: ServerHandle,
    segments: SegmentServer,
    folder: TempDir,
    store: Store,
    client: FlightClient,
    clock: Arc<ManualClock>,
}

async fn start(durability: Durability, limit: u64) -> Running {
    let folder = TempDir::new().unwrap();
    let clock = ManualClock::new(Timestamp::EPOCH);
    let options = Options::new(clock.clone()).with_budget(sheaf_store::Budget::new(limit));
    let options = match durability {
        Durability::Memory => options,
        Durability::Disk => options.with_data_dir(folder.path().join("data")),
    };
    let store = Store::open(options).await.unwrap();
    let listener = LocalListener::bind(folder.path().join("s.shm"), "--flight-uds").unwrap();
    let shared = Arc::new(SharedMemory::new(store.clone(), SegmentServer::uri_of(&listener)));
    let segments = SegmentServer::start(listener, shared.clone(), SystemClock::shared()).unwrap();
    let handler = StoreHandler::new(store.clone(), durability).with_shared_memory(shared);
    let router = FlightRouter::builder()
        .handler(NAMESPACE, Arc::new(handler))
        .limits(Limits::for_memory(1 << 30))
        .build()
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).serve(listener).await.unwrap();
    let client = FlightClient::connect(&server.uri(), SystemClock::shared()).unwrap();
    Running { _server: server, segments, folder, store, client, clock }
}

impl Running {
    async fn put(&self, name: &str, rows: usize) -> arrow_array::RecordBatch {
        let batch = batch(1, rows);
        let batches = [batch.clone()];
        let (name, put) = (id(name), ClientPut::default());
        self.client.put(Some(&name), batch.schema(), &batches, put).await.unwrap();
        batch
    }

    async fn offer(&self, name: &str) -> Vec<String> {
        let options = CallOptions::default().header("sheaf-shared-memory", "true");
        let connection = self.client.connection();
        let entry = connection.info(&["batches", name], &options).await.unwrap();
        entry.endpoints[0].locations.clone()
    }

    fn leases(&self) -> i64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.store.metrics().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("sheaf_store_shared_leases "));
        line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

async fn shared(running: &Running, name: &str) -> Vec<arrow_array::RecordBatch> {
    // `map` proves that it did not come over the wire.
    assert!(running.client.map(&id(name)).await.unwrap().is_some(), "not shared");
    let (_, stream) = running.client.get_shared(&id(name)).await.unwrap();
    stream.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_what_was_put_and_outlives_its_payload() {
    for durability in [Durability::Memory, Durability::Disk] {
        let running = start(durability, 1 << 30).await;
        let batch = running.put("x", 100_000).await;
        let read = shared(&running, "x").await;
        assert_eq!(read, std::slice::from_ref(&batch));
        wait_until(PATIENCE, "one lease", || running.leases() == 1).unwrap();
        running.store.delete(&id("x")).await.unwrap();
        assert_eq!(read, [batch]);
        drop(read);
        wait_until(PATIENCE, "no lease", || running.leases() == 0).unwrap();
        wait_until(PATIENCE, "its memory", || running.store.budget().used() == 0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_in_memory_moves_once_and_is_there_once() {
    let running = start(Durability::Memory, 1 << 30).await;
    let batch = running.put("x", 100_000).await;
    let before = running.store.budget().used();
    let one = shared(&running, "x").await;
    let moved = running.store.budget().used();
    assert!(moved < before + before / 10 + 8_192, "{before} then {moved}");
    let two = shared(&running, "x").await;
    assert_eq!((&one, running.store.budget().used()), (&two, moved));
    // Over the wire it is the same too.
    assert_eq!(running.client.get_batch(&id("x")).await.unwrap(), batch);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_it_twice_it_comes_over_the_wire() {
    let running = start(Durability::Memory, 6 << 20).await;
    let batch = running.put("x", 60_000).await;
    let used = running.store.budget().used();
    assert!(used > (3 << 20), "{used}");
    assert!(running.client.map(&id("x")).await.unwrap().is_none());
    let (_, stream) = running.client.get_shared(&id("x")).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap(), [batch]);
    assert_eq!(running.store.budget().used(), used);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_who_asks_is_offered_it() {
    let running = start(Durability::Memory, 1 << 30).await;
    running.put("x", 10).await;
    assert!(running.client.info(&id("x")).await.unwrap().endpoints[0].locations.is_empty());
    let offer = running.offer("x").await;
    assert!(offer[0].starts_with(running.segments.uri()), "{offer:?}");
    let options = CallOptions::default().header("sheaf-shared-memory", "yes");
    let refused = running.client.connection().info(&["batches", "x"], &options).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_good_once_and_for_a_while() {
    let running = start(Durability::Memory, 1 << 30).await;
    running.put("x", 10).await;
    let parse = |offer: &[String]| offer[0].parse::<SegmentLocation>().unwrap();
    let receive =
        |location: SegmentLocation| tokio::task::spawn_blocking(move || location.receive(PATIENCE));
    let location = parse(&running.offer("x").await);
    let received = receive(location.clone()).await.unwrap().unwrap();
    assert_eq!(received.format, "arrow-ipc-file");
    // Nobody writes to it, also not by opening it anew.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&received.file));
    let mut again = std::fs::File::options().write(true).open(path).unwrap();
    let refused = std::io::Write::write(&mut again, b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let error = receive(location).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");

    let late = parse(&running.offer("x").await);
    running.clock.advance(Duration::from_secs(31));
    let error = receive(late).await.unwrap().unwrap_err();
    assert!(error.message().contains("30 seconds"), "{error}");

    let gone = parse(&running.offer("x").await);
    running.store.delete(&id("x")).await.unwrap();
    let error = receive(gone).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_lease_is_refused_and_keeps_nobody_waiting() {
    use std::io::{Read as _, Write as _};
    let running = start(Durability::Memory, 1 << 30).await;
    running.put("x", 10).await;
    let path = running.folder.path().join("s.shm");
    let silent: Vec<_> =
        (0..50).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    for wrong in [&b"\n"[..], b"nonsense\n", &[0xff, b'\n'], &[b'x'; 200]] {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(wrong).unwrap();
        let mut text = String::new();
        drop(stream.read_to_string(&mut text));
        assert!(text.is_empty() || text.contains("not known here"), "{wrong:?}: {text}");
    }
    assert!(running.client.map(&id("x")).await.unwrap().is_some());
    drop(silent);
    drop(running.segments);
    wait_until(PATIENCE, "the socket is gone", || !path.exists()).unwrap();
    let (_, stream) = running.client.get_shared(&id("x")).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().len(), 1);
}
