//! Asks a server how it is: name, connection, health, access, one after the
//! other, each with a deadline; the first that fails ends it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sheaf_flight::{
    CallOptions, ChannelPool, ClientConfig, ClientSecurity, Error, FlightConnection, TokenSource,
};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock};
use sheaf_terminal::parse_rfc3339;
use tokio::net::TcpStream;

use super::disk::Failed;
use crate::config::HostPort;
use crate::serve::{SERVER_INFO, ServerInfo};

/// How long one step may take.
pub(super) const STEP: Duration = Duration::from_secs(3);
/// Action that only a coordinator answers; whoever passes calls on passes it on.
const COORDINATOR_INFO: &str = "CoordinatorInfo";
/// Calls of which the median is the latency.
const CALLS: usize = 7;

/// One step on the way to a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step<T> {
    /// It worked.
    Done(T),
    /// It did not.
    Failed(Failed),
    /// One before it did not.
    NotTried,
}

impl<T> From<Result<T, Failed>> for Step<T> {
    fn from(result: Result<T, Failed>) -> Self {
        match result {
            Ok(value) => Step::Done(value),
            Err(failed) => Step::Failed(failed),
        }
    }
}

/// What a configuration needs of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// A coordinator, in it or behind it.
    pub(super) coordinator: bool,
    /// The coordinator itself: calls that were passed on are not passed on again.
    pub(super) itself: bool,
    /// Payloads.
    pub(super) payloads: bool,
}

/// What a server answered to those that it lets in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers {
    /// What it says of itself; `None` from one that cannot tell yet.
    pub(super) info: Option<ServerInfo>,
    /// How long answers took, sorted.
    pub(super) took: Vec<Duration>,
    /// By how many milliseconds its clock is ahead of ours.
    pub(super) ahead_ms: Option<i64>,
    /// Whether a coordinator answers there; not asked where none is needed, nor
    /// told by a server that does not know the question.
    pub(super) coordinator: Option<Result<(), Failed>>,
}

/// What was found on the way to a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PeerFacts {
    /// What it is to this configuration: `server`, `coordinator` or `flight`.
    pub(super) role: &'static str,
    pub(super) needs: Needs,
    /// Where it is.
    pub(super) address: HostPort,
    pub(super) lookup: Step<Vec<SocketAddr>>,
    pub(super) connect: Step<Duration>,
    /// Whether it takes work; the TLS handshake is on the way.
    pub(super) health: Step<bool>,
    pub(super) access: Step<Answers>,
}

impl PeerFacts {
    /// Asks the server at `address`, as this configuration would.
    pub(super) async fn gather(
        role: &'static str,
        needs: Needs,
        address: HostPort,
        security: &ClientSecurity,
        clock: &SharedClock,
    ) -> Self {
        let mut facts = PeerFacts {
            role,
            needs,
            address,
            lookup: Step::NotTried,
            connect: Step::NotTried,
            health: Step::NotTried,
            access: Step::NotTried,
        };
        facts.lookup = lookup(&facts.address, clock).await.into();
        let Step::Done(found) = &facts.lookup else { return facts };
        facts.connect = connect(found, clock).await.into();
        let Step::Done(_) = facts.connect else { return facts };
        // A token that cannot be sent is not to hide how the server is.
        let open = ClientSecurity { token: TokenSource::None, ..security.clone() };
        facts.health = serving(&facts.address, open, clock).await.map_err(told).into();
        let Step::Done(_) = facts.health else { return facts };
        let asked = answers(&facts.address, needs, security.clone(), clock).await;
        facts.access = asked.map_err(told).into();
        facts
    }

    /// What it says of itself, where it got that far.
    pub(super) fn info(&self) -> Option<&ServerInfo> {
        match &self.access {
            Step::Done(answers) => answers.info.as_ref(),
            Step::Failed(_) | Step::NotTried => None,
        }
    }
}

fn told(error: Error) -> Failed {
    (error.code(), error.message().to_owned())
}

