//! T4 and T5: the server is killed, and what it had not kept is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sheaf_coordinator::{
    Coordinator, CoordinatorExt as _, Fence, History, Position, Resolution, State, Verdict,
};
use sheaf_testkit::{
    Fault, FaultProxy, Process, Valkey, ValkeyConnection, faketime, services_dir, wait_until,
};
use sheaf_valkey::ValkeyCoordinator;

use crate::kit::{
    self, DEADLINE, DURABLE, LONG, Traffic, assert_fences_grow, assert_once, builder, connect,
    sized,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t4_a_server_that_syncs_always_loses_nothing() {
    let Some(mut server) = Valkey::start(&DURABLE).unwrap() else { return };
    let coordinators =
        [connect(builder(server.addr())).await, connect(builder(server.addr())).await];
    let traffic = Traffic::start("always", &coordinators, LONG);
    // Each is another run, of which a history tells the last 64.
    for _ in 0..sized(3, 60) {
        traffic.goes_on(60, DEADLINE).await;
        server.kill9().unwrap();
        let moment = traffic.now();
        server.restart().unwrap();
        let resumed = traffic.all_work_since(moment).await;
        assert!(resumed <= kit::RESUMED, "stood still for {resumed:?}");
    }
    let seen = traffic.finish(0).await;
    eprintln!("{} settled, {} calls sent again", seen.settled.len(), seen.errors.len());
    assert_eq!(seen.refused, 0, "an accepted claim or settle was lost");
    assert_once(&coordinators[0], &seen).await;
    assert_fences_grow(&seen.fences);
    let history = coordinators[0].history().await.unwrap();
    assert!(seen.registered.values().all(|position| history.has(*position)));
}

/// Batches that were acknowledged, with their places in the history.
type Acknowledged = BTreeMap<String, Position>;

async fn register(coordinator: &ValkeyCoordinator, name: &str, count: u32) -> Acknowledged {
    let registered = coordinator.register(kit::specs(name, count)).await.unwrap();
    registered.into_iter().map(|one| (one.id.to_string(), one.position)).collect()
}

/// Those that are not known any more; each must be told by the history, and
/// none of the others.
async fn lost(coordinator: &ValkeyCoordinator, all: &Acknowledged, history: &History) -> usize {
    let ids = all.keys().map(|id| id.parse().unwrap()).collect();
    let known = coordinator.get_all(ids).await.unwrap();
    let mut lost = all.clone();
    for batch in &known {
        lost.remove(batch.spec.id.as_str());
        let position = all[batch.spec.id.as_str()];
        assert!(history.has(position), "{} is there, and told to be lost", batch.spec.id);
    }
    for (id, position) in &lost {
        assert!(!history.has(*position), "{id} was lost in silence");
    }
    lost.len()
}

/// The part of the append-only file that grows.
fn append_only_file(server: &Valkey) -> PathBuf {
    let folder = server.command(&["CONFIG", "GET", "dir"]).unwrap();
    let folder = PathBuf::from(folder.items()[1].text().unwrap()).join("appendonlydir");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap()
}

/// A machine that loses power has what was synced: here, the file as it was a
/// moment ago. A process that is killed alone would lose nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_what_a_server_that_syncs_now_and_then_loses_is_told() {
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let Some(mut server) = Valkey::start(&args).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    let file = append_only_file(&server);
    let mut all = register(&coordinator, "kept", 100).await;
    let claim = coordinator.claim(kit::request("worker", "before", 10)).await.unwrap();
    let mut fences = fences_of(&claim.leases);
    let size = || std::fs::metadata(&file).unwrap().len();
    // While a sync takes long, the server waits with what it writes.
    let grown = async |from: u64| {
        let grows = || async { size() > from };
        let patience = std::time::Duration::from_secs(20);
        sheaf_testkit::wait_until_async(patience, "the file grows", grows).await.unwrap();
        size()
    };
    let synced = grown(0).await;
    all.extend(register(&coordinator, "late", 50).await);
    let half = grown(synced).await;
    all.extend(register(&coordinator, "last", 50).await);
    let claim = coordinator.claim(kit::request("worker", "lost", 10)).await.unwrap();
    fences.extend(fences_of(&claim.leases));
    grown(half).await;
    server.kill9().unwrap();
    let truncated = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    truncated.set_len(half).unwrap();
    server.restart().unwrap();

    let again = kit::again(|| coordinator.history(), drop).await;
    assert_eq!(lost(&coordinator, &all, &again).await, 50);
    // Registrations that come now take the places of those that were lost.
    let more = register(&coordinator, "more", 300).await;
    let history = coordinator.history().await.unwrap();
    assert_eq!(lost(&coordinator, &all, &history).await, 50, "told for good");
    assert_eq!(lost(&coordinator, &more, &history).await, 0);
    // What was lost is registered again, as a reconciler does, and all is done.
    let known: Vec<_> = all.iter().filter(|(_, position)| !history.has(**position)).collect();
    let specs = known.iter().map(|(id, _)| kit::spec(id)).collect();
    assert!(coordinator.register(specs).await.unwrap().iter().all(|one| one.created));
    fences.extend(complete_all(&coordinator, 490).await);
    assert_fences_grow(&fences);
    let done = kit::settle(&claim.leases, Resolution::Completed);
    let late = coordinator.settle(done).await.unwrap().outcomes;
    assert!(late.iter().all(|one| one.verdict == Verdict::Stale), "{late:?}");
}

