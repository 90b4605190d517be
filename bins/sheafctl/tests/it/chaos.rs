//! Harm that is done to pipelines on purpose, and that they bear.

use super::flows::{Flows, LONG, assert_once, sink, source};
use super::pipelines::{World, is_there};
use super::{code, notes, sheafctl_in};
use sheaf_testkit::wait_until;

fn world() -> (World, sheaf_testkit::Process, String) {
    let world = World::new("", "");
    let (process, server) = world.run();
    world.wait_healthy(&server);
    (world, process, server)
}

#[test]
fn who_is_killed_is_told_when_it_is_back() {
    let (world, _process, server) = world();
    let first = world.pid("b");
    let told = world.ask(&["chaos", "pair", "kill", "b"], &server);
    assert_eq!((&told["healthy"], &told["restarts"]["b"]), (&true.into(), &1.into()), "{told}");
    assert_eq!(told["disturbances"][0]["what"], "kill b", "{told}");
    assert!(told["recoveryMs"].as_u64().is_some_and(|time| time < 30_000), "{told}");
    assert!(!is_there(first) && world.pid("b") != first);
}

#[test]
fn who_is_paused_stands_still_for_its_time_and_goes_on() {
    let (world, _process, server) = world();
    let pid = world.pid("b");
    let stands = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let arguments = ["chaos", "pair", "pause", "b", "--for", "1s", "--server", &server];
    let mut chaos = world.start(&arguments);
    wait_until(LONG, "it to stand still", stands).unwrap();
    // Once at a time, and who stands still can be killed.
    let output = sheafctl_in(world.folder.path(), &arguments);
    assert!(notes(&output).contains("it stands still or is slowed already"), "{}", notes(&output));
    assert!(chaos.wait_exit(LONG).unwrap().success(), "{}", chaos.stderr());
    assert!(!stands() && world.pid("b") == pid, "shorter than its health allows");
    assert!(
        chaos.stdout().contains("pair: 1 disturbances, 0 restarts, healthy"),
        "{}",
        chaos.stdout()
    );
}

#[test]
fn who_is_paused_for_too_long_is_replaced() {
    let (world, _process, server) = world();
    let first = world.pid("a");
    let told = world.ask(&["chaos", "pair", "pause", "a", "--for", "6s"], &server);
    assert_eq!((&told["healthy"], &told["restarts"]["a"]), (&true.into(), &1.into()), "{told}");
    assert!(!is_there(first));
}

#[test]
fn what_cannot_be_done_is_said() {
    let (world, process, server) = world();
    let ask = |arguments: &[&str]| {
        let mut all = vec!["chaos", "pair"];
        all.extend(arguments);
        all.extend(["--server", &server]);
        let output = sheafctl_in(world.folder.path(), &all);
        assert_ne!(code(&output), 0);
        notes(&output)
    };
    assert!(ask(&["kill", "c"]).contains("no component c; it has a, b"));
    assert!(ask(&["pause", "b", "--for", "0s"]).contains("0s is no time for that"));
    assert!(ask(&["slow", "b", "--delay", "2m", "--for", "3s"]).contains("a delay of 2m"));
    assert!(ask(&["kill", "b", "--data-dir", "elsewhere"]).contains("needs the token"));
    drop(process);
}

#[test]
fn one_that_does_not_come_back_is_told_and_fails() {
    let flows = Flows::new();
    let text = format!(
        "{}sinks:\n{}",
        source(10_000_000, 1_000),
        sink("out", "numbers").replace("kind: file", "kind: file, restart: {policy: never}"),
    );
    flows.start(&text);
    flows.wait_healthy(&["numbers", "out"]);
    let output = flows.try_ask(&["chaos", "p", "kill", "out"]);
    let told = notes(&output);
    assert_eq!(code(&output), 1, "{told}");
    assert!(told.contains("p has not borne it: failed: out: killed by signal 9"), "{told}");
}

#[test]
fn rows_bear_random_harm_and_none_is_lost() {
    let flows = Flows::new();
    const ROWS: i64 = 100_000;
    let restart = "restart: {backoff: 50ms, maxBackoff: 200ms, maxRestarts: 1000}";
    let text = format!(
        "{}    {restart}\nprocessors:\n  - {{id: picked, kind: filter, {restart}, inputs: [numbers], config: {{where: \"id % 2 = 0\"}}}}\nsinks:\n{}",
        source(ROWS.unsigned_abs(), 10_000),
        sink("out", "picked").replace("kind: file", &format!("kind: file, {restart}")),
    );
    flows.start(&text);
    flows.wait_files("out", 5);
    let arguments = ["chaos", "p", "random", "--for", "6s", "--seed", "7", "--every", "1s"];
    let told = flows.ask(&arguments);
    let done = told["disturbances"].as_array().unwrap().len();
    assert!(done >= 4, "{told}");
    assert_eq!(told["healthy"], true, "{told}");
    flows.wait_end();
    let mut out = flows.written("out");
    // What was not acknowledged when one was killed comes again: none is lost.
    out.values_mut().for_each(|count| *count = 1);
    assert_once(&out, (0..ROWS).filter(|id| id % 2 == 0));
}
