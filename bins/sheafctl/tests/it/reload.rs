//! Pipelines that are changed while they run: only what has changed is started anew, nothing is
//! lost, and nothing comes twice.

use rustix::process::Signal;
use serde_json::json;
use sheaf_testkit::wait_until;

use super::flows::{Flows, LONG, assert_once, sink, source};
use super::pipelines::{World, is_there, signal};
use super::{code, notes};

const ROWS: i64 = 200_000;

/// Linear and diamond in one: what is picked goes to a sink of its own, and together with the
/// others to another one.
fn picking(parity: i64) -> String {
    format!(
        "{}processors:\n  - {{id: picked, kind: filter, inputs: [numbers], config: {{where: \"id % 2 = {parity}\"}}}}\n  \
         - {{id: others, kind: project, inputs: [numbers], config: {{columns: [id]}}}}\nsinks:\n{}{}{}",
        source(ROWS.unsigned_abs(), 20_000),
        sink("all", "numbers"),
        sink("out", "picked"),
        sink("both", "picked, others"),
    )
}

#[test]
fn a_filter_that_changes_under_load_parts_the_rows_at_one_place_and_loses_none() {
    let flows = Flows::new();
    flows.start(&picking(0));
    flows.wait_files("out", 20);
    let pids: Vec<i32> =
        ["numbers", "others", "all", "out", "both"].map(|one| flows.pid(one)).into();
    let first = flows.pid("picked");
    let told = flows.reload(&picking(1));
    assert_eq!(told["restarted"], json!(["picked"]), "{told}");
    assert_eq!((&told["generation"], &told["kept"]), (&2.into(), &5.into()), "{told}");
    assert_ne!(flows.pid("picked"), first);
    let after: Vec<i32> =
        ["numbers", "others", "all", "out", "both"].map(|one| flows.pid(one)).into();
    assert_eq!(after, pids, "they run on");
    flows.wait_end();
    assert_once(&flows.written("all"), 0..ROWS);
    let out = flows.written("out");
    // Even ones from before, odd ones from after: where the change was, the last even one says.
    let change = out.keys().filter(|id| *id % 2 == 0).max().unwrap() / 1_000 * 1_000 + 1_000;
    assert!(change < ROWS, "the change came in time");
    assert_once(&out, (0..ROWS).filter(|id| id % 2 == i64::from(*id >= change)));
    let mut both = flows.written("both");
    for id in out.keys() {
        *both.get_mut(id).unwrap() -= 1;
    }
    assert_once(&both, 0..ROWS);
    let run = flows.run();
    assert_eq!((&run["run"], &run["generation"]), (&1.into(), &2.into()), "{run}");
    assert_eq!(run["generations"][0]["changes"], "restarts picked", "{run}");
}

/// A filter with replicas, and perhaps one sink more.
fn growing(replicas: u32, has_more: bool) -> String {
    let more = if has_more { sink("more", "numbers") } else { String::new() };
    format!(
        "{}processors:\n  - {{id: picked, kind: filter, replicas: {replicas}, inputs: [numbers], config: {{where: \"id % 2 = 0\"}}}}\nsinks:\n{}{more}",
        source(ROWS.unsigned_abs(), 20_000),
        sink("out", "picked"),
    )
}

