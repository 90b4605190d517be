//! Flight servers, read and written: a store of Sheaf's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use sheaf_components::Host;
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{
    CallOptions, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{Durability, Options, Store, StoreHandler};

use crate::common::{
    all, batch, goes_on_from_everywhere, numbers, received, sink_of, source, source_of, start,
};

async fn serve() -> ServerHandle {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let handler = Arc::new(StoreHandler::new(store, Durability::Memory));
    let router = FlightRouter::builder().handler("batches", handler).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "test", Exposure::Loopback).unwrap();
    Server::new(router).serve(listener).await.unwrap()
}

#[tokio::test]
async fn a_stream_is_read_and_gone_on_with_from_everywhere() {
    let server = serve().await;
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&server.uri()).unwrap();
    let batches: Vec<_> = (0..4).map(|number| batch(number * 10, 10)).collect();
    let messages = encode_batches(batches[0].schema(), &batches).unwrap();
    let messages = stream::iter(messages.into_iter().map(Ok)).boxed();
    connection.put(&["batches", "one"], &CallOptions::default(), messages).await.unwrap();
    let config = json!({"server": {"uri": server.uri()}, "ticket": "batches/one"});
    let read = all(source("flight", config.clone(), start(Path::new("/"))).await.as_mut()).await;
    assert_eq!(numbers(&read, "n"), (0..40).collect::<Vec<_>>());
    goes_on_from_everywhere("flight", config, Path::new("/"), "n").await;

    let config = json!({"server": {"uri": server.uri()}, "ticket": "batches/two"});
    let mut source = source("flight", config, start(Path::new("/"))).await;
    assert_eq!(source.next().await.unwrap_err().code(), Code::NotFound);
    server.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_store_has_a_batch_once_that_is_sent_again() {
    let server = serve().await;
    let config = json!({"server": {"uri": server.uri()}, "path": ["batches"]});
    for given in [[received(1, 0, 3), received(2, 3, 3)], [received(2, 3, 3), received(3, 6, 0)]] {
        let host = Host::plain();
        let mut sink = sink_of("flight", config.clone(), Path::new("/"), &host).await.unwrap();
        for received in &given {
            sink.write(received).await.unwrap();
        }
        assert_eq!(sink.flush().await.unwrap(), 2);
    }
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let connection = pool.connection(&server.uri()).unwrap();
    let listed = connection.list(bytes::Bytes::new(), &CallOptions::default()).await.unwrap();
    let mut listed: Vec<_> = listed.try_collect().await.unwrap();
    listed.sort_by_key(|entry| entry.path.clone());
    assert_eq!(listed.iter().map(|entry| entry.total_records).collect::<Vec<_>>(), [3, 3]);
    let ticket = listed[1].path.join("/");
    let config = json!({"server": {"uri": server.uri()}, "ticket": ticket});
    let read = all(source("flight", config, start(Path::new("/"))).await.as_mut()).await;
    assert_eq!(numbers(&read, "n"), [3, 4, 5]);
    server.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_server_that_is_away_may_come_back_and_a_wrong_address_may_not() {
    let config = json!({"server": {"uri": "grpc://127.0.0.1:1"}, "path": ["batches"]});
    let mut sink = sink_of("flight", config, Path::new("/"), &Host::plain()).await.unwrap();
    let error = sink.write(&received(1, 0, 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let config = json!({"server": {"uri": "nowhere"}, "ticket": "x"});
    let opened = source_of("flight", config, start(Path::new("/")), &Host::plain()).await;
    assert_eq!(opened.err().unwrap().code(), Code::InvalidArgument);
}
