//! Every setting out of range, and every pair that does not go together.

use sheaf_retry::{Code, Retryable as _};

use super::*;
use crate::config::{Backend, Origin, Problems, ProcessorChoice};
use sheaf_connectors::SinkSpec;
use sheaf_flight::ipc::Compression;

fn raw(settings: &[(&str, &str)]) -> RawConfig {
    let mut raw = RawConfig::default();
    for (name, text) in settings {
        raw.set(name, *text, Origin::Flag);
    }
    raw
}

fn check(settings: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    raw(settings).validate(&Machine::of(8_000_000_000))
}

/// The one problem of these settings.
fn problem(settings: &[(&str, &str)]) -> Problem {
    let mut problems = check(settings).expect_err("settings that do not hold");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn the_defaults_are_those_of_the_documents() {
    let config = check(&[]).unwrap();
    assert_eq!(config.mode(), Mode::All);
    assert_eq!(config.backend(), &Backend::Embedded);
    assert_eq!(config.flight_addr().to_string(), "localhost:8080");
    assert_eq!(config.admin_addr().to_string(), "127.0.0.1:0");
    assert_eq!(config.advertise_addr(), None);
    assert_eq!((config.workers(), config.max_retries()), (2, 3));
    assert_eq!(config.poll_interval(), Duration::from_secs(5));
    assert_eq!(
        (config.lease(), config.grace()),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
    assert_eq!(config.ttl(), HOUR);
    assert_eq!(config.durability(), Durability::Disk);
    assert_eq!(config.compression(), Compression::None);
    assert_eq!(config.data_dir(), std::path::Path::new("./sheaf-data"));
    assert_eq!(config.memory_limit(), 4_000_000_000);
    assert_eq!(config.queues(), ["default"]);
    assert_eq!(config.processor(), &ProcessorChoice::Verify);
    assert_eq!(config.sink(), &SinkSpec::None);
    assert!(!config.insecure() && !config.logs().verbose);
}

#[test]
fn a_worker_dials_a_server() {
    let config = check(&[
        ("mode", "worker"),
        ("coordinator", "grpc://127.0.0.1:9"),
        ("flight-addr", "grpc://10.0.0.1:8080"),
        ("queue", "a, b,a"),
        ("sink", "parquet:out"),
        ("verbose", "true"),
    ])
    .unwrap();
    assert_eq!(
        config.backend(),
        &Backend::Remote("127.0.0.1:9".parse::<HostPort>().unwrap().into())
    );
    assert_eq!(config.flight_addr().to_string(), "10.0.0.1:8080");
    assert_eq!(config.queues(), ["a", "b"]);
    assert_eq!(config.sink(), &"parquet:out".parse::<SinkSpec>().unwrap());
}

#[test]
fn each_wrong_value_is_named_with_what_is_allowed() {
    for (name, text, says) in [
        ("mode", "both", "write all, flight"),
        ("flight-addr", "8080", "write HOST:PORT"),
        ("flight-addr", "0.0.0.0:8080", "--insecure"),
        ("admin-addr", "example.org:1", "--insecure"),
        ("advertise-addr", "a:0", "name the port"),
        ("insecure", "perhaps", "neither true nor false"),
        ("coordinator", "etcd", "write embedded, valkey"),
        ("coordinator", "grpc://x", "write HOST:PORT"),
        ("coordinator", "grpc://h:1", "mode all has its coordinator inside"),
        ("data-dir", "", "names no directory"),
        ("durability", "tape", "write memory or disk"),
        ("compression", "gzip", "write none, lz4 or zstd"),
        ("memory-limit", "lots", "such as 100MB"),
        ("memory-limit", "0%", "1% to 100%"),
        ("memory-limit", "10KB", "at least 1 MB"),
        ("ttl", "1 hour", "is not a duration"),
        ("lease", "1ms", "100ms to 1d"),
        ("lease", "2d", "100ms to 1d"),
        ("grace", "2h", "0s to 1h"),
        ("max-retries", "-1", "no number from 0 to 1000"),
        ("max-retries", "1001", "over the limit of 1000"),
        ("workers", "257", "over the limit of 256"),
        ("poll-interval", "0", "1ms to 1m"),
        ("poll-interval", "2m", "1ms to 1m"),
        ("queue", "a,,b", "no name of a queue"),
        ("queue", "a b", "no name of a queue"),
        ("processor", "exec:", "write verify or exec"),
        ("sink", "parquet", "write none, parquet:DIR"),
        ("verbose", "very", "neither true nor false"),
        ("log-format", "xml", "write text or json"),
        ("valkey-password", "x", "no effect without Valkey"),
        ("valkey-durability", "fsynced", "no effect without Valkey"),
    ] {
        let problem = problem(&[(name, text)]);
        assert_eq!(problem.place, format!("--{name}"), "{text}");
        assert!(problem.message.contains(says), "{name}={text}: {problem}");
        assert_eq!(problem.code(), Code::InvalidArgument, "{problem}");
    }
}

#[test]
fn a_node_of_a_cluster_is_told_all_that_it_lacks_at_once() {
    let problems = check(&[("coordinator", "raft")]).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["--node-id", "--peers"]);
    assert_eq!(Problems(problems).code(), Code::InvalidArgument);
}

#[test]
fn settings_that_contradict_each_other() {
    let addr = ("valkey-addr", "localhost:6379");
    for chosen in ["embedded", "grpc://h:1"] {
        let problems = check(&[addr, ("coordinator", chosen)]).unwrap_err();
        assert!(
            problems.iter().any(|p| p.message.contains("remove one of the two")),
            "{problems:?}"
        );
    }
    let dialled = [("mode", "worker"), ("coordinator", "grpc://h:1")];
    assert!(problem(&[("mode", "worker")]).message.contains("add --coordinator grpc://"));
    assert!(check(&dialled).is_ok());
    for (name, text, says) in [
        ("workers", "0", "at least 1"),
        ("flight-addr", "h:0", "cannot be dialled"),
        ("data-dir", "x", "no effect in mode worker"),
        ("ttl", "1s", "no effect in mode worker"),
    ] {
        let problem = problem(&[dialled[0], dialled[1], (name, text)]);
        assert!(problem.message.contains(says), "{problem}");
    }
    // A file is shared by processes of several modes.
    let mut shared = raw(&dialled);
    shared.set("ttl", "1s", Origin::File("sheaf.yaml".to_owned()));
    assert!(shared.validate(&Machine::of(1 << 30)).is_ok());
}

#[test]
fn every_mode_has_its_coordinator_and_its_settings() {
    let of = |settings: &[(&str, &str)]| {
        let config = check(settings).unwrap();
        (config.backend().clone(), config.flight_addr().to_string(), config.workers())
    };
    let flight = ("mode", "flight");
    let (backend, address, workers) = of(&[("mode", "coordinator")]);
    assert_eq!((backend, address.as_str(), workers), (Backend::Embedded, "localhost:8082", 0));
    let (backend, address, workers) = of(&[flight]);
    assert_eq!((backend, address.as_str(), workers), (Backend::Absent, "localhost:8080", 0));
    let named = ("coordinator", "grpc://h:1");
    let known = ("advertise-addr", "me:1");
    assert_eq!(
        of(&[flight, named, known]).0,
        Backend::Remote("h:1".parse::<HostPort>().unwrap().into())
    );
    for (settings, says) in [
        (&[flight, ("coordinator", "embedded")][..], "no coordinator inside"),
        (&[flight, ("sink", "parquet:x")], "no effect in mode flight"),
        (&[("mode", "coordinator"), ("ttl", "1s")], "no effect in mode coordinator"),
        (&[("mode", "coordinator"), ("compression", "lz4")], "no effect in mode coordinator"),
        (&[("mode", "coordinator"), named], "has its coordinator inside"),
        (&[flight, named, ("flight-addr", "0.0.0.0:1"), ("insecure", "true")], "--advertise-addr"),
        (&[flight, named], "--advertise-addr"),
        (&[flight, ("coordinator", "grpc://127.0.0.1:8080")], "this server itself"),
    ] {
        let problem = problem(settings);
        assert!(problem.message.contains(says), "{settings:?}: {problem}");
    }
}

#[test]
fn everything_is_reported_at_once_and_secrets_are_not() {
    let problems = check(&[
        ("mode", "fleet"),
        ("lease", "x"),
        ("workers", "many"),
        ("valkey-password", "hunter2"),
        ("sink", "tape:x"),
        ("leese", "1s"),
    ])
    .unwrap_err();
    assert_eq!(problems.len(), 6, "{problems:?}");
    let all = Problems(problems);
    assert_eq!(all.code(), Code::InvalidArgument);
    let text = all.to_string();
    assert!(text.starts_with("6 problems with the configuration\n  "), "{text}");
    assert!(text.contains("did you mean lease?") && !text.contains("hunter2"), "{text}");
}
