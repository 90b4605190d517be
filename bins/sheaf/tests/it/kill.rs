//! The server is killed again and again: no row is lost, none is written twice.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_proto::BatchId;
use sheaf_retry::{Jitter, SharedClock, SystemClock};
use sheaf_store::{ClientPut, FlightClient};
use sheaf_testkit::{Process, TempDir, free_port, wait_for, wait_until};

use crate::harness::{PATIENCE, command, sheaf, spawn};
use crate::remote::{ROWS, batch, rows_out, stubborn};

/// Puts under way at once.
const PUTTERS: u64 = 8;

/// 5,000 batches; with `SHEAF_SOAK` 100,000.
fn batches() -> u64 {
    if sheaf_testkit::soak() { 100_000 } else { 5_000 }
}

/// Puts and registers every `PUTTERS`-th batch, counting those acknowledged.
async fn put_share(client: FlightClient, share: u64, acknowledged: Arc<AtomicU64>) {
    for number in (share..batches()).step_by(usize::try_from(PUTTERS).unwrap()) {
        let id = BatchId::try_new(&format!("b-{number:06}")).unwrap();
        let rows = [batch(number)];
        let put = client.put(Some(&id), rows[0].schema(), &rows, ClientPut::REGISTERED);
        if let Err(error) = put.await {
            panic!("batch {id} could not be put: {error}");
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

struct Fleet {
    folder: TempDir,
    address: SocketAddr,
    server: Process,
    kills: u64,
}

impl Fleet {
    fn start(address: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let server = Self::serve(folder.path(), address);
        Fleet { folder, address, server, kills: 0 }
    }

    fn serve(folder: &Path, address: SocketAddr) -> Process {
        let sink = format!("parquet:{}", folder.join("out").display());
        let (address, words) = (address.to_string(), ["--lease", "1s", "--workers", "4"]);
        let words = [&["--flight-addr", &address, "--sink", &sink], &words[..]].concat();
        let mut server = spawn(folder, &words);
        if let Err(error) = server.wait_ready(PATIENCE) {
            panic!("{error}\n{}", server.stderr());
        }
        server
    }

    /// kill -9 in the middle of everything, and a new server on the same data.
    fn kill(&mut self) {
        self.server.kill9().unwrap();
        self.server = Self::serve(self.folder.path(), self.address);
        self.kills += 1;
    }

    fn files(&self) -> u64 {
        std::fs::read_dir(self.folder.path().join("out")).map_or(0, |entries| {
            entries
                .filter(|entry| {
                    let name = entry.as_ref().unwrap().file_name();
                    name.to_string_lossy().starts_with("part-")
                })
                .count() as u64
        })
    }

    fn counts(&self) -> serde_json::Value {
        let server = format!("grpc://{}", self.address);
        sheaf(&["batches", "stats", "--json", "--server", &server]).json().remove(0)
    }
}

#[test]
fn soak_killed_at_random_the_server_loses_nothing_and_doubles_nothing() {
    let clock: SharedClock = SystemClock::shared();
    let seed = clock.now().as_micros();
    eprintln!("seed {seed}");
    let mut fleet = Fleet::start(free_port().unwrap().release());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let inside = runtime.enter();
    let putting: Vec<_> = (0..PUTTERS)
        .map(|share| {
            let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
            let uri = format!("grpc://{}", fleet.address);
            let client = FlightClient::with_pool(pool, &uri, stubborn(), clock.clone()).unwrap();
            runtime.spawn(put_share(client, share, Arc::clone(&acknowledged)))
        })
        .collect();
    drop(inside);

    // Between two kills the work must get on by a random step: progress is asserted,
    // and the moments of death are spread over puts, claims, commits and settles.
    let mut random = Jitter::new(seed);
    let total = 2 * batches();
    let mut next = 0;
    while next < total {
        let done = || acknowledged.load(Ordering::SeqCst) + fleet.files();
        wait_until(PATIENCE, "puts and results to get on", || done() >= next).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
        let step = (total as f64 * 0.06 * random.next_unit()) as u64 + 20;
        next += step;
        if next < total {
            fleet.kill();
        }
    }
    for share in putting {
        runtime.block_on(share).unwrap();
    }
    let stats = wait_for(Duration::from_secs(120), "every batch to be over", || {
        let stats = fleet.counts();
        let queue = &stats["queues"][0];
        let over = ["completed", "failed", "cancelled", "expired"];
        let over: u64 = over.iter().filter_map(|s| queue["counts"][s].as_u64()).sum();
        (over == batches()).then_some(stats)
    })
    .unwrap();
    assert_eq!(stats["queues"][0]["counts"]["completed"], batches(), "{stats}");
    let rows = rows_out(&fleet.folder.path().join("out"));
    let wanted: Vec<i64> = (0..i64::try_from(batches() * ROWS).unwrap()).collect();
    assert_eq!(rows.len(), wanted.len(), "after {} kills", fleet.kills);
    assert_eq!(rows, wanted);
    assert!(fleet.kills >= 10, "{} kills only", fleet.kills);
    eprintln!("{} kills, {} batches, {} rows", fleet.kills, batches(), rows.len());
}

#[test]
fn the_demo_loses_and_doubles_nothing_and_recovers() {
    let folder = TempDir::new().unwrap();
    let kept = folder.path().join("demo");
    let output = command()
        .args(["demo", "--rows", "300000", "--json", "--keep", kept.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for (key, wanted) in [
        ("batches", 30),
        ("rows_in", 300_000),
        ("rows_out", 300_000),
        ("lost", 0),
        ("duplicated", 0),
    ] {
        assert_eq!(last[key], wanted, "{key} in {last}");
    }
    assert!(last["seconds"].as_f64().unwrap() > 0.0 && last["rows_per_second"].as_u64() > Some(0));
    assert!(last["recovered_ms"].is_u64(), "a worker was killed with work in its hands: {last}");
    assert_eq!(rows_out(&kept.join("results")).len(), 300_000);
}
