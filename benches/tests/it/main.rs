//! The comparisons as a whole, with tiny sizes and real servers and peers.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
#[cfg(feature = "kafka")]
use sheaf_testkit::KafkaBroker;
use sheaf_testkit::{Process, TempDir, services_dir};

/// Only bounds how long a broken comparison hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The server's binary stands beside ours once the workspace is built.
fn sheaf() -> Option<PathBuf> {
    server("sheaf")
}

fn server(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_sheaf-bench")).with_file_name(name);
    present("a server", path, &format!("cargo build --bin {name}"))
}

/// Peers come from the network: `cargo xtask bench` installs them.
fn peer(name: &str) -> Option<PathBuf> {
    let path = services_dir().join("peers").join(name).join("python/bin/python");
    present(name, path, &format!("cargo xtask bench with the peer {name}"))
}

fn present(what: &str, path: PathBuf, how: &str) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path);
    }
    eprintln!("SKIP no {what} at {}: run `{how}`", path.display());
    None
}

/// Runs one in its quick form; gives the last line that it printed.
fn quick(name: &str, sheaf: &PathBuf) -> Value {
    let temporary = TempDir::new().unwrap();
    let mut compare = Process::command(env!("CARGO_BIN_EXE_sheaf-bench"))
        .args(["compare", name, "--quick", "--json", "--sheaf"])
        .arg(sheaf)
        .env("TMPDIR", temporary.path())
        .env("SHEAF_SERVICES_DIR", services_dir())
        .spawn()
        .unwrap();
    let status = compare.wait_exit(PATIENCE).unwrap();
    let printed = compare.stdout();
    assert!(status.success(), "{status}\n{printed}\n{}", compare.stderr());
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{name} leaves {left:?}");
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

/// Every case has both sides, in order, and a ratio that goes with them.
fn check(report: &Value, name: &str, cases: &[&str]) {
    assert_eq!(report["bench"], name);
    for condition in ["cpu", "cores", "kernel", "date", "load_before", "versions"] {
        assert!(!report["conditions"][condition].is_null(), "no {condition}");
    }
    for case in cases {
        assert!(report["cases"][case].is_object(), "no case {case}");
    }
    for (case, figures) in report["cases"].as_object().unwrap() {
        for side in ["ours", "peer"] {
            let of = |key: &str| figures[side][key].as_f64().unwrap();
            assert!(of("min") <= of("median") && of("median") <= of("max"), "{case}: {figures}");
        }
        let median = |side: &str| figures[side]["median"].as_f64().unwrap();
        let (ours, peer, ratio) = (median("ours"), median("peer"), figures["ratio"].as_f64());
        let times = ["ms", "s", "us", "us/job", "reads/job", "ns/row"];
        let costs = ["CPU-s/GB", "CPU-us/message", "bytes"];
        let lower = [&times[..], &costs].concat().contains(&figures["unit"].as_str().unwrap());
        let expected = if lower { peer / ours } else { ours / peer };
        assert!((ratio.unwrap() / expected - 1.0).abs() < 1e-3, "{case}: {figures}");
        assert!(!figures["peer_name"].as_str().unwrap().is_empty(), "{case}");
    }
}

#[test]
fn the_coordinator_is_compared() {
    let (Some(sheaf), Some(_)) = (sheaf(), peer("taskiq")) else { return };
    let cases = ["embedded_transitions", "idle_pickup", "vs_taskiq", "idle_pickup_vs_taskiq"];
    check(&quick("coordinator", &sheaf), "coordinator", &cases);
}

#[test]
fn queues_on_valkey_are_compared() {
    let (Some(sheaf), Some(_)) = (sheaf(), peer("taskiq")) else { return };
    let cases =
        ["n1_vs_best_peer", "n64_vs_best_peer", "server_us_n64", "pickup_p50", "pickup_p99"];
    check(&quick("valkey", &sheaf), "valkey", &cases);
}

#[test]
fn flight_is_compared() {
    let (Some(sheaf), Some(_)) = (sheaf(), peer("pyarrow")) else { return };
    let cases = [
        "doget_tcp_vs_pyarrow",
        "doput_tcp_vs_pyarrow",
        "get_1row_p50",
        "doget_tcp_vs_socket",
        "doget_lz4_vs_pyarrow",
        "doget_zstd_kept_vs_pyarrow",
        "doput_zstd_cpu_vs_pyarrow",
        "doget_tls_vs_pyarrow",
        "doput_pyarrow_tls_vs_no_tls",
    ];
    check(&quick("flight", &sheaf), "flight", &cases);
}

#[cfg(feature = "kafka")]
#[test]
fn kafka_is_compared() {
    let (Some(gateway), Some(_)) = (server("sheaf-gateway"), peer("confluent")) else { return };
    let Some(_broker) = KafkaBroker::start_own().unwrap() else { return };
    let cases = [
        "json_vs_raw_consumer",
        "json_all_cores_vs_raw_consumer",
        "json_1k_vs_raw_consumer",
        "json_vs_python",
        "json_1k_vs_python",
        "avro_vs_raw_consumer",
        "avro_1k_cpu_vs_raw_consumer",
        "protobuf_vs_raw_consumer",
        "protobuf_1k_vs_raw_consumer",
        "json_decode_vs_python",
        "avro_decode_vs_fastavro",
    ];
    check(&quick("kafka", &gateway), "kafka", &cases);
}

#[test]
fn the_exchange_is_compared() {
    let built = services_dir().join("peers/datafusion/target/release/datafusion");
    let built = present("datafusion", built, "cargo xtask bench exchange");
    let (Some(sheaf), Some(_), Some(_)) = (sheaf(), peer("pyarrow"), built) else { return };
    let cases = [
        "kernel_p16_vs_datafusion",
        "kernel_p64_vs_datafusion",
        "kernel_p256_vs_datafusion",
        "kernel_p64_cpu_vs_datafusion",
        "kernel_p64_vs_datafusion_encoded",
        "kernel_p64_mixed_vs_datafusion",
        "kernel_p64_vs_pyarrow",
        "shuffle_vs_socket",
        "shuffle_cpu_vs_socket",
        "shuffle_memory_vs_socket",
        "shuffle_vs_pyarrow",
    ];
    check(&quick("exchange", &sheaf), "exchange", &cases);
}

#[test]
fn a_server_that_does_not_start_is_an_error_with_its_last_words() {
    let temporary = TempDir::new().unwrap();
    let broken = temporary.path().join("sheaf");
    std::fs::write(&broken, "#!/bin/sh\necho out of order >&2\nexit 70\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&broken, mode).unwrap();
    let mut compare = Process::command(env!("CARGO_BIN_EXE_sheaf-bench"))
        .args(["compare", "flight", "--quick", "--json", "--sheaf"])
        .arg(&broken)
        .spawn()
        .unwrap();
    let status = compare.wait_exit(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1));
    let told = compare.stderr();
    assert!(told.contains("out of order") && told.contains("70"), "{told}");
    assert!(!compare.stdout().contains("\"cases\""), "no figures without a server");
}

#[test]
fn an_unknown_comparison_is_refused_with_those_that_there_are() {
    let mut compare = Process::command(env!("CARGO_BIN_EXE_sheaf-bench"))
        .args(["compare", "nonsense", "--sheaf", "sheaf"])
        .spawn()
        .unwrap();
    assert!(!compare.wait_exit(PATIENCE).unwrap().success());
    assert!(compare.stderr().contains("coordinator, exchange, flight"), "{}", compare.stderr());
}
