//! Who counts as unhealthy, and when no more.

use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_pipeline::health::Monitor;
use sheaf_pipeline::registry::{Event, Filter, Kind, Status};
use sheaf_retry::SharedClock;

use crate::harness::{World, beat, eventually, plan, registration};

/// Lets the monitor look: it sleeps between looks, in two tasks.
async fn advance(world: &World, by: Duration) {
    eventually("the monitor sleeps", || async { world.clock.sleepers() == 2 }).await;
    world.clock.advance(by);
    eventually("the monitor sleeps again", || async { world.clock.sleepers() == 2 }).await;
    // What it asked for was answered before it slept, or is before this one.
    world.plane.check().await.unwrap();
}

#[tokio::test]
async fn silence_of_more_than_30_s_is_found_within_5_s_and_a_beat_ends_it() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let clock: SharedClock = world.clock.clone();
    let _monitor = Monitor::start(&world.plane, &clock);
    let client = world.client();
    let asked = registration("orders:read", Kind::Source);
    client.register(&asked).await.unwrap();
    let status = async || client.component("orders:read").await.unwrap().status;
    for second in [5, 10, 15] {
        advance(&world, Duration::from_secs(5)).await;
        assert_eq!(status().await, Status::Healthy, "{second} s");
    }
    assert!(client.beat(&beat(&asked, 1)).await.unwrap().counted);
    for second in [20, 25, 30, 35, 40, 45] {
        advance(&world, Duration::from_secs(5)).await;
        assert_eq!(status().await, Status::Healthy, "{second} s, {} of silence", second - 15);
    }
    eventually("the monitor sleeps", || async { world.clock.sleepers() == 2 }).await;
    world.clock.advance(Duration::from_secs(5));
    // Nobody asks for it but the monitor.
    eventually("unhealthy", || async { status().await == Status::Unhealthy }).await;
    let found = client.component("orders:read").await.unwrap();
    assert_eq!(found.reason, "it has said nothing for 35s");
    let beaten = client.beat(&beat(&asked, 2)).await.unwrap();
    assert_eq!((beaten.counted, beaten.status), (true, Status::Healthy));
    assert_eq!(client.component("orders:read").await.unwrap().reason, "");
}

#[tokio::test]
async fn beats_of_a_hung_loop_do_not_count() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let asked = registration("orders:read", Kind::Source);
    client.register(&asked).await.unwrap();
    let mut events = world.plane.watch(Filter::default()).await.unwrap();
    for number in 1..=4 {
        world.clock.advance(Duration::from_secs(10));
        let mut hung = beat(&asked, number);
        hung.progress = 1;
        let beaten = client.beat(&hung).await.unwrap();
        assert_eq!(beaten.counted, number == 1, "beat {number}");
    }
    world.plane.check().await.unwrap();
    assert_eq!(client.component("orders:read").await.unwrap().status, Status::Healthy);
    world.clock.advance(Duration::from_secs(1));
    world.plane.check().await.unwrap();
    let found = client.component("orders:read").await.unwrap();
    assert_eq!(found.status, Status::Unhealthy);
    assert_eq!(found.reason, "it beats, but its loop has not moved for 31s");
    let Ok(Event::Changed(change)) = events.changes.try_recv() else { panic!("it is an event") };
    assert_eq!(
        (change.before, change.component.status),
        (Some(Status::Healthy), Status::Unhealthy)
    );
}

#[tokio::test]
async fn a_process_that_ended_is_replaced_at_once() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    let client = world.client();
    let (first, second) =
        (registration("orders:read", Kind::Source), registration("orders:read", Kind::Source));
    client.register(&first).await.unwrap();
    let exited = |incarnation: &Secret| {
        let (id, incarnation) = ("orders:read".to_owned(), incarnation.clone());
        world.plane.exited(id, incarnation, "killed by signal 9".to_owned())
    };
    assert!(!exited(&second.incarnation).await.unwrap(), "it was never there");
    assert!(exited(&first.incarnation).await.unwrap());
    let found = client.component("orders:read").await.unwrap();
    assert_eq!((found.status, &*found.reason), (Status::Exited, "killed by signal 9"));
    client.register(&second).await.unwrap();
    assert!(!exited(&first.incarnation).await.unwrap(), "the news is old");
    assert_eq!(client.component("orders:read").await.unwrap().status, Status::Healthy);
}
