//! Calls whose replies get lost, and calls that are held.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sheaf_retry::SystemClock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::rule::{Call, CallFault, DO_ACTION, Effect, Loss, Rule, action_type};
use crate::Error;
use crate::background::Background;

/// Connections at a time; one more waits.
const MAX_CONNECTIONS: usize = 1_024;
/// Faults in force at a time.
const MAX_RULES: usize = 64;
/// A message that has to be read whole: the request of an action, a reply that
/// is lost or held.
const MAX_WHOLE: usize = 64 << 20;
/// HTTP/2 flow control per stream and connection.
const WINDOW: u32 = 4 << 20;

/// Why a connection or a call could not be carried on: what its ends see.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot connect to the server")]
    Connect(#[from] std::io::Error),
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    #[error("cannot read a message whole: {0}")]
    Whole(String),
    #[error("the reply is lost")]
    Lost,
}

type Body = BoxBody<Bytes, Failure>;

/// An HTTP/2 reverse proxy in front of one gRPC server, on a free port of
/// 127.0.0.1, that loses the replies of the calls a test names, or holds them.
///
/// A reply is lost only after the server has given it in full, trailers
/// included: the call has had its effect. Everything else passes as it is,
/// streams in both directions too. It runs on a thread of its own and ends when
/// it is dropped; each connection has one of its own to the server.
///
/// ```
/// use sheaf_testkit::{Call, CallProxy, Loss};
///
/// # let server = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
/// let proxy = CallProxy::start(server)?;
/// // The next two replies of `Settle` never reach the client.
/// let lost = proxy.lose_replies(Call::method("Settle"), 2, Loss::Connection);
/// assert_eq!(lost.hits(), 0);
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
#[derive(Debug)]
pub struct CallProxy {
    background: Background,
    rules: Rules,
}

#[derive(Clone, Debug, Default)]
struct Rules(Arc<Mutex<Vec<Arc<Rule>>>>);

impl Rules {
    fn add(&self, rule: &Arc<Rule>) {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| !rule.is_ended());
        assert!(rules.len() < MAX_RULES, "more than {MAX_RULES} faults at a time: end some");
        rules.push(Arc::clone(rule));
    }

    /// The first fault that means this call.
    fn find(&self, path: &str, action: Option<&str>) -> Option<Arc<Rule>> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().find(|rule| rule.means(path, action)).cloned()
    }
}

impl CallProxy {
    /// A proxy without a fault in front of `server`.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port or no thread.
    pub fn start(server: SocketAddr) -> Result<Self, Error> {
        let rules = Rules::default();
        let shared = rules.clone();
        let background =
            Background::start("call-proxy", move |listener| serve(listener, server, shared))?;
        Ok(CallProxy { background, rules })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.background.addr()
    }

    /// Where clients connect, as a `grpc://` URI.
    pub fn uri(&self) -> String {
        format!("grpc://{}", self.addr())
    }

    /// Loses the replies of the next `times` such calls. Of several faults for
    /// one call the first that was set counts.
    ///
    /// # Panics
    /// When 64 faults are in force.
    #[must_use = "the fault ends when this is dropped"]
    pub fn lose_replies(&self, call: Call, times: u64, loss: Loss) -> CallFault {
        self.add(call, Effect::Lose(loss), times)
    }

    /// Holds every such call before the server sees it.
    ///
    /// # Panics
    /// As [`CallProxy::lose_replies`].
    #[must_use = "the fault ends when this is dropped"]
    pub fn hold_requests(&self, call: Call) -> CallFault {
        self.add(call, Effect::HoldRequest, u64::MAX)
    }

    /// Holds the reply of every such call: the server has done it.
    ///
    /// # Panics
    /// As [`CallProxy::lose_replies`].
    #[must_use = "the fault ends when this is dropped"]
    pub fn hold_replies(&self, call: Call) -> CallFault {
        self.add(call, Effect::HoldReply, u64::MAX)
    }

    fn add(&self, call: Call, effect: Effect, times: u64) -> CallFault {
        let rule = Rule::new(call, effect, times);
        self.rules.add(&rule);
        CallFault(rule)
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, rules: Rules) {
    let clock = SystemClock::shared();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, mostly: some are given back soon.
            clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let rules = rules.clone();
        tokio::spawn(async move {
            // A connection that fails is the clients' to notice.
            drop(pass(client, server, rules).await);
            drop(permit);
        });
    }
}

/// One connection of a client, with one to the server.
async fn pass(client: TcpStream, server: SocketAddr, rules: Rules) -> Result<(), Failure> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (sender, upstream) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake::<_, Body>(TokioIo::new(server))
        .await?;
    let broken = CancellationToken::new();
    let breaks = broken.clone();
    let service = service_fn(move |request| {
        let (sender, rules, broken) = (sender.clone(), rules.clone(), broken.clone());
        async move { forward(request, sender, rules, broken).await }
    });
    let downstream = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(TokioIo::new(client), service);
    tokio::select! {
        ended = upstream => ended?,
        ended = downstream => ended?,
        () = breaks.cancelled() => {}
    }
    Ok(())
}

async fn whole(body: Incoming) -> Result<Collected<Bytes>, Failure> {
    let read = Limited::new(body, MAX_WHOLE).collect().await;
    read.map_err(|error| Failure::Whole(error.to_string()))
}

async fn forward(
    request: Request<Incoming>,
    mut sender: SendRequest<Body>,
    rules: Rules,
    broken: CancellationToken,
) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let (body, action) = if head.uri.path() == DO_ACTION {
        let whole = whole(body).await?.to_bytes();
        let action = action_type(&whole).map(str::to_owned);
        (Full::new(whole).map_err(|never| match never {}).boxed(), action)
    } else {
        (body.map_err(Failure::from).boxed(), None)
    };
    let rule = rules.find(head.uri.path(), action.as_deref());
    if let Some(rule) = rule.as_ref().filter(|rule| rule.effect == Effect::HoldRequest) {
        rule.hit();
        rule.ended().await;
    }
    let answer = sender.send_request(Request::from_parts(head, body)).await?;
    let Some(rule) = rule.filter(|rule| rule.effect != Effect::HoldRequest) else {
        return Ok(answer.map(|body| body.map_err(Failure::from).boxed()));
    };
    let (head, body) = answer.into_parts();
    let whole = whole(body).await?;
    let whole_again = |whole: Collected<Bytes>| whole.map_err(|never| match never {}).boxed();
    // Only now: a reply that breaks with its neighbour's connection is not one of those asked for.
    if !rule.take() {
        return Ok(Response::from_parts(head, whole_again(whole)));
    }
    rule.hit();
    match rule.effect {
        Effect::Lose(Loss::Reset) => return Err(Failure::Lost),
        Effect::Lose(Loss::Connection) => {
            broken.cancel();
            std::future::pending::<()>().await;
        }
        // Not ended with the rule: a reply that is lost does not come later.
        Effect::Lose(Loss::Silence) => std::future::pending::<()>().await,
        Effect::HoldReply | Effect::HoldRequest => rule.ended().await,
    }
    Ok(Response::from_parts(head, whole_again(whole)))
}