async fn within<T>(
    clock: &SharedClock,
    what: &str,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Failed> {
    tokio::select! {
        done = work => done.map_err(|error| (Code::Unavailable, error.to_string())),
        () = clock.sleep(STEP) => {
            Err((Code::DeadlineExceeded, format!("no {what} within {} s", STEP.as_secs())))
        }
    }
}

async fn lookup(address: &HostPort, clock: &SharedClock) -> Result<Vec<SocketAddr>, Failed> {
    let asked = tokio::net::lookup_host((address.host.as_str(), address.port));
    let found: Vec<_> = within(clock, "answer", asked).await?.collect();
    match found.is_empty() {
        true => Err((Code::Unavailable, "the name has no address".to_owned())),
        false => Ok(found),
    }
}

/// The first address that takes a connection.
async fn connect(found: &[SocketAddr], clock: &SharedClock) -> Result<Duration, Failed> {
    let before = clock.elapsed();
    within(clock, "connection", async { TcpStream::connect(found).await.map(drop) }).await?;
    Ok(clock.elapsed().saturating_sub(before))
}

fn connection(
    address: &HostPort,
    security: ClientSecurity,
    clock: &SharedClock,
) -> Result<FlightConnection, Error> {
    let config = ClientConfig {
        connect_timeout: STEP,
        deadline: Some(STEP),
        retry: RetryPolicy::none(),
        security,
        ..ClientConfig::default()
    };
    ChannelPool::new(config, clock.clone()).connection(&address.uri())
}

pub(super) async fn serving(
    address: &HostPort,
    security: ClientSecurity,
    clock: &SharedClock,
) -> Result<bool, Error> {
    connection(address, security, clock)?.is_serving("", &CallOptions::default()).await
}

async fn answers(
    address: &HostPort,
    needs: Needs,
    security: ClientSecurity,
    clock: &SharedClock,
) -> Result<Answers, Error> {
    let server = connection(address, security, clock)?;
    let options = CallOptions::default();
    // The first call makes the connection, which is no part of the latency.
    let known = match server.action(SERVER_INFO, Bytes::new(), &options).await {
        Ok(_) => true,
        // A server from before the action, or a token without a right to it: it
        // lets us in, and that is all.
        Err(error) if is_unknown(error.code()) || error.code() == Code::PermissionDenied => false,
        Err(error) => return Err(error),
    };
    let mut answers = Answers::default();
    if needs.coordinator {
        answers.coordinator = coordinator(&server, &options).await;
    }
    if !known {
        return Ok(answers);
    }
    let mut closest = Duration::MAX;
    for _ in 0..CALLS {
        let (wall, before) = (clock.now(), clock.elapsed());
        let Ok(reply) = server.action(SERVER_INFO, Bytes::new(), &options).await else { break };
        let took = clock.elapsed().saturating_sub(before);
        answers.took.push(took);
        let info = reply.first().and_then(|body| serde_json::from_slice::<ServerInfo>(body).ok());
        let Some(info) = info else { continue };
        // The quickest answer tells the time best: it was half-way there and half back.
        if took < closest
            && let Ok(theirs) = parse_rfc3339(&info.time)
        {
            closest = took;
            answers.ahead_ms =
                Some(difference(theirs.as_micros(), wall.plus(took / 2).as_micros()));
        }
        answers.info = Some(info);
    }
    answers.took.sort_unstable();
    Ok(answers)
}

/// Whether a coordinator answers, in that server or behind it.
async fn coordinator(
    server: &FlightConnection,
    options: &CallOptions,
) -> Option<Result<(), Failed>> {
    match server.action(COORDINATOR_INFO, Bytes::from_static(b"{}"), options).await {
        Ok(_) => Some(Ok(())),
        Err(error) if is_unknown(error.code()) => None,
        Err(error) => Some(Err(told(error))),
    }
}

fn is_unknown(code: Code) -> bool {
    matches!(code, Code::Unimplemented | Code::InvalidArgument | Code::NotFound)
}

/// Milliseconds from `ours` to `theirs`, both in microseconds.
fn difference(theirs: u64, ours: u64) -> i64 {
    let ms = |micros: u64| i64::try_from(micros / 1_000).unwrap_or(i64::MAX);
    match theirs >= ours {
        true => ms(theirs - ours),
        false => -ms(ours - theirs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::SystemClock;

    #[test]
    fn clocks_differ_either_way() {
        assert_eq!(difference(5_000_000, 2_000_000), 3_000);
        assert_eq!(difference(2_000_000, 5_000_000), -3_000);
        assert_eq!(difference(0, u64::MAX), -i64::try_from(u64::MAX / 1_000).unwrap());
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_ends_the_way() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        let security = ClientSecurity::default();
        let (needs, clock) = (Needs::default(), SystemClock::shared());
        let facts = PeerFacts::gather("server", needs, address, &security, &clock).await;
        assert!(matches!(facts.lookup, Step::Done(_)), "{facts:?}");
        assert!(matches!(facts.connect, Step::Failed((Code::Unavailable, _))), "{facts:?}");
        assert_eq!((facts.health, facts.access), (Step::NotTried, Step::NotTried));
    }
}