fn fences_of(leases: &[sheaf_coordinator::Lease]) -> Vec<(String, Fence)> {
    leases.iter().map(|lease| (lease.spec.id.to_string(), lease.fence)).collect()
}

/// Completes so many, and tells their tokens.
async fn complete_all(coordinator: &ValkeyCoordinator, count: usize) -> Vec<(String, Fence)> {
    let mut fences = Vec::new();
    for turn in 0.. {
        let claim = coordinator.claim(kit::request("finisher", &format!("all-{turn}"), 64)).await;
        let leases = claim.unwrap().leases;
        if leases.is_empty() {
            break;
        }
        fences.extend(fences_of(&leases));
        let reply = coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
        assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Applied));
    }
    assert_eq!(fences.len(), count, "all that is there is done");
    fences
}

/// A replica of a server, perhaps with a wrong clock.
struct Replica {
    _process: Process,
    addr: std::net::SocketAddr,
    /// On the way from the primary.
    link: FaultProxy,
    _folder: sheaf_testkit::TempDir,
}

impl Replica {
    fn start(primary: &Valkey, shift: Option<(&PathBuf, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let link = FaultProxy::start(primary.addr()).unwrap();
        let (ip, port) = (link.addr().ip().to_string(), link.addr().port().to_string());
        let own = sheaf_testkit::free_port().unwrap().release();
        let mut command = Process::command(services_dir().join("valkey/valkey-server"))
            .args(["--bind", "127.0.0.1", "--port", &own.port().to_string(), "--save", ""])
            .args(["--dir", &folder.path().to_string_lossy(), "--replicaof", &ip, &port])
            .args(["--repl-diskless-sync-delay", "0"]);
        if let Some((library, shift)) = shift {
            command = command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", shift)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut process = command.spawn().unwrap();
        let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
        process.wait_for_line(DEADLINE, ready).unwrap();
        let replica = Replica { _process: process, addr: own, link, _folder: folder };
        replica.wait_until_in_sync(primary);
        replica
    }

    fn command(&self, words: &[&str]) -> sheaf_testkit::Reply {
        ValkeyConnection::open(self.addr, None).unwrap().command(words).unwrap()
    }

    fn info(&self, name: &str) -> Option<String> {
        let info = self.command(&["INFO", "replication"]);
        let lines = info.text()?.lines();
        let mut found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.next().map(str::to_owned)
    }

    /// Has all that the primary has.
    fn wait_until_in_sync(&self, primary: &Valkey) {
        wait_until(DEADLINE, "the replica to have everything", || {
            let offset = primary.info("replication").unwrap()["master_repl_offset"].clone();
            self.info("master_link_status").as_deref() == Some("up")
                && self.info("slave_repl_offset") == Some(offset)
        })
        .unwrap();
    }

    fn seconds(&self) -> i64 {
        self.command(&["TIME"]).items()[0].integer().unwrap()
    }
}

/// What is acknowledged while the replica hears nothing is lost with the primary.
async fn fail_over(shift: Option<&str>) {
    let library = shift.map(|_| faketime());
    if library == Some(None) {
        return;
    }
    let Some(mut primary) = Valkey::start(&DURABLE).unwrap() else { return };
    let library = library.flatten();
    let replica = Replica::start(&primary, library.as_ref().zip(shift));
    let before = connect(builder(primary.addr())).await;
    let mut all = register(&before, "kept", 100).await;
    let mut fences = complete_some(&before, "first", 20).await;
    let held = before.claim(kit::request("worker", "held", 10)).await.unwrap().leases;
    fences.extend(fences_of(&held));
    replica.wait_until_in_sync(&primary);
    replica.link.set(Fault::Silent);
    all.extend(register(&before, "gone", 50).await);
    fences.extend(complete_some(&before, "second", 20).await);
    let alone = before.claim(kit::request("worker", "alone", 10)).await.unwrap().leases;
    fences.extend(fences_of(&alone));
    primary.kill9().unwrap();
    if shift.is_some() {
        let clock = sheaf_retry::SystemClock::shared().now().as_micros() / 1_000_000;
        let behind = i64::try_from(clock).unwrap() - replica.seconds();
        assert!((500..700).contains(&behind), "its clock is not wrong: {behind}");
    }
    replica.command(&["REPLICAOF", "NO", "ONE"]);

    let after = connect(builder(replica.addr)).await;
    let history = after.history().await.unwrap();
    assert_eq!(lost(&after, &all, &history).await, 50);
    let more = register(&after, "more", 300).await;
    let history = after.history().await.unwrap();
    assert_eq!(lost(&after, &all, &history).await, 50, "told for good");
    assert_eq!(lost(&after, &more, &history).await, 0);
    // A lease that the replica knows of stands; one that it does not, does not.
    let reply = after.settle(kit::settle(&held, Resolution::Completed)).await.unwrap();
    assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Applied), "{reply:?}");
    let reply = after.settle(kit::settle(&alone, Resolution::Completed)).await.unwrap();
    assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Stale), "{reply:?}");
    let lost: Vec<_> = all.iter().filter(|(_, position)| !history.has(**position)).collect();
    after.register(lost.iter().map(|(id, _)| kit::spec(id)).collect()).await.unwrap();
    // 450 in all, of which 20 were done and 10 held before.
    fences.extend(complete_all(&after, 420).await);
    assert_fences_grow(&fences);
    assert_eq!(kit::counts(&after).await[&State::Completed], 450);
}

