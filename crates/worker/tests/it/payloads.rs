//! Where payloads are looked for.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use futures::TryStreamExt as _;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::ipc::Compression;
use sheaf_flight::{Exposure, FlightRouter, Listener, Server};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{
    ContentHasher, Durability, FlightClient, NAMESPACE, Options, PutOptions, Store, StoreHandler,
};
use sheaf_worker::{LocalPayloads, Payloads, RemotePayloads, ToSpec as _};

use crate::support::id;

#[tokio::test]
async fn only_what_should_be_here_is_lost_when_it_is_not() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let payloads = LocalPayloads::new(store).with_own(vec!["grpc://me:1".to_owned()]);
    let mut batch = BatchSpec::new(id("b"));
    for (locations, code) in [
        (vec![], Code::NotFound),
        (vec!["grpc://me:1".to_owned()], Code::NotFound),
        (vec!["grpc://me:1".to_owned(), "grpc://other:1".to_owned()], Code::Unavailable),
    ] {
        batch.locations = locations;
        let error = payloads.open(&batch).await.err().unwrap();
        assert_eq!(error.code(), code, "{:?}: {error}", batch.locations);
    }
}

/// A registration is about what was put, however the store keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_given_what_was_put_where_the_store_compressed_it() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let column = Arc::new(Int64Array::from_iter_values((0..10_000).map(|n| n / 7))) as _;
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let how = PutOptions::MEMORY.compressed(Compression::Zstd);
    let receipt = store.put_batches(None, rows.schema(), &[rows], how).await.unwrap();
    assert!(receipt.stored_bytes * 2 < receipt.bytes, "{receipt:?}");

    let handler = StoreHandler::new(store.clone(), Durability::Memory);
    let router = FlightRouter::builder().handler(NAMESPACE, Arc::new(handler)).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).serve(listener).await.unwrap();
    let client = FlightClient::connect(&server.uri(), SystemClock::shared()).unwrap();
    let located = BatchSpec { locations: vec![server.uri()], ..receipt.to_spec() };
    let elsewhere = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let elsewhere = LocalPayloads::new(elsewhere).with_elsewhere(client.clone());
    let remote = RemotePayloads::new(client);
    let (plain, local) = (receipt.to_spec(), LocalPayloads::new(store));
    let ways: [(&str, &dyn Payloads, &BatchSpec); 4] = [
        ("local", &local, &plain),
        ("remote", &remote, &plain),
        ("located", &remote, &located),
        ("elsewhere", &elsewhere, &located),
    ];
    for (way, payloads, batch) in ways {
        let messages: Vec<_> = payloads.open(batch).await.unwrap().try_collect().await.unwrap();
        let mut content = ContentHasher::default();
        messages.iter().for_each(|message| content.add(message));
        assert_eq!(
            (content.checksum(), content.bytes()),
            (batch.checksum.clone(), batch.bytes),
            "{way}"
        );
    }
}
