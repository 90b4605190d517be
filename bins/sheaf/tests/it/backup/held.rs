//! Payloads are held for as long as a backup takes, and no longer.

use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use sheaf_coordinator::State;
use sheaf_flight::CallOptions;
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{ClientPut, FlightClient};
use sheaf_testkit::{Fault, FaultProxy, wait_for_async, wait_until, wait_until_async};

use super::{ask, connection};
use crate::harness::{PATIENCE, Server, command, sheaf};
use crate::remote::{Remote, id, worker};

/// Batches of 2 MiB: more in all than what connections take up while nobody reads.
pub(super) const LARGE: u64 = 32;
/// So slow that the backup is in its first tenth when a test sees it begin.
const SLOW: Fault = Fault::Throttle { bytes_per_second: 4 << 20 };

fn large(number: u64) -> RecordBatch {
    let first = i64::try_from(number).unwrap() << 32;
    let rows = Int64Array::from_iter_values(first..first + (256 << 10));
    RecordBatch::try_from_iter([("n", Arc::new(rows) as _)]).unwrap()
}

/// A server that backups are made of over a slow line.
pub(super) struct Slow {
    pub(super) server: Server,
    pub(super) backup: PathBuf,
    proxy: FaultProxy,
    uri: String,
}

impl Slow {
    pub(super) async fn start(words: &[&str]) -> Self {
        let server = Server::start(words);
        let proxy = FaultProxy::start(server.ready.addr("flight").unwrap()).unwrap();
        let uri = server.ready.url("flight").unwrap().to_owned();
        let backup = PathBuf::from(server.path("backup"));
        Slow { server, backup, proxy, uri }
    }

    pub(super) async fn put(&self, numbers: Range<u64>) {
        let client = FlightClient::connect(&self.uri, SystemClock::shared()).unwrap();
        for number in numbers {
            let rows = [large(number)];
            let put = ClientPut::REGISTERED;
            client.put(Some(&id(number)), rows[0].schema(), &rows, put).await.unwrap();
        }
    }

    pub(super) fn partial(&self) -> PathBuf {
        self.backup.with_extension("partial")
    }

    /// A backup that has the coordinator and then stands still.
    pub(super) fn begin(&mut self) -> Child {
        self.proxy.set(SLOW);
        let client = command()
            .args(["backup", self.backup.to_str().unwrap(), "--json"])
            .args(["--server", &self.proxy.uri()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let copied = self.partial().join("coordinator.redb");
        wait_until(PATIENCE, "the coordinator to be copied", || copied.exists()).unwrap();
        self.proxy.set(Fault::Silent);
        client
    }

    /// Lets everything pass.
    pub(super) fn fast(&self) {
        self.proxy.set(Fault::None);
    }

    pub(super) async fn holds(&self) -> u64 {
        ask(&self.uri, "StoreStats", "{}").await["holds"].as_u64().unwrap()
    }

    pub(super) async fn released(&self) {
        wait_until_async(PATIENCE, "the hold to end", || async { self.holds().await == 0 })
            .await
            .unwrap();
    }
}

/// The work is done and the time to live has passed while the backup stands:
/// what it still has to copy is there nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_outlive_their_time_until_the_backup_has_them() {
    const TTL: Duration = Duration::from_millis(300);
    let mut slow = Slow::start(&["--workers", "0", "--ttl", "300ms"]).await;
    slow.put(0..LARGE).await;
    let client = slow.begin();
    let remote = Remote::at(&slow.uri);
    let (_worker, _) = worker(&slow.uri, &slow.uri, &["--workers", "2"]);
    remote.completes(LARGE).await;
    let clock = SystemClock::shared();
    let done = clock.elapsed();
    let passed = || async { clock.elapsed() > done + 3 * TTL };
    wait_until_async(PATIENCE, "the time to live to pass", passed).await.unwrap();
    let stats = ask(&slow.uri, "StoreStats", "{}").await;
    assert_eq!((&stats["holds"], &stats["payloads"]), (&1.into(), &LARGE.into()), "{stats}");
    let body = format!("{{\"batch_id\":\"{}\"}}", id(0));
    let options = CallOptions::default();
    let refused = connection(&slow.uri).action("DeleteBatch", body.into(), &options).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Overloaded, "{refused}");
    assert!(refused.retry_after().is_some(), "{refused}");
    let busy = sheaf(&["backup", &slow.server.path("other"), "--server", &slow.uri]).failed(6);
    assert!(busy.contains("another backup"), "{busy}");

    slow.fast();
    let ended = tokio::task::block_in_place(|| client.wait_with_output()).unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let made: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&made["live"], &made["payloads"], &made["missing"]["count"]),
        (&LARGE.into(), &LARGE.into(), &0.into()),
        "{made}"
    );
    // Then everything goes on.
    slow.released().await;
    wait_for_async(PATIENCE, "payloads to expire after all", || async {
        let stats = ask(&slow.uri, "StoreStats", "{}").await;
        (stats["payloads"] == 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(remote.count(State::Completed).await, LARGE);
    let (_, metrics) = slow.server.admin("/metrics");
    for line in ["sheaf_store_holds 0", "sheaf_store_postponed_total 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