#[test]
fn sinks_and_replicas_come_and_go_under_load() {
    let flows = Flows::new();
    flows.start(&growing(1, false));
    flows.wait_files("out", 10);
    let told = flows.reload(&growing(1, true));
    assert_eq!((&told["started"], &told["restarted"]), (&json!(["more"]), &json!(["numbers"])));
    flows.wait_files("more", 10);
    let told = flows.reload(&growing(3, true));
    assert_eq!(told["started"], json!(["picked.1", "picked.2"]), "{told}");
    assert_eq!(told["restarted"], json!(["numbers", "out", "picked"]), "{told}");
    assert_eq!(flows.component("picked.2")["status"], "healthy");
    flows.wait_files("more", 30);
    let told = flows.reload(&growing(2, false));
    assert_eq!(told["stopped"], json!(["more", "picked.2"]), "{told}");
    assert_eq!(flows.component("picked.2"), json!(null));
    assert!(!flows.path(".sheaf/pipelines/p/state/more").exists());
    flows.wait_end();
    assert_once(&flows.written("out"), (0..ROWS).filter(|id| id % 2 == 0));
    let more = flows.written("more");
    let (first, last) = (*more.keys().min().unwrap(), *more.keys().max().unwrap());
    assert!(first > 0 && last < ROWS - 1, "{first}..={last}");
    assert_once(&more, first..=last);
    assert_eq!(flows.run()["generation"], 4);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let flows = Flows::new();
    let text = growing(1, false);
    flows.start(&text.replace("rows: 200000", "rows: 100000000"));
    flows.wait_healthy(&["numbers", "picked", "out"]);
    let pids = ["numbers", "picked", "out"].map(|one| flows.pid(one));
    let text = text.replace("rows: 200000", "rows: 100000000");
    flows.write(&text.replace("inputs: [numbers]", "inputs: [number]"));
    let output = flows.try_ask(&["reload", "p.yaml"]);
    assert_eq!(code(&output), 2);
    let told = notes(&output);
    assert!(told.contains("did you mean `numbers`?") && told.contains("p.yaml:"), "{told}");
    // One that can be used, and cannot take the place of this one while it runs.
    flows.write(&text.replace("kind: generate", "kind: generate\n    replicas: 2"));
    let output = flows.try_ask(&["reload", "p.yaml"]);
    let told = notes(&output);
    assert!(told.contains("p goes on as it was: source numbers has 1 replicas"), "{told}");
    // Of a pipeline that does not run.
    flows.write(&text.replace("name: p}", "name: q}"));
    let output = flows.try_ask(&["reload", "p.yaml"]);
    assert!(notes(&output).contains("no pipeline q runs here"), "{}", notes(&output));
    // The same one.
    let told = flows.reload(&text);
    assert_eq!((&told["generation"], &told["kept"]), (&1.into(), &3.into()), "{told}");
    assert_eq!(["numbers", "picked", "out"].map(|one| flows.pid(one)), pids);
    assert_eq!(flows.run()["generation"], 1);
}

#[test]
fn what_cannot_be_started_brings_the_file_before_back() {
    let flows = Flows::new();
    let text = growing(1, false).replace("rows: 200000", "rows: 60000");
    flows.start(&text);
    flows.wait_files("out", 5);
    // It is checked by nobody but the component: there is no such column.
    flows.write(&text.replace("id % 2 = 0", "nothing = 0"));
    let output = flows.try_ask(&["reload", "p.yaml"]);
    let told = notes(&output);
    assert!(told.contains("the new plan was taken back, since picked: "), "{told}");
    flows.wait_end();
    assert_once(&flows.written("out"), (0..60_000).filter(|id| id % 2 == 0));
    let run = flows.run();
    assert_eq!(run["generation"], 3, "{run}");
    assert_eq!(run["generations"][1]["changes"], "restarts picked", "{run}");
}

#[test]
fn a_file_that_is_watched_is_taken_up_and_two_quick_changes_both_are() {
    let flows = Flows::new();
    let text = growing(1, false);
    flows.write(&text);
    let mut run = flows.process(&["run", "p.yaml", "--watch", "--control-addr", "127.0.0.1:0"]);
    run.wait_ready(LONG).unwrap();
    flows.wait_files("out", 10);
    let broken = text.replace("inputs: [numbers]", "inputs: [number]");
    flows.write(&broken);
    let seen = |process: &mut sheaf_testkit::Process, part: &'static str| {
        process.wait_for_stderr_line(LONG, |line| line.contains(part).then_some(())).unwrap();
    };
    seen(&mut run, "did you mean `numbers`?");
    seen(&mut run, "p goes on as it was");
    flows.write(&text.replace("id % 2 = 0", "id % 2 = 0 or id < 0"));
    seen(&mut run, "another plan: restarts picked");
    flows.write(&growing(2, true));
    seen(&mut run, "generation 2 runs");
    seen(&mut run, "generation 3 runs");
    assert!(run.wait_exit(LONG).unwrap().success(), "{}", run.stderr());
    assert_once(&flows.written("out"), (0..ROWS).filter(|id| id % 2 == 0));
    let more = flows.written("more");
    assert_once(&more, *more.keys().min().unwrap()..ROWS);
}

