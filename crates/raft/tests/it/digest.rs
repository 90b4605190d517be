//! The hash of a state that never rests.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use sheaf_flight::{ActionHandler as _, CallContext, ChannelPool, ClientConfig};
use sheaf_raft::admin::RaftActions;
use sheaf_raft::config::RaftClusterConfig;
use sheaf_raft::machine::{Applied, DigestSoFar, MachineError, StateMachine};
use sheaf_raft::node::RaftServer;
use sheaf_retry::SystemClock;

/// Long enough for machines that do much else.
const LONG: Duration = Duration::from_secs(60);

/// Who hashes the state, each by a number, and how many parts were hashed.
#[derive(Default)]
struct Hashed {
    who: BTreeSet<u64>,
    parts: u64,
}

/// A state of which no hash comes to its end.
struct Restless(Arc<Mutex<Hashed>>);

impl StateMachine for Restless {
    fn apply(&mut self, _: Applied<'_>) -> Bytes {
        Bytes::new()
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        Err("it has none".into())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        Ok(None)
    }

    fn restore(
        &mut self,
        _: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        Err("it has none".into())
    }

    fn digest(&mut self) -> u64 {
        0
    }

    fn digest_part(&mut self, so_far: &mut DigestSoFar) -> Option<u64> {
        let mut hashed = self.0.lock().unwrap();
        if so_far.version == 0 {
            so_far.version = hashed.who.len() as u64 + 1;
        }
        hashed.who.insert(so_far.version);
        hashed.parts += 1;
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hash_is_made_at_a_time_and_for_nobody_who_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let address = sheaf_testkit::free_port().unwrap().release().to_string();
    let hashed = Arc::<Mutex<Hashed>>::default();
    let mut server = RaftServer::new(Restless(Arc::clone(&hashed)), directory.path());
    server.initialize(RaftClusterConfig::new("test", 1).node(1, address)).unwrap();
    let node = server.start().await.unwrap();
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let actions = Arc::new(RaftActions::new(node, pool));
    let call = || {
        let actions = Arc::clone(&actions);
        tokio::spawn(async move {
            let body = Bytes::from_static(b"{\"digest\": true}");
            actions.call(&CallContext::default(), "RaftStatus", body).await
        })
    };
    let until = async |what: &str, holds: &(dyn Fn(&Hashed) -> bool + Sync)| {
        let look = || std::future::ready(holds(&hashed.lock().unwrap()));
        sheaf_testkit::wait_until_async(LONG, what, look).await.unwrap();
    };
    let calls: Vec<_> = (0..4).map(|_| call()).collect();
    until("a hash to be made", &|hashed| hashed.parts > 10_000).await;
    assert_eq!(hashed.lock().unwrap().who.len(), 1, "several are made at a time");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    for call in calls {
        assert!(call.await.unwrap_err().is_cancelled());
    }
    // It has its turn as soon as nobody hashes any more.
    let last = call();
    until("the next hash to be made", &|hashed| hashed.who.len() == 2).await;
    let refused = last.await.unwrap().unwrap_err();
    assert!(refused.message().contains("no hash of the state within 10s"), "{refused:?}");
    server.shutdown().await;
}
