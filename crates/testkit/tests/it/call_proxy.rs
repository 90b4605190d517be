//! Replies get lost after the call has had its effect, and calls are held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sheaf_testkit::{Call, CallProxy, Loss, wait_until_async};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing has to happen before a test believes it.
const QUIET: Duration = Duration::from_millis(150);

/// Sends back what it gets, with trailers, and counts calls.
async fn server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, calls) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
    let count = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let count = Arc::clone(&count);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let body =
                        Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
                    Ok::<_, hyper::Error>(Response::new(body))
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (addr, calls)
}

#[derive(Clone)]
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(proxy: &CallProxy) -> Self {
        let stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        Client(sender)
    }

    /// The body of a reply that has come whole.
    async fn call(&self, path: &str, body: &'static [u8]) -> Result<Bytes, hyper::Error> {
        let request = Request::post(format!("http://proxy{path}"))
            .body(Full::new(Bytes::from_static(body)))
            .unwrap();
        let answer = self.0.clone().send_request(request).await?.into_body().collect().await?;
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        Ok(answer.to_bytes())
    }
}

#[tokio::test]
async fn what_no_fault_takes_passes_with_its_trailers() {
    let (addr, calls) = server().await;
    let proxy = CallProxy::start(addr).unwrap();
    let client = Client::connect(&proxy).await;
    let _other = proxy.lose_replies(Call::path("/s/Other"), 9, Loss::Connection);
    assert_eq!(client.call("/s/Claim", b"hello").await.unwrap(), "hello");
    let large: &'static [u8] = vec![5; 9_000_000].leak();
    assert!(client.call("/s/Claim", large).await.unwrap() == large);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn replies_are_lost_as_often_as_asked_and_the_calls_were_made() {
    let (addr, calls) = server().await;
    let proxy = CallProxy::start(addr).unwrap();
    for loss in [Loss::Connection, Loss::Reset] {
        calls.store(0, Ordering::SeqCst);
        let lost = proxy.lose_replies(Call::method("Settle"), 2, loss);
        for made in 1..=2 {
            let client = Client::connect(&proxy).await;
            let (other, beside) = (client.clone(), proxy.hold_replies(Call::method("Beside")));
            let other = tokio::spawn(async move { other.call("/s/Beside", b"b").await });
            held(&beside, 1).await;
            client.call("/s/Settle", b"x").await.unwrap_err();
            assert_eq!((lost.hits(), calls.load(Ordering::SeqCst)), (made, 2 * made), "{loss:?}");
            beside.end();
            let other = other.await.unwrap();
            assert_eq!(other.is_err(), loss == Loss::Connection, "{loss:?} hit its neighbour");
        }
        let client = Client::connect(&proxy).await;
        assert_eq!(client.call("/s/Settle", b"x").await.unwrap(), "x");
        assert_eq!(lost.hits(), 2);
    }
    let lost = proxy.lose_replies(Call::method("Settle"), 1, Loss::Silence);
    let client = Client::connect(&proxy).await;
    let silent = tokio::time::timeout(QUIET, client.call("/s/Settle", b"x"));
    silent.await.unwrap_err();
    held(&lost, 1).await;
    assert_eq!(client.call("/s/Settle", b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn actions_are_told_by_their_type() {
    const DO_ACTION: &str = "/arrow.flight.protocol.FlightService/DoAction";
    const CLAIM: &[u8] = b"\0\0\0\0\x0b\x0a\x05Claim\x12\x02{}";
    const SETTLE: &[u8] = b"\0\0\0\0\x0c\x0a\x06Settle\x12\x02{}";
    let (addr, calls) = server().await;
    let proxy = CallProxy::start(addr).unwrap();
    let client = Client::connect(&proxy).await;
    let lost = proxy.lose_replies(Call::action("Settle"), 1, Loss::Reset);
    assert_eq!(client.call(DO_ACTION, CLAIM).await.unwrap(), CLAIM);
    client.call(DO_ACTION, SETTLE).await.unwrap_err();
    assert_eq!((lost.hits(), calls.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(client.call(DO_ACTION, SETTLE).await.unwrap(), SETTLE);
}

#[tokio::test]
async fn calls_are_held_before_or_after_the_server() {
    let (addr, calls) = server().await;
    let proxy = CallProxy::start(addr).unwrap();
    let client = Client::connect(&proxy).await;
    for (fault, made) in [
        (proxy.hold_requests(Call::method("Claim")), 0),
        (proxy.hold_replies(Call::method("Extend")), 1),
    ] {
        calls.store(0, Ordering::SeqCst);
        let path = if made == 0 { "/s/Claim" } else { "/s/Extend" };
        let caller = client.clone();
        let call = tokio::spawn(async move { caller.call(path, b"x").await });
        held(&fault, 1).await;
        assert_eq!(calls.load(Ordering::SeqCst), made);
        assert!(!call.is_finished());
        drop(fault);
        assert_eq!(call.await.unwrap().unwrap(), "x");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}

async fn held(fault: &sheaf_testkit::CallFault, calls: u64) {
    wait_until_async(PATIENCE, "calls to be taken", || async { fault.hits() == calls })
        .await
        .unwrap();
}