async fn complete_some(
    coordinator: &Arc<ValkeyCoordinator>,
    name: &str,
    count: u32,
) -> Vec<(String, Fence)> {
    let leases = coordinator.claim(kit::request("worker", name, count)).await.unwrap().leases;
    let reply = coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
    assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Applied));
    fences_of(&leases)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t5_what_a_replica_did_not_have_is_told_and_no_token_repeats() {
    fail_over(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t5_no_token_repeats_though_the_replicas_clock_is_behind() {
    fail_over(Some("-600s")).await;
}

/// A server that was started again a few times, and then lost all it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_no_token_repeats_though_everything_was_lost() {
    let Some(mut server) = Valkey::start(&DURABLE).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    let mut all = register(&coordinator, "batch", 20).await;
    let mut fences = Vec::new();
    for turn in 0..3 {
        server.restart().unwrap();
        let name = format!("turn-{turn}");
        let claim = || coordinator.claim(kit::request("worker", &name, 5));
        fences.extend(fences_of(&kit::again(claim, drop).await.leases));
    }
    assert_eq!(fences.len(), 15);
    let folder = append_only_file(&server);
    server.kill9().unwrap();
    std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    server.restart().unwrap();
    let history = kit::again(|| coordinator.history(), drop).await;
    assert_eq!(lost(&coordinator, &all, &history).await, 20);
    all.extend(register(&coordinator, "batch", 20).await);
    fences.extend(complete_all(&coordinator, 20).await);
    assert_fences_grow(&fences);
}