#[test]
fn a_component_in_its_pause_after_a_failure_is_replaced_without_it() {
    let flows = Flows::new();
    let text = growing(1, false).replace("rows: 200000", "rows: 20000");
    let slow = "restart: {backoff: 1h, maxBackoff: 2h}";
    // A folder that cannot be made.
    std::fs::write(flows.path("file"), "").unwrap();
    let bad = text.replace("kind: file, ", &format!("command: [/bin/sh, -c, 'exit 1'], {slow}, "));
    flows.write(&bad);
    flows.ask(&["start", "p.yaml"]);
    let paused = || {
        let log = flows.server.as_ref().unwrap().stderr();
        log.contains("again in")
    };
    wait_until(LONG, "the pause of the sink", paused).unwrap();
    let told = flows.reload(&text);
    assert_eq!(told["restarted"], json!(["out"]), "{told}");
    flows.wait_end();
    assert_once(&flows.written("out"), (0..20_000).filter(|id| id % 2 == 0));
}

#[test]
fn a_server_that_is_killed_in_the_middle_leaves_one_of_the_plans_and_loses_nothing() {
    let mut flows = Flows::new();
    flows.start(&growing(1, false));
    flows.wait_files("out", 10);
    for (round, delay) in [0, 40, 120, 300, 700].into_iter().enumerate() {
        let next = growing(2 - u32::try_from(round % 2).unwrap(), round % 2 == 0);
        flows.write(&next);
        let mut reload = flows.process(&["reload", "p.yaml", "--server", &flows.address]);
        // sleep: each time it is killed at another step.
        std::thread::sleep(std::time::Duration::from_millis(50 + delay));
        flows.server.take().unwrap().kill9().unwrap();
        reload.wait_exit(LONG).unwrap();
        flows.serve();
        flows.wait_healthy(&["numbers", "picked", "out"]);
        let before = std::fs::read_dir(flows.path("out/out")).unwrap().count();
        flows.wait_files("out", before + 2);
    }
    flows.wait_end();
    let out = flows.written("out");
    assert_once(&out, (0..ROWS).filter(|id| id % 2 == 0));
}

#[test]
fn who_was_told_to_end_by_a_server_that_was_killed_is_started_again_by_the_next_one() {
    let source = "config: {drainMs: 4000}\n    restart: {policy: on-failure}";
    let world = World::new(source, "");
    let serve = |address: &str| {
        let mut process = world.start(&["server", "--control-addr", address]);
        let address = process.wait_ready(LONG).unwrap().addr("control").unwrap().to_string();
        (process, address)
    };
    let (mut first, address) = serve("127.0.0.1:0");
    world.ask(&["start", "pair.yaml"], &address);
    world.wait_healthy(&address);
    let pids = [world.pid("a"), world.pid("b")];
    world.ask(&["restart", "a"], &address);
    wait_until(LONG, "it to drain", || world.log("a").contains("told to end")).unwrap();
    first.kill9().unwrap();
    let (_second, address) = serve(&address);
    assert!(is_there(pids[0]), "it drains still");
    // It will end with success: without a record of it, that would be the end of its work.
    let is_back =
        || world.pid("a") != pids[0] && world.component("a", &address)["status"] == "healthy";
    wait_until(LONG, "it to be back", is_back).unwrap();
    assert_eq!(world.pid("b"), pids[1]);
    signal(world.pid("a"), Signal::KILL);
    world.ask(&["stop", "pair", "--now"], &address);
}

#[test]
fn what_a_reader_holds_of_a_sender_that_cannot_drain_comes_again_and_counts_once() {
    let flows = Flows::new();
    // The window holds its rows back until the end, which is later than the source may drain.
    let text = |more: &str| {
        format!(
            "{}    drain: 1s\nprocessors:\n  - id: total\n    kind: aggregate\n    inputs: [numbers]\n    \
             config:\n      window: end\n      aggregates:\n        \
             - {{name: id, function: count}}\nsinks:\n{}{more}",
            source(40_000, 10_000),
            sink("out", "total"),
        )
    };
    flows.start(&text(""));
    flows.wait_healthy(&["numbers", "total", "out"]);
    let first = flows.pid("total");
    let told = flows.reload(&text(&sink("more", "numbers")));
    assert_eq!(told["restarted"], json!(["numbers", "total"]), "{told}");
    assert_ne!(flows.pid("total"), first);
    flows.wait_end();
    assert_eq!(flows.written("out").into_keys().collect::<Vec<_>>(), [40_000], "each row once");
}
