//! Work that goes its way through Valkey, whatever is killed.

use sheaf_coordinator::State;
use sheaf_testkit::{wait_for_async, wait_until};

use super::{Site, results, run, wait_for_results, wait_for_status};
use crate::doctor::Finding;
use crate::harness::{PATIENCE, get};
use crate::parts::{Part, data};
use crate::remote::{Remote, assert_rows_once, id, worker};

const BATCHES: u64 = 200;
/// Work that takes a moment, so that there is a middle to kill in.
const SLOW: [&str; 2] = ["--processor", "exec:sleep 0.03; cat"];

fn count(server: &str, state: &str) -> u64 {
    let stats = run(server, &["batches", "stats", "--json"]).json().remove(0);
    stats["queues"][0]["counts"][state].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_server_and_valkey_lose_nothing_and_double_nothing() {
    let Some(mut site) = Site::start() else { return };
    let (mut server, at) = site.serve("data", &["--workers", "0", "--lease", "2s"]);
    run(&at, &["queue", "pause", "default"]).ok();
    Remote::at(&at).put(0..BATCHES).await;
    assert_eq!(count(&at, "pending"), BATCHES);
    let listed = run(&at, &["batches", "list", "--state", "pending", "--limit", "50", "--json"]);
    assert_eq!(listed.json()[0]["batches"].as_array().unwrap().len(), 50);

    let sink = site.sink();
    let words = [&["--sink", sink.as_str(), "--lease", "2s"], &SLOW[..]].concat();
    let (_through, _) = worker(&at, &at, &words);
    let direct = site.worker(&at, &words);
    assert_eq!(results(&site.out()), 0, "the queue is paused");
    run(&at, &["queue", "resume", "default"]).ok();
    wait_for_results(&site.out(), 40);
    server.stop();
    server.start_again();
    wait_for_results(&site.out(), 90);
    site.valkey.kill9().unwrap();
    wait_for_status(&mut server, "/readyz", 503);
    site.valkey.restart().unwrap();
    wait_for_status(&mut server, "/readyz", 200);
    Remote::at(&at).completes(BATCHES).await;
    assert_rows_once(&site.out(), BATCHES);
    drop(direct);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_valkey_forgets_is_registered_again_and_told() {
    let Some(site) = Site::start() else { return };
    let sink = site.sink();
    let words = [&["--workers", "2", "--lease", "2s", "--sink", &sink], &SLOW[..]].concat();
    let (server, at) = site.serve("data", &words);
    Remote::at(&at).put(0..BATCHES).await;
    wait_for_results(&site.out(), 100);
    site.valkey.command(&["FLUSHALL"]).unwrap();
    let said = wait_until(PATIENCE, "it to be told", || {
        server.process.stderr().contains("they are registered again and start anew")
    });
    if let Err(error) = said {
        panic!("{error}\n{}", server.process.stderr());
    }
    wait_for_results(&site.out(), usize::try_from(BATCHES).unwrap());
    let remote = Remote::at(&at);
    let idle = wait_for_async(PATIENCE, "everything to be over", || async {
        let open = [State::Pending, State::Scheduled, State::Processing];
        let mut live = 0;
        for state in open {
            live += remote.count(state).await;
        }
        (live == 0).then_some(())
    });
    idle.await.unwrap();
    assert_eq!(remote.count(State::Failed).await, 0);
    assert_rows_once(&site.out(), BATCHES);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_valkey_are_one_coordinator() {
    let Some(site) = Site::start() else { return };
    let sink = site.sink();
    let words = [&["--workers", "1", "--sink", sink.as_str()], &SLOW[..]].concat();
    let (mut first, at) = site.serve("first", &words);
    let (mut second, other) = site.serve("second", &words);
    Remote::at(&at).put(0..60).await;
    Remote::at(&other).put(60..80).await;
    let remote = Remote::at(&other);
    remote.completes(80).await;
    assert_rows_once(&site.out(), 80);
    assert_eq!(remote.batch(0).await.spec.locations, [at.as_str()]);
    assert_eq!(remote.batch(79).await.spec.locations, [other.as_str()]);
    for part in [&mut first, &mut second] {
        let ready = part.process.wait_ready(PATIENCE).unwrap();
        let (_, metrics) = get(&ready, "/metrics");
        let completed = "sheaf_worker_attempts_total{result=\"Completed\"}";
        let line = metrics.lines().find(|line| line.starts_with(completed));
        let done = line.and_then(|line| line.rsplit(' ').next()).map(str::parse::<u64>);
        assert!(done.is_some_and(|done| done.unwrap() > 0), "took part in it: {metrics}");
        assert!(metrics.contains("sheaf_coordinator_calls_total{call=\"register\"}"), "{metrics}");
        let shown = "sheaf_coordinator_batches{state=\"completed\"} 80";
        let told = wait_until(PATIENCE, shown, || get(&ready, "/metrics").1.contains(shown));
        told.unwrap();
    }
    // Either answers for what the other one has.
    run(&other, &["get", id(0).as_str(), "--limit", "1"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_may_be_on_valkey() {
    let Some(site) = Site::start() else { return };
    let (valkey, namespace) = (site.address(), ["--valkey-namespace", "modes"]);
    let folder = data(site.folder.path(), "coordinator");
    let words = ["--mode", "coordinator", "--valkey-addr", &valkey, "--data-dir", &folder];
    let mut coordinator = Part::start(&[&words[..], &namespace].concat());
    let at = coordinator.process.wait_ready(PATIENCE).unwrap();
    let at = at.url("coordinator").unwrap().to_owned();
    let (_flight, flight) = site.serve("flight", &[&["--mode", "flight"], &namespace[..]].concat());
    let sink = site.sink();
    let _worker = site.worker(&flight, &[&["--sink", sink.as_str()], &namespace[..]].concat());
    Remote::at(&flight).put(0..20).await;
    Remote::at(&at).completes(20).await;
    assert_rows_once(&site.out(), 20);
    let refused = run(&at, &["backup", &data(site.folder.path(), "none")]).failed(5);
    assert!(refused.contains("is backed up there"), "{refused}");
    let saved = run(&flight, &["backup", &data(site.folder.path(), "payloads")]);
    assert!(
        saved.stderr().contains("the coordinator's state is in valkey://"),
        "{}",
        saved.stderr()
    );
    assert!(saved.ok().contains("20 payloads"));
}

#[test]
fn the_doctor_looks_at_valkey() {
    let Some(site) = Site::start() else { return };
    let (valkey, folder) = (site.address(), data(site.folder.path(), "data"));
    let words = ["--valkey-addr", &valkey, "--data-dir", &folder, "--flight-addr", "127.0.0.1:0"];
    let found = Finding::of(&words);
    assert_eq!(found.code, 0, "{:#}", found.report);
    for name in ["connection", "version", "latency", "memory", "persistence", "replication"] {
        assert_eq!(found.check(&format!("valkey.{name}"))["verdict"], "ok");
    }
    assert_eq!(found.check("valkey.namespace")["figures"]["in_use"], false);
    // It looks, and leaves nothing behind.
    assert_eq!(site.valkey.command(&["DBSIZE"]).unwrap().integer(), Some(0));
    site.valkey.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    site.valkey.command(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
    let found = Finding::of(&words);
    found.problem("valkey.fitness", "failed_precondition", "change Valkey's configuration");
    assert_eq!(found.check("valkey.persistence")["verdict"], "warning");
    let away = ["--valkey-addr", "127.0.0.1:1", "--data-dir", &folder];
    let found = Finding::of(&[&away, &["--flight-addr", "127.0.0.1:0"][..]].concat());
    found.problem("valkey.connection", "unavailable", "start Valkey there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_valkey_forgets_under_puts_is_registered_again_too() {
    let Some(site) = Site::start() else { return };
    let (server, at) = site.serve("data", &["--workers", "0"]);
    Remote::at(&at).put(0..5).await;
    site.valkey.command(&["FLUSHALL"]).unwrap();
    Remote::at(&at).put(5..40).await;
    let remote = Remote::at(&at);
    let known = wait_for_async(PATIENCE, "it to be registered again", || async {
        (remote.count(State::Pending).await == 40).then_some(())
    });
    if let Err(error) = known.await {
        panic!("{error}\n{}", server.process.stderr());
    }
}
