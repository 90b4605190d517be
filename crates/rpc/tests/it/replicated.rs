//! One coordinator behind several addresses, any of which may be gone.

use std::sync::Arc;

use sheaf_coordinator::{Coordinator, State};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_rpc::{RpcCoordinator, RpcOptions};

use crate::harness::{batch, embedded, once, patient, pool, serve, spec};

fn replicated(uris: &[String], options: RpcOptions) -> RpcCoordinator {
    let targets = uris.iter().map(|uri| uri.parse().unwrap()).collect();
    RpcCoordinator::replicated(pool(), targets, options, SystemClock::shared()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_at_the_next_server_when_one_is_gone() {
    let coordinator = embedded().await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(serve(Arc::clone(&coordinator)).await);
    }
    let uris: Vec<String> = servers.iter().map(sheaf_flight::ServerHandle::uri).collect();
    let client = replicated(&uris, patient());
    for (index, server) in servers.into_iter().enumerate() {
        let name = format!("batch:{index}");
        let registering = (0..8).map(|_| client.register(vec![spec(&name)]));
        for registered in futures::future::join_all(registering).await {
            assert_eq!(registered.unwrap()[0].state, State::Pending);
        }
        assert_eq!(client.target().to_string(), uris[index], "stays where it is answered");
        assert_eq!(batch(&client, &name).await.attempts, 0);
        drop(server);
    }
    let error = replicated(&uris, once()).register(vec![spec("late")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(uris.iter().all(|uri| error.to_string().contains(uri.as_str())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_refused_and_not_asked_elsewhere() {
    let coordinator = embedded().await;
    let server = serve(coordinator).await;
    let uris = [server.uri(), "grpc://127.0.0.1:1".to_owned()];
    let client = replicated(&uris, patient());
    client.register(vec![spec("a")]).await.unwrap();
    let other = sheaf_coordinator::BatchSpec { rows: 7, ..spec("a") };
    assert_eq!(client.register(vec![other]).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.target().to_string(), uris[0]);
}

#[tokio::test]
async fn a_coordinator_has_an_address() {
    let none = RpcCoordinator::replicated(pool(), vec![], once(), SystemClock::shared());
    assert_eq!(none.unwrap_err().code(), Code::InvalidArgument);
}
