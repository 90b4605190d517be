//! What nobody should send.

use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_flight::{Error, Secret};
use sheaf_pipeline::registry::{
    Filter, Kind, Limits, Load, Metadata, PortSchema, Registration, port_schema,
};
use sheaf_proto::control::v1 as proto;
use sheaf_proto::control::v1::component_registry_client::ComponentRegistryClient;
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{World, beat, limited, metric, plan, registration, worker};

fn with(change: impl FnOnce(&mut Registration)) -> Registration {
    let mut asked = worker("w1");
    change(&mut asked);
    asked
}

fn ports(count: usize, port: &PortSchema) -> Metadata {
    Metadata { inputs: vec![port.clone(); count], ..Metadata::default() }
}

#[tokio::test]
async fn registrations_of_the_wrong_form_are_refused_with_what_is_wrong() {
    let world = World::new().await;
    let mut metrics = MetricsRegistry::default();
    world.plane.register_metrics(&mut metrics);
    let client = world.client();
    let long = |length: usize| "x".repeat(length);
    let schema = |length: usize| PortSchema {
        ipc_schema: vec![0xff; length].into(),
        ..PortSchema::default()
    };
    let text = |length: usize| PortSchema { text: long(length), ..PortSchema::default() };
    let cases = [
        ("id: 201 is over the limit of 200", with(|it| it.id = long(201))),
        ("id: it is empty", with(|it| it.id.clear())),
        ("not '/'", with(|it| it.id = "../w1".to_owned())),
        ("not 'ä'", with(|it| it.id = "wä".to_owned())),
        ("incarnation: 15 characters", with(|it| it.incarnation = Secret::new(long(15)))),
        ("incarnation: 65 characters", with(|it| it.incarnation = Secret::new(long(65)))),
        ("token: 1001 is over", with(|it| it.token = Secret::new(long(1_001)))),
        ("address: ", with(|it| it.address.clear())),
        ("address: ", with(|it| it.address = "ftp://h:1".to_owned())),
        ("is no address of a server", with(|it| it.address = "grpc://h:0".to_owned())),
        ("address: 1001 is over", with(|it| it.address = long(1_001))),
        ("endpoints: 17 is over", with(|it| it.endpoints = vec!["grpc://h:1".to_owned(); 17])),
        ("not the host of its address", with(|it| it.health_endpoint = "10.0.0.1:80".to_owned())),
        ("has no place in it", with(|it| it.metadata.name = "a\u{1b}[2J".to_owned())),
        ("metadata.inputs: 65 is over", with(|it| it.metadata = ports(65, &text(1)))),
        ("metadata.ipc_schema: 1048577", with(|it| it.metadata = ports(1, &schema((1 << 20) + 1)))),
        ("metadata.ipc_schema: ", with(|it| it.metadata = ports(1, &schema(1 << 20)))),
        ("metadata.text: 65537 is over", with(|it| it.metadata = ports(1, &text((64 << 10) + 1)))),
    ];
    let count = cases.len() as u64;
    for (wrong, asked) in cases {
        let error = client.register(&asked).await.unwrap_err();
        assert!(error.message().contains(wrong), "{wrong}: {error}");
        assert!(matches!(error.code(), Code::InvalidArgument | Code::LimitExceeded), "{error}");
    }
    let refused =
        |code: &str| metric(&metrics, &format!("sheaf_control_refused_total{{code=\"{code}\"}}"));
    assert_eq!(refused("invalid_argument") + refused("limit_exceeded"), count);
    assert!(client.components(&Filter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_larger_than_any_component_needs_is_not_read() {
    let world = World::new().await;
    let name = "x".repeat(9 << 20);
    let metadata = Metadata { name, ..Metadata::default() };
    let asked = Registration { metadata, ..worker("w1") };
    let error = world.client().register(&asked).await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    world.client().register(&worker("w1")).await.unwrap();
}

#[tokio::test]
async fn what_all_components_say_together_is_bounded() {
    let world = World::with(limited(Limits { bytes: 10_000, ..Limits::default() })).await;
    let client = world.client();
    let fields = (0..20).map(|n| {
        arrow_schema::Field::new(format!("column-{n}"), arrow_schema::DataType::Utf8, true)
    });
    let port = port_schema("", &arrow_schema::Schema::new(fields.collect::<Vec<_>>()));
    let mut taken = 0;
    let error = loop {
        let asked = Registration { metadata: ports(1, &port), ..worker(&format!("w{taken}")) };
        match client.register(&asked).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "it takes without end");
    };
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    assert!(error.message().contains("limit of 10000"), "{error}");
    let all = client.components(&Filter::default()).await.unwrap();
    assert!(taken > 0 && all.len() == taken);
    // Small ones still find room, and so do those that are there.
    client.register(&worker("small")).await.unwrap();
}

#[tokio::test]
async fn numbers_that_are_no_word_of_this_version_are_refused() {
    let world = World::new().await;
    let channel = format!("http://{}", world.handle.local_addr());
    let channel = tonic::transport::Channel::from_shared(channel).unwrap().connect().await.unwrap();
    let mut raw = ComponentRegistryClient::new(channel);
    let request =
        proto::RegisterComponentRequest { id: "w1".to_owned(), r#type: 77, ..Default::default() };
    let error: Error = raw.register_component(request).await.unwrap_err().into();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("type: 77"), "{error}");
    let filter = Some(proto::ComponentFilter { statuses: vec![-1], ..Default::default() });
    let request = proto::GetComponentsRequest { filter, ..Default::default() };
    let error: Error = raw.get_components(request).await.unwrap_err().into();
    assert!(error.message().starts_with("status: -1"), "{error}");
    let ids = vec!["a".to_owned(); 10_001];
    let filter = Some(proto::ComponentFilter { ids, ..Default::default() });
    let request = proto::WatchComponentsRequest { filter, current: true };
    let error: Error = raw.watch_components(request).await.unwrap_err().into();
    assert_eq!(error.code(), Code::LimitExceeded);
    for id in ["", "a b", &"x".repeat(201)] {
        let request = proto::GetComponentStatusRequest { id: id.to_owned() };
        assert!(raw.get_component_status(request).await.is_err(), "{id:?}");
    }
}

#[tokio::test]
async fn nobody_beats_for_another_one_and_nobody_is_shown_how() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let asked = registration("orders:read", Kind::Source);
    client.register(&asked).await.unwrap();
    let mut forged = beat(&asked, 1);
    forged.incarnation = worker("x").incarnation;
    assert_eq!(client.beat(&forged).await.unwrap_err().code(), Code::StaleFence);
    let mut loaded = beat(&asked, 1);
    loaded.load = Some(Load::default());
    assert_eq!(client.beat(&loaded).await.unwrap_err().code(), Code::InvalidArgument);
    let left = client.deregister("orders:read", &forged.incarnation, "", None).await;
    assert_eq!(left.unwrap_err().code(), Code::StaleFence);
    // Neither incarnation nor token is in anything that is answered.
    let found = world.plane.component("orders:read".to_owned()).await.unwrap();
    let pipeline = world.plane.pipeline("orders".to_owned()).await.unwrap();
    let shown = format!("{found:?} {pipeline:?} {asked:?}");
    for secret in [asked.incarnation.expose(), asked.token.expose()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let found = client.component("orders:read").await.unwrap();
    assert!(!format!("{found:?}").contains(asked.incarnation.expose()));
}
