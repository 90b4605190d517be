//! Who may be a component.

use std::time::Duration;

use sheaf_flight::{
    ChannelPool, ClientConfig, ClientSecurity, Exposure, FlightRouter, Listener, Secret, Security,
    SecurityFiles, Server, TokenSource,
};
use sheaf_pipeline::control::{ControlClient, ControlPlane, ControlService, Options};
use sheaf_pipeline::registry::{Filter, Kind, Load, Metadata, Registration, Status, port_schema};
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{World, beat, clock, once, plan, registration, worker};

#[tokio::test]
async fn a_component_registers_with_all_that_it_says_of_itself() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let fields = vec![arrow_schema::Field::new("id", arrow_schema::DataType::Int64, false)];
    let schema = port_schema("out", &arrow_schema::Schema::new(fields));
    let metadata = Metadata {
        name: "Orders from Kafka".to_owned(),
        version: "1.2.3".to_owned(),
        inputs: Vec::new(),
        outputs: vec![schema.clone()],
    };
    let asked = Registration {
        health_endpoint: "localhost".to_owned(),
        endpoints: vec!["grpc+unix:///run/orders.sock".to_owned()],
        metadata,
        ..registration("orders:read", Kind::Source)
    };
    let joined = client.register(&asked).await.unwrap();
    assert!(joined.registered.created && joined.registered.fence > 0);
    assert_eq!(joined.registered.connections.downstream, ["orders:filter"]);
    assert_eq!(joined.beat_every, Duration::from_secs(10));
    assert_eq!(joined.unhealthy_after, Duration::from_secs(30));

    let found = client.component("orders:read").await.unwrap();
    assert_eq!((found.kind, found.status), (Kind::Source, Status::Healthy));
    assert_eq!((&*found.pipeline, &*found.component), ("orders", "read"));
    assert_eq!(found.health_endpoint, "localhost:8088");
    assert_eq!(found.endpoints, asked.endpoints);
    assert_eq!(found.registered_at.as_millis(), 1_800_000_000_000);
    assert_eq!(found.last_heartbeat, found.registered_at);
    assert_eq!(found.metadata.version, "1.2.3");
    assert_eq!(found.metadata.outputs[0].ipc_schema, schema.ipc_schema);
    assert_eq!(found.metadata.outputs[0].text, "id: Int64 not null");

    let all = client.components(&Filter::default()).await.unwrap();
    let all: Vec<_> = all.iter().map(|found| (&*found.id, found.status)).collect();
    let expected = Status::Expected;
    assert_eq!(
        all,
        [("orders:filter", expected), ("orders:read", Status::Healthy), ("orders:write", expected)]
    );
}

#[tokio::test]
async fn a_wrong_token_and_the_place_of_another_are_refused() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let good = registration("orders:read", Kind::Source);
    let code = async |asked: Registration| client.register(&asked).await.unwrap_err().code();
    let wrong = Registration { token: Secret::new("guessed"), ..good.clone() };
    assert_eq!(code(wrong).await, Code::PermissionDenied);
    let none = Registration { token: Secret::new(""), ..good.clone() };
    assert_eq!(code(none).await, Code::PermissionDenied);
    // The token of one place takes no other one.
    let foreign = Registration { id: "orders:write".to_owned(), ..good.clone() };
    assert_eq!(code(foreign).await, Code::PermissionDenied);
    let other_kind = Registration { kind: Kind::Sink, ..good.clone() };
    assert_eq!(code(other_kind).await, Code::InvalidArgument);
    assert_eq!(code(registration("orders:none", Kind::Source)).await, Code::NotFound);
    let wrong = Registration { token: Secret::new("guessed"), ..good.clone() };
    let text = client.register(&wrong).await.unwrap_err().to_string();
    assert!(text.contains("orders:read") && !text.contains("guessed"), "{text}");
    assert_eq!(client.component("orders:read").await.unwrap().status, Status::Expected);
}

#[tokio::test]
async fn another_incarnation_is_told_when_to_come_again() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let first = registration("orders:read", Kind::Source);
    let second = registration("orders:read", Kind::Source);
    let before = client.register(&first).await.unwrap();
    let error = client.register(&second).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(30_001)));
    world.clock.advance(Duration::from_millis(30_001));
    let after = client.register(&second).await.unwrap();
    assert!(after.registered.fence > before.registered.fence);
    // What the first one says now is refused, and undoes nothing.
    assert_eq!(client.beat(&beat(&first, 1)).await.unwrap_err().code(), Code::StaleFence);
    let left = client.deregister(&first.id, &first.incarnation, "late", None).await;
    assert_eq!(left.unwrap_err().code(), Code::StaleFence);
    assert_eq!(client.register(&first).await.unwrap_err().code(), Code::AlreadyExists);
    assert!(client.beat(&beat(&second, 1)).await.unwrap().counted);
    let found = client.component("orders:read").await.unwrap();
    assert_eq!((found.restarts, found.fence), (1, after.registered.fence));
}

#[tokio::test]
async fn workers_are_found_with_their_load() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let load = Load { slots: 8, memory_limit_bytes: 1 << 30, ..Load::default() };
    let one = Registration { load: Some(load), ..worker("worker-1") };
    client.register(&one).await.unwrap();
    client.register(&worker("worker-2")).await.unwrap();
    let busy = Load { running: 5, memory_used_bytes: 1 << 20, ..load };
    let mut said = beat(&one, 1);
    said.load = Some(busy);
    client.beat(&said).await.unwrap();
    let workers =
        Filter { kinds: vec![Kind::Worker], statuses: vec![Status::Healthy], ..Filter::default() };
    let found = client.components(&workers).await.unwrap();
    let found: Vec<_> = found.iter().map(|found| (&*found.id, found.load)).collect();
    assert_eq!(found, [("worker-1", Some(busy)), ("worker-2", None)]);
    client.deregister("worker-2", &worker("worker-2").incarnation, "", None).await.unwrap_err();
    client.deregister("worker-1", &one.incarnation, "done", None).await.unwrap();
    assert_eq!(client.components(&workers).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_of_the_port_needs_the_rights_of_its_call() {
    let folder = crate::harness::directory();
    let tokens = folder.path().join("tokens");
    let lines = "component component-0123456789abcdef allow=control:rw\n\
                 tool tool-0123456789abcdef allow=control:r\n\
                 other other-0123456789abcdef allow=batches:rwx\n";
    std::fs::write(&tokens, lines).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let files = SecurityFiles { tokens: Some(tokens), ..SecurityFiles::default() };
    let plane = ControlPlane::open(Options::default(), clock()).unwrap();
    let service = ControlService::new(plane).into_server();
    let listener = Listener::bind("127.0.0.1:0", "--listen", Exposure::Loopback).unwrap();
    let server = Server::new(FlightRouter::builder().build().unwrap())
        .security(Security::open(files, clock()).unwrap())
        .add_service_in(ControlService::NAMESPACE, ControlService::NEEDS, service)
        .serve(listener)
        .await
        .unwrap();
    let client = |name: &str| {
        let token = TokenSource::Fixed(Secret::new(format!("{name}-0123456789abcdef")));
        let security = ClientSecurity { token, ..ClientSecurity::default() };
        let config = ClientConfig { security, ..ClientConfig::default() };
        let pool = ChannelPool::new(config, clock());
        ControlClient::new(pool, server.uri().parse().unwrap(), once(), clock())
    };
    client("component").register(&worker("worker-1")).await.unwrap();
    let error = client("tool").register(&worker("worker-2")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(client("tool").components(&Filter::default()).await.unwrap().len(), 1);
    let error = client("other").components(&Filter::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}
