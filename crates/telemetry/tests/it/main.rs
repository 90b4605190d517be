//! The admin port over real connections.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::sync::{Arc, Mutex};

use sheaf_flight::{Exposure, FlightRouter, Listener, Server, WebActions};
use sheaf_telemetry::{AdminServer, Health, MAX_PROFILE_SECONDS, Registry, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start(health: &Health) -> AdminServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = Arc::new(Mutex::new(Registry::default()));
    AdminServer::start(listener, registry, health.clone()).unwrap()
}

/// Status, headers and body of one request on a connection of its own.
async fn get(server: &AdminServer, path: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

async fn text(server: &AdminServer, path: &str) -> (u16, String) {
    let (status, _, body) = get(server, path).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn readiness_follows_phase_and_components() {
    let health = Health::new();
    let server = start(&health).await;
    assert_eq!(text(&server, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(text(&server, "/readyz").await, (503, "starting\n".to_owned()));
    health.ready();
    assert_eq!(text(&server, "/readyz").await, (200, "ready\n".to_owned()));
    health.register("store", || Status::down("disk full"));
    assert_eq!(text(&server, "/readyz").await, (503, "store: disk full\n".to_owned()));
    let (status, body) = text(&server, "/health").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 503);
    assert_eq!(body["components"][0]["detail"], "disk full");
    health.register("store", || Status::up("3 payloads"));
    assert_eq!(text(&server, "/health").await.0, 200);
    health.draining();
    assert_eq!(text(&server, "/readyz").await, (503, "draining\n".to_owned()));
}

#[tokio::test]
async fn actions_of_the_flight_port_are_answered_once_it_is_up() {
    let server = start(&Health::new()).await;
    assert_eq!(text(&server, WebActions::PATH).await.0, 503);
    let router = FlightRouter::builder().build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let flight = Server::new(router).serve(listener).await.unwrap();
    server.serve_actions(flight.web_actions());
    assert_eq!(text(&server, WebActions::PATH).await.0, 405, "it is a POST");
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let (path, asked) = (WebActions::PATH, r#"{"type": "HealthCheck"}"#);
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let kind = format!("content-type: application/json\r\ncontent-length: {}\r\n", asked.len());
    stream.write_all(format!("{head}{kind}\r\n{asked}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#"{"results":["#), "{answer}");
}

#[tokio::test]
async fn metrics_are_open_metrics_with_the_process_in_them() {
    let server = start(&Health::new()).await;
    let (status, head, body) = get(&server, "/metrics").await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.contains("process_resident_memory_bytes "), "{body}");
    assert!(body.contains("process_cpu_seconds_total "), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_bounded_one_at_a_time_and_cut_by_shutdown() {
    let server = start(&Health::new()).await;
    assert!(text(&server, "/debug/pprof/").await.1.contains("profile?seconds"));
    let over = format!("/debug/pprof/profile?seconds={}", MAX_PROFILE_SECONDS + 1);
    let (status, body) = text(&server, &over).await;
    assert_eq!((status, body.contains("not 61")), (400, true), "{body}");
    assert_eq!(text(&server, "/debug/pprof/profile?seconds=x").await.0, 400);
    assert_eq!(text(&server, "/debug/pprof/profile?format=svg").await.0, 400);

    // Burns CPU until the profile is there, so that there is something to sample.
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = done.clone();
    let burner = std::thread::spawn(move || {
        let mut sum = 0_u64;
        while !seen.load(std::sync::atomic::Ordering::Relaxed) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    });
    let (status, head, body) = get(&server, "/debug/pprof/profile?seconds=1&format=folded").await;
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    burner.join().unwrap();
    assert_eq!(status, 200, "{head}");
    assert!(!body.is_empty());

    // A long one occupies the profiler; shutting down cuts it short. One that
    // came while a short one ran is refused itself, so that it is asked again.
    let request = "GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nhost: x\r\n\r\n";
    let deadline = std::time::Duration::from_secs(20);
    let mut asked = Vec::new();
    tokio::time::timeout(deadline, async {
        loop {
            let mut long = TcpStream::connect(server.local_addr()).await.unwrap();
            long.write_all(request.as_bytes()).await.unwrap();
            asked.push(long);
            if get(&server, "/debug/pprof/profile?seconds=1").await.0 == 429 {
                break;
            }
        }
    })
    .await
    .expect("a second profile was refused while the first ran");
    tokio::time::timeout(deadline, server.shutdown()).await.expect("shut down in time");
    let mut cut = 0;
    for mut long in asked {
        let mut answer = Vec::new();
        long.read_to_end(&mut answer).await.unwrap();
        cut += usize::from(answer.starts_with(b"HTTP/1.1 503"));
    }
    assert_eq!(cut, 1, "the one that ran was cut short");
}
