//! What a server says to settings that it cannot use.

use crate::harness::{Ran, command, sheaf};

#[test]
fn every_mistake_is_told_at_once_and_where_it_was_made() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let file = folder.path().join("sheaf.yaml");
    std::fs::write(&file, "ttl: soon\nsinck: none\n").unwrap();
    let mut command = command();
    command.args(["serve", "--lease", "5", "--mode=all", "--config"]).arg(&file);
    command.env("SHEAF_WORKERS", "many").env("SHEAF_VALKEY_PASSWORD", "hunter2");
    let text = Ran(command.output().unwrap()).failed(2);
    for part in [
        "5 problems",
        "--lease: \"5\" is not a duration",
        "SHEAF_WORKERS: \"many\"",
        "SHEAF_VALKEY_PASSWORD: has no effect without Valkey",
        "did you mean sink?",
        "ttl in ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_node_of_a_cluster_is_told_what_it_lacks() {
    let text = sheaf(&["serve", "--coordinator", "raft"]).failed(2);
    assert!(text.contains("--node-id") && text.contains("--peers"), "{text}");
    assert!(text.contains("1=a:5001,2=b:5001"), "{text}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let words = ["--coordinator=embedded", "--valkey-addr=localhost:6379"];
    assert!(sheaf(&words).failed(2).contains("remove one of the two"));
    let far = "--valkey-addr=valkey://u:hunter2@10.0.0.1:6379";
    for (word, says) in [
        ("--valkey-durability=never", "replicated or fsynced"),
        ("--mode=flight", "--advertise-addr"),
    ] {
        let text = sheaf(&[far, word]).failed(2);
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
    assert!(sheaf(&["--mode=worker"]).failed(2).contains("add --coordinator grpc://"));
    assert!(sheaf(&["--flight-addr", "0.0.0.0:0"]).failed(2).contains("--insecure"));
}

#[test]
fn words_that_are_no_command_are_refused_with_a_hint() {
    let ran = sheaf(&["batches", "lst"]);
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr().contains("list"), "{}", ran.stderr());
    assert_eq!(sheaf(&["get"]).code(), 2);
    assert_eq!(sheaf(&["get", "no spaces allowed"]).code(), 2);
    assert!(sheaf(&["batches", "list", "--state", "lost"]).stderr().contains("pending"));
    assert!(sheaf(&["batches", "list", "--server", "ftp://x:1"]).failed(2).contains("--server"));
}
