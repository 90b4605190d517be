//! A coordinator's state that moves from a data directory to Valkey and back.

use std::time::Duration;

use sheaf_coordinator::Batch;
use sheaf_testkit::wait_for_async;

use super::{Site, results, run, wait_for_results};
use crate::harness::{PATIENCE, command, sheaf};
use crate::parts::{Part, data};
use crate::remote::{Remote, assert_rows_once, seed, sized};

/// Work that takes a moment, so that leases are there when it is cut off.
const SLOW: [&str; 2] = ["--processor", "exec:sleep 0.02; cat"];

/// Runs the command until it comes to its end, killed at any moment before; how
/// often it was.
async fn until_done(words: &[&str]) -> (u64, serde_json::Value) {
    let mut random = seed();
    for kills in 0.. {
        let mut child = command();
        child.args(words).stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        // Longer each time, so that it ends.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
        let time = Duration::from_millis(kills * 3 + (random >> 33) % 8);
        let ended =
            wait_for_async(time, "it to end", || std::future::ready(child_ended(&mut child))).await;
        if ended.is_ok() {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            return (kills, serde_json::from_str(&text).unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    unreachable!("it goes on for ever")
}

fn child_ended(child: &mut std::process::Child) -> Option<()> {
    child.try_wait().unwrap().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_moved_under_kills_is_worked_off_where_it_arrives() {
    let Some(site) = Site::start() else { return };
    let batches = sized(300, 20_000);
    let (folder, sink) = (data(site.folder.path(), "data"), site.sink());
    let words = [&["--data-dir", &folder, "--lease", "2s", "--sink", &sink], &SLOW[..]].concat();
    let mut inside = Part::start(&[&words[..], &["--flight-addr", "127.0.0.1:0"]].concat());
    let ready = inside.process.wait_ready(PATIENCE).unwrap();
    let at = ready.url("flight").unwrap().to_owned();
    let valkey = format!("valkey://{}", site.address());
    let migrate = ["coordinator", "migrate", "--from", &folder, "--to", &valkey, "--json"];
    Remote::at(&at).put(0..batches).await;
    wait_for_results(&site.out(), 40);
    let refused = sheaf(&migrate[..6]).failed(5);
    assert!(refused.contains("stop that server first"), "{refused}");
    // With leases that nobody settles any more.
    inside.stop();
    let (kills, told) = until_done(&migrate).await;
    eprintln!("killed {kills} times, {told}");
    assert_eq!(told["batches"], batches);
    assert!(told["done_before"] == true || told["live"].as_u64().unwrap() > 0, "{told}");

    let there = sheaf(&["serve", "--data-dir", &folder]).failed(5);
    assert!(there.contains("was moved to valkey://"), "{there}");
    let (_server, at) = site.serve("data", &words[2..]);
    Remote::at(&at).completes(batches).await;
    assert_rows_once(&site.out(), batches);
}

/// Batches of a coordinator that was beside its store have no address. A worker elsewhere
/// does not fail them for that.
#[tokio::test(flavor = "multi_thread")]
async fn batches_without_an_address_wait_for_the_server_that_has_them() {
    let Some(site) = Site::start() else { return };
    let (folder, sink) = (data(site.folder.path(), "data"), site.sink());
    let idle = ["--data-dir", &folder, "--workers", "0", "--flight-addr", "127.0.0.1:0"];
    let mut inside = Part::start(&idle);
    let at = inside.process.wait_ready(PATIENCE).unwrap().url("flight").unwrap().to_owned();
    Remote::at(&at).put(0..20).await;
    inside.stop();
    let valkey = format!("valkey://{}", site.address());
    sheaf(&["coordinator", "migrate", "--from", &folder, "--to", &valkey]).ok();

    let (owner, _) = site.serve("data", &["--workers", "0"]);
    let words = ["--sink", &sink, "--workers", "2"];
    let (_other, at) = site.serve("other", &words);
    let remote = Remote::at(&at);
    // While one is held an attempt is charged; it is given back with the lease.
    let is_left = |batch: &Batch| batch.error.is_some() && batch.lease.is_none();
    for number in 0..20 {
        let what = "a worker without the payload to leave it";
        let batch = remote.wait_for_batch(number, what, is_left).await;
        assert!(!batch.state.is_terminal() && batch.attempts == 0, "{batch:?}");
    }
    drop(owner);
    let (_owner, _) = site.serve("data", &words);
    remote.completes(20).await;
    assert_rows_once(&site.out(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_fleet_is_drained_and_goes_on_from_a_directory() {
    let Some(site) = Site::start() else { return };
    let (batches, sink) = (200, site.sink());
    let words = [&["--sink", sink.as_str(), "--workers", "2"], &SLOW[..]].concat();
    let (server, at) = site.serve("data", &words);
    Remote::at(&at).put(0..batches).await;
    wait_for_results(&site.out(), 20);
    let folder = data(site.folder.path(), "data");
    let valkey = format!("valkey://{}", site.address());
    let moved = sheaf(&["coordinator", "migrate", "--from", &valkey, "--to", &folder, "--json"]);
    let moved = moved.json().remove(0);
    assert_eq!((&moved["batches"], &moved["leases"]), (&batches.into(), &0.into()), "{moved}");
    let settled = results(&site.out());
    assert_eq!(moved["live"], batches - settled as u64, "what was taken was ended first");
    let refused = run(&at, &["batches", "stats"]).ok();
    assert!(refused.contains("default"), "what it had can be looked at: {refused}");
    drop(server);
    let again = ["--data-dir", &folder, "--flight-addr", "127.0.0.1:0"];
    let mut inside = Part::start(&[&again[..], &words].concat());
    let ready = inside.process.wait_ready(PATIENCE).unwrap();
    Remote::at(ready.url("flight").unwrap()).completes(batches).await;
    assert_rows_once(&site.out(), batches);
}

#[test]
fn mistakes_are_named() {
    let Some(site) = Site::start() else { return };
    let folder = data(site.folder.path(), "nowhere");
    let valkey = format!("valkey://{}", site.address());
    let of = |from: &str, to: &str| {
        sheaf(&["coordinator", "migrate", "--from", from, "--to", to]).stderr()
    };
    for (from, to, says) in [
        (folder.as_str(), valkey.as_str(), "there is no coordinator.redb in"),
        ("localhost:6379", &folder, "write valkey://localhost:6379"),
        ("http://h", &folder, "\"http\" is no scheme"),
        (&valkey, &valkey, "are the same"),
        (&valkey, "valkey://127.0.0.1:1", "Connection refused"),
    ] {
        let text = of(from, to);
        assert!(text.contains(says), "{from} to {to}: {text}");
    }
    let unused = sheaf(&["coordinator", "migrate", "--from", &valkey, "--to", &folder]).stderr();
    assert!(unused.contains("has no batches and no queues"), "{unused}");
    let none = ["coordinator", "migrate", "--abandon", "--from", &valkey, "--to", &folder];
    let refused = sheaf(&none).failed(5);
    assert!(refused.contains("is not being moved"), "{refused}");
}
