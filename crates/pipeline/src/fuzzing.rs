//! Ways in for fuzz targets: stored records and registrations of any bytes.
//!
//! No part of the interface, and there in tests and with the feature `fuzzing` only.

use std::time::Duration;

use prost::Message as _;
use sheaf_proto::control::v1::RegisterComponentRequest;
use sheaf_retry::{Code, Retryable as _, Timestamp};

use crate::health::Timing;
use crate::registry::{
    Beat, Filter, Kind, Limits, Now, PipelineState, Place, Plan, Registration, Registry, Token,
    wire,
};
use crate::state::record;

const TOKEN: &str = "the token of the place";

fn now() -> Now {
    Now::start(Timestamp::from_millis(1_700_000_000_000))
}

/// With a place `orders:read`.
fn planned() -> Registry {
    let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 1);
    let read = Place::new("orders:read", Kind::Source, Token::new(TOKEN).digest());
    let plan = Plan { id: "orders".to_owned(), places: vec![read], ..Plan::default() };
    drop(registry.plan(plan, now()));
    registry
}

/// A registration that is taken.
fn registration() -> Registration {
    Registration {
        id: "orders:read".to_owned(),
        kind: Kind::Source,
        token: Token::new(TOKEN).secret().clone(),
        incarnation: sheaf_flight::Secret::new("0123456789abcdef"),
        address: "grpc://127.0.0.1:50051".to_owned(),
        health_endpoint: "localhost".to_owned(),
        endpoints: vec!["grpc+unix:///run/a".to_owned()],
        metadata: crate::registry::Metadata {
            name: "Orders".to_owned(),
            version: "1".to_owned(),
            inputs: Vec::new(),
            outputs: vec![crate::registry::port_schema("", &schema())],
        },
        load: None,
    }
}

fn schema() -> arrow_schema::Schema {
    let id = arrow_schema::Field::new("id", arrow_schema::DataType::Int64, false);
    arrow_schema::Schema::new(vec![id])
}

/// Records without their checksums, of a pipeline and of a component.
pub fn records() -> Vec<Vec<u8>> {
    let mut registry = planned();
    drop(registry.register(registration(), now()));
    drop(registry.begin_run("orders", now()));
    drop(registry.set_pipeline_state("orders", PipelineState::Failed, "disk full", now()));
    let pipelines = registry.pipelines().map(|found| record::pipeline(found));
    let filter = Filter::default();
    let components = registry.select(&filter).filter_map(|found| record::component(found));
    let all = pipelines.chain(components).chain([record::meta(7)]);
    all.map(|mut sealed| {
        sealed.truncate(sealed.len() - record::CHECKSUM_LENGTH);
        sealed
    })
    .collect()
}

/// A stored record of any bytes, with a checksum that fits: read as what is
/// written the same again, or refused; a registry goes on with it. Answers
/// whether it was read.
pub fn stored(content: &[u8]) -> bool {
    let sealed = record::sealed(content);
    let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 1);
    let mut is_read = record::read_meta(&sealed).is_ok();
    if let Ok(read) = record::read_pipeline(&sealed) {
        is_read = true;
        let id = read.plan.id.clone();
        assert_eq!(record::read_pipeline(&record::pipeline(&read)).as_ref(), Ok(&read));
        registry.load_pipeline(read, now());
        drop(registry.begin_run(&id, now()));
        drop(registry.set_pipeline_state(&id, PipelineState::Failed, "", now()));
        drop(registry.remove_pipeline(&id, now()));
    }
    if let Ok(read) = record::read_component(&sealed) {
        is_read = true;
        if let Some(again) = record::component(&read) {
            assert_eq!(record::read_component(&again).as_ref(), Ok(&read));
        }
        let mut planned = planned();
        planned.load_component(read.clone(), now());
        planned.check(now().plus(Duration::from_secs(9_999)));
        drop(planned.register(registration(), now()));
        registry.load_component(read, now());
    }
    registry.check(now().plus(Duration::from_secs(9_999)));
    is_read
}

/// A request that is taken, as it is on the wire.
pub fn request() -> Vec<u8> {
    wire::register_request(&registration()).encode_to_vec()
}

/// A registration of any bytes: taken and shown as it is, or refused with
/// nothing changed. Answers whether it was taken.
pub fn registered(request: &[u8]) -> bool {
    let Ok(message) = RegisterComponentRequest::decode(request) else { return false };
    let mut registry = planned();
    let before = registry.bytes();
    let asked = match wire::registration(message) {
        Ok(asked) => asked,
        Err(error) => return refused(&error),
    };
    let (id, incarnation) = (asked.id.clone(), asked.incarnation.clone());
    if let Err(error) = registry.register(asked, now()) {
        assert_eq!(registry.bytes(), before, "what is refused leaves nothing");
        return refused(&error);
    }
    let Ok(found) = registry.component(&id).cloned() else {
        panic!("{id} was taken and is not there")
    };
    let shown = wire::component_from(wire::component(&found));
    assert!(shown.is_ok_and(|shown| shown.metadata == found.metadata && shown.id == id));
    let beat = Beat { id, incarnation, sequence: 1, progress: 1, load: None };
    assert!(registry.beat(beat, now()).is_ok(), "who was taken may beat");
    true
}

fn refused(error: &crate::registry::Error) -> bool {
    assert_ne!(error.code(), Code::Internal, "a bug of ours, says {error}");
    false
}
