//! Health endpoints, real and hostile ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::health::{Endpoint, HealthServer, Monitor, Poller, Timing, Vitals};
use sheaf_pipeline::registry::{Polled, Registration, Status};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{clock, eventually, worker};

const WELL: u8 = 0;
const ILL: u8 = 1;
/// Answers with bytes without end.
const FLOOD: u8 = 2;
/// Takes the connection and says nothing.
const MUTE: u8 = 3;
/// No HTTP at all.
const NOISE: u8 = 4;
const LONG_HEADER: u8 = 5;

/// A server of `/health`, as it is told to be.
struct Health {
    port: u16,
    mood: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Health {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, asked) = (Arc::new(AtomicU8::new(WELL)), Arc::new(AtomicUsize::new(0)));
        let (its_mood, its_asked) = (Arc::clone(&mood), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mood, asked) = (its_mood.load(Ordering::SeqCst), Arc::clone(&its_asked));
                tokio::spawn(async move {
                    let mut request = vec![0; 4_096];
                    let read = stream.read(&mut request).await.unwrap_or(0);
                    let line = String::from_utf8_lossy(&request[..read]).into_owned();
                    assert!(line.starts_with("GET /health HTTP/1.1\r\n"), "{line}");
                    asked.fetch_add(1, Ordering::SeqCst);
                    answer(&mut stream, mood).await;
                });
            }
        });
        Health { port, mood, asked }
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn endpoint(&self) -> Endpoint {
        let text = format!(":{}", self.port);
        Endpoint::checked(&text, "grpc://127.0.0.1:1").unwrap().unwrap()
    }
}

/// Errors are those of a client that had enough.
async fn answer(stream: &mut tokio::net::TcpStream, mood: u8) {
    let full = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let text = match mood {
        ILL => full("503 Service Unavailable", "disk full"),
        FLOOD => {
            drop(stream.write_all(b"HTTP/1.1 500 Error\r\n\r\n").await);
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
            return;
        }
        MUTE => return std::future::pending().await,
        NOISE => "SSH-2.0-OpenSSH\r\n".to_owned(),
        LONG_HEADER => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await);
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
            return;
        }
        _ => full("200 OK", "{\"status\":\"healthy\"}"),
    };
    drop(stream.write_all(text.as_bytes()).await);
}

#[tokio::test]
async fn a_look_is_bounded_in_time_and_bytes() {
    let health = Health::start().await;
    let poller = Poller::new(Duration::from_secs(5), clock());
    let endpoint = health.endpoint();
    assert_eq!(poller.look(&endpoint).await, Polled::Well);
    health.set(ILL);
    let ill = Polled::Not("503 Service Unavailable disk full".to_owned());
    assert_eq!(poller.look(&endpoint).await, ill);
    for mood in [FLOOD, NOISE, LONG_HEADER] {
        health.set(mood);
        let Polled::Not(why) = poller.look(&endpoint).await else { panic!("mood {mood}") };
        assert!(why.len() < 1_000 && !why.contains("no answer within"), "mood {mood}: {why}");
    }
    health.set(MUTE);
    let hasty = Poller::new(Duration::from_millis(50), clock());
    assert_eq!(hasty.look(&endpoint).await, Polled::Not("no answer within 50ms".to_owned()));
    let nobody = sheaf_testkit::free_port().unwrap();
    let nobody = Endpoint::checked(&format!(":{}", nobody.release().port()), "grpc://127.0.0.1:1")
        .unwrap()
        .unwrap();
    assert!(matches!(poller.look(&nobody).await, Polled::Not(why) if why.contains("refused")));
}

#[tokio::test]
async fn the_monitor_finds_an_ill_component_that_beats_on() {
    let timing = Timing {
        check_every: Duration::from_millis(20),
        poll_every: Duration::from_millis(20),
        ..Timing::default()
    };
    let plane = ControlPlane::open(Options { timing, ..Options::default() }, clock()).unwrap();
    let _monitor = Monitor::start(&plane, &clock());
    let health = Health::start().await;
    let endpoint = format!("127.0.0.1:{}", health.port);
    let asked = Registration { health_endpoint: endpoint, ..worker("w1") };
    plane.register(asked).await.unwrap();
    let is = async |status| plane.component("w1".to_owned()).await.unwrap().status == status;
    eventually("a few looks", || async { health.asked.load(Ordering::SeqCst) > 3 }).await;
    assert!(is(Status::Healthy).await);
    health.set(ILL);
    eventually("unhealthy", || is(Status::Unhealthy)).await;
    let reason = plane.component("w1".to_owned()).await.unwrap().reason.clone();
    assert!(reason.ends_with("failed 3 times: 503 Service Unavailable disk full"), "{reason}");
    health.set(WELL);
    eventually("healthy again", || is(Status::Healthy)).await;
}

/// Status line and body of an answer to some bytes; empty where there was none.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that had enough closes: what it answered before counts.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.lines().next().unwrap_or_default().to_owned();
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

#[tokio::test]
async fn a_component_says_how_it_is_and_nothing_else() {
    let ill = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&ill);
    let vitals: Vitals = Arc::new(move || match its.load(Ordering::SeqCst) {
        true => Err("the \"disk\" is full".to_owned()),
        false => Ok(()),
    });
    let server = HealthServer::bind("127.0.0.1:0", Arc::clone(&vitals), clock()).await.unwrap();
    let address = server.local_addr();
    let taken = HealthServer::bind(&address.to_string(), vitals, clock()).await.unwrap_err();
    assert_eq!(taken.code(), Code::AddressInUse);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    let ok = ("HTTP/1.1 200 OK".to_owned(), r#"{"status":"healthy"}"#.to_owned());
    assert_eq!(ask(address, &get("/health")).await, ok);
    assert_eq!(ask(address, &get("/metrics")).await.0, "HTTP/1.1 404 Not Found");
    let post = "POST /health HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(ask(address, post).await.0, "HTTP/1.1 405 Method Not Allowed");
    let long = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(!ask(address, &long).await.0.contains("200"));
    ill.store(true, Ordering::SeqCst);
    let (status, body) = ask(address, &get("/health")).await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, r#"{"reason":"the \"disk\" is full","status":"unhealthy"}"#);
    let poller = Poller::new(Duration::from_secs(5), clock());
    let port = format!(":{}", address.port());
    let endpoint = Endpoint::checked(&port, "grpc://127.0.0.1:1").unwrap().unwrap();
    assert!(matches!(poller.look(&endpoint).await, Polled::Not(why) if why.starts_with("503")));
    drop(server);
    eventually("it is closed", || async { TcpStream::connect(address).await.is_err() }).await;
}

#[tokio::test]
async fn who_says_nothing_makes_room_in_time() {
    let manual = ManualClock::new(Timestamp::EPOCH);
    let vitals: Vitals = Arc::new(|| Ok(()));
    let server = HealthServer::bind("127.0.0.1:0", vitals, manual.clone()).await.unwrap();
    let address = server.local_addr();
    let mut mute = Vec::new();
    for _ in 0..32 {
        mute.push(TcpStream::connect(address).await.unwrap());
    }
    eventually("all of them have a place", || async { manual.sleepers() == 32 }).await;
    let get = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
    assert_eq!(ask(address, get).await.0, "", "there is no place for one more");
    manual.advance(Duration::from_secs(5));
    eventually("they were closed", || async { manual.sleepers() == 0 }).await;
    assert_eq!(ask(address, get).await.0, "HTTP/1.1 200 OK");
}
