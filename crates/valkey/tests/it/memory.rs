//! A server whose memory is full.

use std::time::Duration;

use sheaf_coordinator::{Control, Coordinator, PurgeFilter, Resolution, State, Verdict};
use sheaf_retry::Code;
use sheaf_testkit::{Flavour, Valkey};

use crate::kit::{self, builder, connect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_memory_is_full_work_goes_on_and_makes_room() {
    for flavour in Flavour::ALL {
        let Some(server) = Valkey::options(flavour).start().unwrap() else { continue };
        let coordinator = connect(builder(server.addr())).await;
        kit::register_all(&coordinator, kit::specs("there", 2_000)).await;
        let held = coordinator.claim(kit::request("worker", "held", 100)).await.unwrap().leases;
        let used: u64 = server.info("memory").unwrap()["used_memory"].parse().unwrap();
        // Buffers of connections come and go.
        let limit = (used / 10 * 9).to_string();
        server.command(&["CONFIG", "SET", "maxmemory", &limit]).unwrap();

        let error = coordinator.register(vec![kit::spec("more")]).await.unwrap_err();
        let text = kit::text(&error);
        assert_eq!(kit::code::<()>(Err(error)), Code::Overloaded, "{text}");
        assert!(text.contains("maxmemory"), "{text}");
        // Work that is there is done, to the last.
        let reply = coordinator.settle(kit::settle(&held, Resolution::Completed)).await.unwrap();
        assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Applied));
        let mut done = held.len();
        for turn in 0.. {
            let name = format!("turn-{turn}");
            let leases = coordinator.claim(kit::request("worker", &name, 64)).await.unwrap().leases;
            if leases.is_empty() {
                break;
            }
            done += leases.len();
            coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
        }
        assert_eq!(done, 2_000);
        assert_eq!(
            kit::code(coordinator.register(vec![kit::spec("more")]).await),
            Code::Overloaded
        );
        // What is forgotten makes room.
        let purge = PurgeFilter { finished_before: Duration::ZERO, ..PurgeFilter::default() };
        assert_eq!(coordinator.control(Control::Purge(purge)).await.unwrap().count, 2_000);
        let registered = kit::again(|| coordinator.register(vec![kit::spec("more")]), drop).await;
        assert!(registered[0].created);
        assert_eq!(kit::counts(&coordinator).await[&State::Pending], 1);
    }
}
