//! T10: a record that cannot be read.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{
    Batch, BatchSpec, ClaimRequest, Coordinator, CoordinatorExt as _, ListFilter, Resolution, State,
};
use sheaf_retry::Code;
use sheaf_testkit::{Valkey, wait_for_async};
use sheaf_valkey::ValkeyCoordinator;

use crate::kit::{self, DEADLINE, builder, connect};

/// Overwrites every key of the namespace that has this name in it, and tells
/// how many there were.
fn destroy(server: &Valkey, namespace: &str, id: &str, with: &str) -> usize {
    let mut connection = server.connect().unwrap();
    let pattern = format!("{{{namespace}}}*{id}*");
    let mut cursor = "0".to_owned();
    let mut count = 0;
    loop {
        let page = connection.command(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"]);
        let page = page.unwrap();
        for key in page.items()[1].items() {
            connection.command(&["SET", key.text().unwrap(), with]).unwrap();
            count += 1;
        }
        cursor = page.items()[0].text().unwrap().to_owned();
        if cursor == "0" {
            return count;
        }
    }
}

/// Claims and completes all that is there, as workers do.
async fn work(coordinator: &ValkeyCoordinator, turn: &str) -> usize {
    let mut done = 0;
    for number in 0.. {
        let request = kit::request("worker", &format!("{turn}-{number}"), 4);
        let request = ClaimRequest { queues: vec!["default".to_owned()], ..request };
        let leases = coordinator.claim(request).await.unwrap().leases;
        if leases.is_empty() {
            return done;
        }
        coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
        done += leases.len();
    }
    done
}

async fn failed(coordinator: &ValkeyCoordinator, id: &str) -> Batch {
    let id = id.parse().unwrap();
    let look = || async {
        let batch = coordinator.get(&id).await.unwrap();
        batch.filter(|batch| batch.state == State::Failed)
    };
    wait_for_async(DEADLINE, "the damaged one to be failed", look).await.unwrap()
}

/// Three are damaged: one that is ready, one under a lease that runs out, one
/// that falls due.
async fn damage(server: &Valkey, namespace: &str, with: &str) {
    let coordinator: Arc<_> = connect(builder(server.addr()).namespace(namespace)).await;
    let named = |name: &str| {
        // Keys that have a claim's name in them are none of the batch's.
        let request = kit::request("holder", &name.replace("broken", "claim"), 1);
        let (ids, lease) = (vec![name.parse().unwrap()], Duration::from_secs(1));
        ClaimRequest { ids, lease, ..request }
    };
    let delay = Duration::from_secs(1);
    let all = vec![
        kit::spec("broken-ready"),
        kit::spec("broken-held"),
        BatchSpec { delay, ..kit::spec("broken-later") },
        BatchSpec { delay, ..kit::spec("good-later") },
        kit::spec("good-held"),
    ];
    coordinator.register(all).await.unwrap();
    coordinator.register(kit::specs("good", 20)).await.unwrap();
    for name in ["broken-held", "good-held"] {
        assert_eq!(coordinator.claim(named(name)).await.unwrap().leases.len(), 1);
    }
    let broken = ["broken-ready", "broken-held", "broken-later"];
    for id in broken {
        assert!(destroy(server, namespace, id, with) > 0, "no key of {id}");
    }
    // What a reader gets meanwhile is no panic and no end of the others.
    coordinator.get_all(vec!["good000001".parse().unwrap()]).await.unwrap();
    let mut done = 0;
    let all_done = || {
        done += 1;
        let turn = format!("turn-{done}");
        let coordinator = &coordinator;
        async move {
            work(coordinator, &turn).await;
            let counts = kit::counts(coordinator).await;
            (counts[&State::Completed] == 22).then_some(())
        }
    };
    wait_for_async(DEADLINE, "the others to go on", all_done).await.unwrap();
    for id in broken {
        let batch = failed(&coordinator, id).await;
        let error = batch.error.unwrap();
        assert_eq!(error.code, Code::Corrupt, "{id}: {}", error.message);
        eprintln!("{id}: {}", error.message);
    }
    let counts = kit::counts(&coordinator).await;
    let live = [State::Waiting, State::Pending, State::Scheduled, State::Processing];
    assert_eq!(live.map(|state| counts[&state]), [0; 4], "nothing is left behind");
    assert_eq!((counts[&State::Completed], counts[&State::Failed]), (22, 3));
    let listed =
        coordinator.list(ListFilter { limit: 100, ..ListFilter::default() }).await.unwrap();
    assert_eq!(listed.batches.len(), 25);
    // And it can be begun anew by registering something else; work goes on.
    coordinator.register(kit::specs("more", 20)).await.unwrap();
    assert_eq!(work(&coordinator, "more").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_a_record_that_cannot_be_read_is_failed_and_others_go_on() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    for (number, with) in ["", "garbage", &"x".repeat(5_000)].into_iter().enumerate() {
        damage(&server, &format!("t10-{number}"), with).await;
    }
}

/// As `destroy`, for what batches that are alike have in common.
fn destroy_blocks(server: &Valkey, namespace: &str) -> usize {
    let mut connection = server.connect().unwrap();
    let keys = connection.command(&["KEYS", &format!("{{{namespace}}}:k:*")]).unwrap();
    for key in keys.items() {
        connection.command(&["SET", key.text().unwrap(), "\u{2}rubbish"]).unwrap();
    }
    keys.items().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_what_batches_have_in_common_cannot_be_read() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    for held in [false, true] {
        let namespace = format!("held-{held}");
        let coordinator = connect(builder(server.addr()).namespace(&namespace)).await;
        coordinator.register(kit::specs("bad", 20)).await.unwrap();
        if held {
            let lease = Duration::from_secs(1);
            let claim = ClaimRequest { lease, ..kit::request("holder", "claim", 20) };
            assert_eq!(coordinator.claim(claim).await.unwrap().leases.len(), 20);
        }
        assert_eq!(destroy_blocks(&server, &namespace), 1);
        coordinator.register(kit::specs("good", 20)).await.unwrap();
        // The others go on.
        let done = async || work(&coordinator, "good").await;
        assert_eq!(done().await, 20);
        for number in 0..20 {
            let damaged = failed(&coordinator, &format!("bad{number:06}")).await;
            assert_eq!(damaged.error.unwrap().code, Code::Corrupt);
        }
        let counts = kit::counts(&coordinator).await;
        assert_eq!((counts[&State::Failed], counts[&State::Completed]), (20, 20));
        assert_eq!((counts[&State::Pending], counts[&State::Processing]), (0, 0));
        // They are whole but for that.
        let again = sheaf_coordinator::Control::RequeueFailed("default".to_owned());
        assert_eq!(coordinator.control(again).await.unwrap().count, 20);
        assert_eq!(work(&coordinator, "again").await, 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_one_of_many_that_are_alike_cannot_be_read() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr()).namespace("one")).await;
    coordinator.register(kit::specs("bad", 20)).await.unwrap();
    let leases = coordinator.claim(kit::request("holder", "claim", 20)).await.unwrap().leases;
    assert_eq!(leases.len(), 20);
    assert_eq!(destroy(&server, "one", "bad000003", "rubbish"), 1);
    // While they are held, and when they are over, all others can be listed.
    assert_eq!(coordinator.list(ListFilter::default()).await.unwrap().batches.len(), 19);
    coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
    let listed = coordinator.list(ListFilter::default()).await.unwrap().batches;
    assert!(listed.iter().all(|batch| batch.state == State::Completed), "{listed:?}");
    assert_eq!(listed.len(), 19);
    // Taken apart, it is found.
    let all = sheaf_coordinator::PurgeFilter::default();
    coordinator.control(sheaf_coordinator::Control::Purge(all)).await.unwrap();
    assert_eq!(coordinator.list(ListFilter::default()).await.unwrap().batches, []);
}

/// Which batches a block had is lost with its keys; each of them knows that it was in one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_batches_whose_block_lost_their_keys_are_found_when_they_are_spoken_of() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr()).namespace("keys")).await;
    coordinator.register(kit::specs("bad", 20)).await.unwrap();
    let keys = server.command(&["KEYS", "{keys}:j:*"]).unwrap();
    let [key] = keys.items() else { panic!("{keys:?}") };
    server.command(&["DEL", key.text().unwrap()]).unwrap();
    coordinator.register(kit::specs("good", 20)).await.unwrap();
    assert_eq!(work(&coordinator, "good").await, 20);
    let counts = kit::counts(&coordinator).await;
    assert_eq!((counts[&State::Pending], counts[&State::Completed]), (0, 20));
    // Registered again, as its server does where something is missing.
    coordinator.register(kit::specs("bad", 20)).await.unwrap();
    for number in 0..20 {
        let damaged = failed(&coordinator, &format!("bad{number:06}")).await;
        assert_eq!(damaged.error.unwrap().code, Code::Corrupt);
    }
    let counts = kit::counts(&coordinator).await;
    assert_eq!((counts[&State::Failed], counts[&State::Pending]), (20, 0));
    let again = sheaf_coordinator::Control::RequeueFailed("default".to_owned());
    assert_eq!(coordinator.control(again).await.unwrap().count, 20);
    assert_eq!(work(&coordinator, "again").await, 20);
}

/// Blocks and batches alone are listed in the order in which they were registered, in pages
/// that end within blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_through_blocks_in_order() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr()).namespace("lists")).await;
    let mut expected = Vec::new();
    for (number, size) in [3, 64, 1, 20, 200, 2, 9].into_iter().enumerate() {
        let specs = kit::specs(&format!("part{number}-"), size);
        expected.extend(specs.iter().map(|spec| spec.id.clone()));
        coordinator.register(specs).await.unwrap();
    }
    // Some of a block are given out alone, some of another as one.
    let leases = coordinator.claim(kit::request("worker", "few", 5)).await.unwrap().leases;
    coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
    coordinator.claim(kit::request("worker", "many", 40)).await.unwrap();
    let mut seen = Vec::new();
    let mut filter = ListFilter { limit: 7, ..ListFilter::default() };
    loop {
        let page = coordinator.list(filter.clone()).await.unwrap();
        seen.extend(page.batches.iter().map(|batch| batch.spec.id.clone()));
        if page.next_cursor.is_empty() {
            break;
        }
        filter.cursor = page.next_cursor;
    }
    assert_eq!(seen, expected);
}

/// Its own queue counts the one that failed, not another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_a_damaged_record_under_lease_gives_its_place_in_its_queue_back() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    let spec = BatchSpec { queue: "q".to_owned(), ..kit::spec("damaged") };
    coordinator.register(vec![spec]).await.unwrap();
    let request = ClaimRequest {
        queues: vec!["q".to_owned()],
        lease: Duration::from_millis(200),
        ..kit::request("w", "r", 1)
    };
    assert_eq!(coordinator.claim(request).await.unwrap().leases.len(), 1);
    server.command(&["SET", "{sheaf}:b:damaged", "x"]).unwrap();
    let batch = failed(&coordinator, "damaged").await;
    assert_eq!(batch.spec.queue, "q");
    for queue in coordinator.stats(None).await.unwrap() {
        let expected = u64::from(queue.queue == "q");
        assert_eq!(queue.counts[&State::Failed], expected, "{queue:?}");
        assert_eq!(queue.counts[&State::Processing], 0, "{queue:?}");
    }
}
