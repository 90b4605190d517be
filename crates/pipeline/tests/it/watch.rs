//! Changes, in order and bounded.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Event, Filter, Kind, Limits, Status};
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{
    PATIENCE, World, beat, client, clock, limited, once, plan, registration, serve, worker,
};

async fn next(events: &mut BoxStream<'static, Event>) -> Event {
    tokio::time::timeout(PATIENCE, events.next()).await.unwrap().expect("it goes on")
}

/// Id, status before and after, whether it is gone.
async fn change(events: &mut BoxStream<'static, Event>) -> (String, Option<Status>, Status, bool) {
    match next(events).await {
        Event::Changed(change) => {
            let component = &change.component;
            (component.id.clone(), change.before, component.status, change.removed)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_sees_what_is_there_and_then_every_change_in_order() {
    use Status::{Expected, Healthy, Stopped, Unhealthy};
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let read = registration("orders:read", Kind::Source);
    client.register(&read).await.unwrap();
    let mut events = client.watch(&Filter::default()).await.unwrap();
    let id = |name: &str| format!("orders:{name}");
    for (name, status) in [("filter", Expected), ("read", Healthy), ("write", Expected)] {
        assert_eq!(change(&mut events).await, (id(name), None, status, false));
    }
    assert_eq!(next(&mut events).await, Event::Current(3));

    client.register(&registration("orders:write", Kind::Sink)).await.unwrap();
    world.clock.advance(Duration::from_secs(31));
    world.plane.check().await.unwrap();
    client.beat(&beat(&read, 1)).await.unwrap();
    client.deregister(&read.id, &read.incarnation, "drained", None).await.unwrap();
    world.plane.remove_pipeline("orders".to_owned()).await.unwrap();
    let seen = [
        ("write", Some(Expected), Healthy, false),
        ("read", Some(Healthy), Unhealthy, false),
        ("write", Some(Healthy), Unhealthy, false),
        ("read", Some(Unhealthy), Healthy, false),
        ("read", Some(Healthy), Stopped, false),
        ("read", Some(Stopped), Stopped, true),
        ("filter", Some(Expected), Expected, true),
        ("write", Some(Unhealthy), Unhealthy, true),
    ];
    for (name, before, after, removed) in seen {
        assert_eq!(change(&mut events).await, (id(name), before, after, removed));
    }
}

#[tokio::test]
async fn a_filter_also_shows_who_is_no_longer_meant() {
    let world = World::new().await;
    let client = world.client();
    let workers =
        Filter { kinds: vec![Kind::Worker], statuses: vec![Status::Healthy], ..Filter::default() };
    world.plane.plan(plan("orders")).await.unwrap();
    let mut events = client.watch(&workers).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Current(0));
    client.register(&registration("orders:read", Kind::Source)).await.unwrap();
    client.register(&worker("w1")).await.unwrap();
    let (healthy, unhealthy) = (Status::Healthy, Status::Unhealthy);
    assert_eq!(change(&mut events).await, ("w1".to_owned(), None, healthy, false));
    world.clock.advance(Duration::from_secs(31));
    world.plane.check().await.unwrap();
    assert_eq!(change(&mut events).await, ("w1".to_owned(), Some(healthy), unhealthy, false));
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_what_it_missed_and_holds_up_nobody() {
    let world = World::with(limited(Limits { watch_buffer: 4, ..Limits::default() })).await;
    let mut slow = world.plane.watch(Filter::default()).await.unwrap();
    let client = world.client();
    for n in 0..20 {
        client.register(&worker(&format!("w{n}"))).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Ok(event) = slow.changes.try_recv() {
        seen.push(event);
    }
    let kept = seen.iter().filter(|event| matches!(event, Event::Changed(_))).count();
    assert_eq!((kept, seen.last()), (4, Some(&Event::Missed(1))));
    client.register(&worker("last")).await.unwrap();
    assert_eq!(slow.changes.try_recv(), Ok(Event::Missed(15)));
    assert!(
        matches!(slow.changes.try_recv(), Ok(Event::Changed(change)) if change.component.id == "last")
    );
}

#[tokio::test]
async fn readers_are_limited() {
    let world = World::with(limited(Limits { watchers: 2, ..Limits::default() })).await;
    let client = world.client();
    let first = client.watch(&Filter::default()).await.unwrap();
    let _second = client.watch(&Filter::default()).await.unwrap();
    let Err(error) = client.watch(&Filter::default()).await else { panic!("a third one") };
    assert_eq!(error.code(), Code::Overloaded);
    drop(first);
    crate::harness::eventually("there is room again", || async {
        client.watch(&Filter::default()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_watch_goes_on_with_the_next_control_plane() {
    let plane = ControlPlane::open(Options::default(), clock()).unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let address = server.local_addr().to_string();
    let options = sheaf_pipeline::control::ClientOptions::default();
    let watching = client(&server.uri(), options);
    watching.register(&worker("w1")).await.unwrap();
    let mut events = watching.watch(&Filter::default()).await.unwrap();
    assert_eq!(change(&mut events).await.0, "w1");
    assert_eq!(next(&mut events).await, Event::Current(1));
    plane.close().await.unwrap();
    server.drain(Duration::ZERO).await;
    let plane = ControlPlane::open(Options::default(), clock()).unwrap();
    let server = serve(&address, plane).await;
    client(&server.uri(), once()).register(&worker("w2")).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Missed(1));
    assert_eq!(change(&mut events).await.0, "w2");
}

#[tokio::test]
async fn a_closed_control_plane_says_so() {
    let world = World::new().await;
    let client = world.client();
    client.register(&worker("w1")).await.unwrap();
    world.plane.close().await.unwrap();
    world.plane.close().await.unwrap();
    let error = client.register(&worker("w2")).await.unwrap_err();
    assert_eq!(error.code(), Code::Draining);
}
