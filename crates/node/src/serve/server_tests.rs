//! A whole server in the process of the test.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use bytes::Bytes;
use sheaf_coordinator::{CoordinatorExt as _, State};
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, ipc};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, SystemClock};

use std::path::Path;

use super::*;
use crate::config::{Machine, Origin, RawConfig};

async fn start(folder: &Path, settings: &[(&str, &str)]) -> Server {
    let mut raw = RawConfig::default();
    raw.set("flight-addr", "127.0.0.1:0", Origin::Flag);
    raw.set("data-dir", folder.join("data").to_str().unwrap(), Origin::Flag);
    for (name, text) in settings {
        raw.set(name, *text, Origin::Flag);
    }
    let config = raw.validate(&Machine::of(1 << 30)).unwrap();
    Server::start(config, SystemClock::shared()).await.unwrap()
}

async fn state(server: &Server, id: &BatchId) -> Option<State> {
    server.coordinator().unwrap().get(id).await.unwrap().map(|batch| batch.state)
}

fn rows() -> RecordBatch {
    let column = Int64Array::from_iter_values(0..100);
    RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).unwrap()
}

/// Puts 100 rows over the network.
async fn put(server: &Server, id: &BatchId, options: &CallOptions) {
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&server.uri()).unwrap();
    let messages = ipc::encode_batches(rows().schema(), &[rows()]).unwrap();
    let messages = Box::pin(futures::stream::iter(messages.into_iter().map(Ok)));
    connection.put(&["batches", id.as_str()], options, messages).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_registers_in_the_same_call_and_an_action_by_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[("workers", "0"), ("advertise-addr", "h:7")]).await;
    let ids = ["fused", "named", "neither"].map(|id| id.parse::<BatchId>().unwrap());
    put(&server, &ids[0], &CallOptions::default().header("sheaf-register", "true")).await;
    assert_eq!(state(&server, &ids[0]).await, Some(State::Pending));
    put(&server, &ids[1], &CallOptions::default()).await;
    assert_eq!(state(&server, &ids[1]).await, None);

    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&server.uri()).unwrap();
    let register = async |id: &BatchId| {
        let body = Bytes::from(format!("{{\"batch_id\":\"{id}\"}}"));
        connection.action("RegisterBatch", body, &CallOptions::default()).await
    };
    register(&ids[1]).await.unwrap();
    let refused = register(&ids[2]).await.unwrap_err();
    assert!(matches!(refused.code(), Code::NotFound | Code::FailedPrecondition), "{refused}");
    for batch in server.coordinator().unwrap().get_all(ids[..2].to_vec()).await.unwrap() {
        assert_eq!((batch.spec.rows, batch.spec.checksum.len()), (100, 32));
        assert_eq!(batch.spec.locations, ["grpc://h:7"]);
    }
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_is_kept_until_its_work_is_over_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[("workers", "1"), ("ttl", "50ms")]).await;
    let pause = sheaf_coordinator::Control::Pause("default".to_owned());
    server.coordinator().unwrap().control(pause).await.unwrap();
    let id: BatchId = "kept".parse().unwrap();
    let register = CallOptions::default().header("sheaf-register", "true");
    put(&server, &id, &register).await;
    let other: BatchId = "unregistered".parse().unwrap();
    put(&server, &other, &CallOptions::default()).await;
    let gone = async |id: &BatchId| {
        let watched = async {
            while server.store().unwrap().info(id).is_ok() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(60), watched).await.expect("it goes");
    };
    gone(&other).await;
    assert!(server.store().unwrap().info(&id).is_ok(), "older than the other, and still needed");
    let resume = sheaf_coordinator::Control::Resume("default".to_owned());
    server.coordinator().unwrap().control(resume).await.unwrap();
    gone(&id).await;
    assert_eq!(state(&server, &id).await, Some(State::Completed));
    server.drain().await;
}

#[tokio::test]
async fn a_configuration_of_another_mode_is_refused() {
    let mut raw = RawConfig::default();
    raw.set("mode", "worker", Origin::Flag);
    raw.set("coordinator", "grpc://127.0.0.1:1", Origin::Flag);
    raw.set("flight-addr", "127.0.0.1:1", Origin::Flag);
    let config = raw.validate(&Machine::of(1 << 30)).unwrap();
    let refused = Server::start(config, SystemClock::shared()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let config = RawConfig::default().validate(&Machine::of(1 << 30)).unwrap();
    let refused = workers::RemoteWorkers::start(config, SystemClock::shared()).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
}
