//! A control plane alone, and the commands that ask it.

use rustix::process::Signal;
use sheaf_testkit::{Process, wait_until};

use super::pipelines::{TIME, World, is_there, signal};
use super::{code, notes, sheafctl_in};

fn server(world: &World, address: &str) -> (Process, String) {
    let mut process = world.start(&["server", "--control-addr", address]);
    let ready = process.wait_ready(TIME).unwrap();
    let address = ready.addr("control").unwrap().to_string();
    (process, address)
}

fn end(world: &World, address: &str) {
    world.ask(&["stop", "pair", "--now"], address);
    wait_until(TIME, "the end of all components", || world.processes().len() == 1).unwrap();
}

#[test]
fn a_server_starts_shows_restarts_and_stops_pipelines() {
    let world = World::new("", "");
    let (_process, address) = server(&world, "127.0.0.1:0");
    let started = world.ask(&["start", "pair.yaml"], &address);
    assert_eq!((&started["pipeline"], &started["run"]), (&"pair".into(), &1.into()));
    world.wait_healthy(&address);
    let listed = world.ask(&["ps"], &address);
    assert_eq!(listed["pipelines"][0]["healthy"], 2, "{listed}");
    let first = world.pid("b");
    assert_eq!(world.ask(&["restart", "b"], &address)["instances"], 1);
    let again = || world.pid("b") != first && !is_there(first);
    wait_until(TIME, "the restart", again).unwrap();
    world.wait_healthy(&address);
    assert_eq!(world.component("b", &address)["restarts"], 0, "it did not fail");
    let output = sheafctl_in(world.folder.path(), &["logs", "b", "--server", &address]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("b | registered pair:b\n") && text.contains("b | told to end\n"),
        "{text}"
    );
    assert!(!text.contains("a | "), "{text}");
    let stopped = world.ask(&["stop"], &address);
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    let runs = world.ask(&["runs"], &address);
    assert_eq!(runs["runs"][0]["reason"], "it was stopped by hand", "{runs}");
    assert_eq!(world.ask(&["ps"], &address)["pipelines"], serde_json::json!([]));
}

#[test]
fn components_outlive_a_killed_server_and_the_next_one_takes_them_up() {
    let world = World::new("", "");
    let (mut first, address) = server(&world, "127.0.0.1:0");
    world.ask(&["start", "pair.yaml"], &address);
    world.wait_healthy(&address);
    let pids = [world.pid("a"), world.pid("b")];
    first.kill9().unwrap();
    // One goes on, one is killed while nobody looks.
    signal(pids[1], Signal::KILL);
    wait_until(TIME, "the end of one", || !is_there(pids[1])).unwrap();
    let (second, address) = server(&world, &address);
    wait_until(TIME, "the killed one to be started again", || {
        world.pid("b") != pids[1] && world.component("b", &address)["status"] == "healthy"
    })
    .unwrap();
    assert!(is_there(pids[0]) && world.pid("a") == pids[0], "{}", second.stderr());
    world.wait_healthy(&address);
    let component = world.component("a", &address);
    assert_eq!((&component["restarts"], &component["status"]), (&0.into(), &"healthy".into()));
    // What was taken up is watched as what was started.
    signal(pids[0], Signal::KILL);
    wait_until(TIME, "the other one to be started again", || {
        let component = world.component("a", &address);
        component["restarts"] == 1 && component["status"] == "healthy"
    })
    .unwrap();
    assert_eq!(world.ask(&["ps"], &address)["pipelines"][0]["run"], 1, "the same run");
    end(&world, &address);
}

#[test]
fn a_server_that_forgets_takes_its_components_along() {
    let world = World::new("", "");
    let mut process =
        world.start(&["server", "--control-addr", "127.0.0.1:0", "--state", "memory"]);
    let address = process.wait_ready(TIME).unwrap().addr("control").unwrap().to_string();
    world.ask(&["start", "pair.yaml"], &address);
    world.wait_healthy(&address);
    process.kill9().unwrap();
    wait_until(TIME, "the end of everything", || world.processes().is_empty()).unwrap();
}

#[test]
fn a_call_without_the_token_starts_nothing() {
    let world = World::new("", "");
    let (_process, address) = server(&world, "127.0.0.1:0");
    let elsewhere = ["start", "pair.yaml", "--server", &address, "--data-dir", "elsewhere"];
    let output = sheafctl_in(world.folder.path(), &elsewhere);
    assert_eq!(code(&output), 8, "{}", notes(&output));
    assert!(notes(&output).contains("use the same --data-dir"), "{}", notes(&output));
    assert_eq!(world.processes().len(), 1);
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let world = World::new("", "");
    let ask = |arguments: &[&str]| sheafctl_in(world.folder.path(), arguments);
    let output = ask(&["ps", "--server", "127.0.0.1:1"]);
    assert_eq!(code(&output), 7);
    let text = notes(&output);
    assert!(text.contains("no control plane answers at 127.0.0.1:1"), "{text}");
    assert!(text.contains("sheafctl server"), "{text}");
    let (_process, address) = server(&world, "127.0.0.1:0");
    let output = ask(&["status", "other", "--server", &address]);
    assert_eq!(code(&output), 3);
    assert!(notes(&output).contains("no pipeline other at"), "{}", notes(&output));
    world.ask(&["start", "pair.yaml"], &address);
    world.wait_healthy(&address);
    let output = ask(&["restart", "c", "--server", &address]);
    assert!(notes(&output).contains("no component c; it has a, b"), "{}", notes(&output));
    let output = ask(&["start", "pair.yaml", "--server", &address]);
    assert_eq!(code(&output), 4);
    assert!(notes(&output).contains("sheafctl stop pair"), "{}", notes(&output));
    end(&world, &address);
}
