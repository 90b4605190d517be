//! A connection that breaks, stalls or crawls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::holds::{Holds, RequestHold};
use super::pump::{self, Filter};
use super::replies::{Losses, ReplyFault, ReplyLoss};
use crate::Error;
use crate::background::Background;

/// Connections at a time; one more is closed at once.
const MAX_CONNECTIONS: u64 = 1_024;

/// What a [`FaultProxy`] does with what passes through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    #[default]
    None,
    /// Open connections are closed, new ones as soon as they are made.
    Cut,
    /// Connections are accepted and stay open; nothing passes in either
    /// direction. What was sent meanwhile arrives when the fault ends, as
    /// after a network that was down for a while.
    Silent,
    /// What the client sends arrives; what the server answers is thrown away.
    /// When the fault ends the connections that lost something are closed.
    AnswersLost,
    /// Everything arrives this much later, in either direction.
    Delay(Duration),
    /// Each direction of each connection passes no more than this.
    Throttle {
        /// At least 1.
        bytes_per_second: u64,
    },
    /// At places that the seed chooses something happens to the bytes, in each direction
    /// of each connection at places of its own. Connections are numbered as they come:
    /// the same seed, connections and bytes have the same places.
    Noise {
        /// What happens.
        noise: Noise,
        /// How many bytes are between two places, on average; at least 1.
        one_in: u64,
        /// Chooses the places.
        seed: u64,
    },
}

/// What a [`Fault::Noise`] does at its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// One bit of one byte is flipped.
    Flip,
    /// One byte arrives twice.
    Repeat,
    /// What comes from there on is lost, and the connection ends in both directions.
    Truncate,
    /// Nothing passes for so long: what a lost packet is to who uses TCP, with the time
    /// until it is sent again.
    Stall(Duration),
}

impl Fault {
    /// Loses so many of 1,000 packets of 1,460 bytes, each of which arrives 200 ms later,
    /// and all that comes after it.
    pub fn loss(per_thousand: u64, seed: u64) -> Fault {
        let one_in = (1_460 * 1_000) / per_thousand.max(1);
        Fault::Noise { noise: Noise::Stall(Duration::from_millis(200)), one_in, seed }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    /// Connections of an earlier epoch are closed.
    epoch: u64,
    /// How often all connections that were open were silenced for good.
    silenced: u64,
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicU64,
    accepted: AtomicU64,
}

/// Stands between clients and one server on a free port of 127.0.0.1, and
/// does to the bytes what a bad network does. One fault at a time; two proxies
/// in a row make two.
///
/// It runs on a thread of its own and ends when it is dropped. The server need
/// not be there when it starts; while it is not, connections are closed at once.
/// Per direction of a connection at most 4 MiB wait inside.
///
/// ```
/// use std::net::TcpListener;
/// use sheaf_testkit::{Fault, FaultProxy};
///
/// let server = TcpListener::bind("127.0.0.1:0").unwrap();
/// let proxy = FaultProxy::start(server.local_addr().unwrap())?;
/// let client = std::net::TcpStream::connect(proxy.addr()).unwrap();
/// server.accept().unwrap();
/// proxy.set(Fault::Cut);
/// # drop(client);
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    background: Background,
    plan: watch::Sender<Plan>,
    faults: Faults,
    counters: Arc<Counters>,
}

/// Those told by the bytes of requests.
#[derive(Clone, Debug, Default)]
struct Faults {
    losses: Losses,
    holds: Holds,
}

impl FaultProxy {
    /// A proxy without a fault in front of `server`.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port or no thread.
    pub fn start(server: SocketAddr) -> Result<Self, Error> {
        let plan = watch::Sender::new(Plan::default());
        let counters = Arc::<Counters>::default();
        let faults = Faults::default();
        let (plans, told, counts) = (plan.clone(), faults.clone(), Arc::clone(&counters));
        let background = Background::start("fault-proxy", move |listener| {
            serve(listener, server, plans, told, counts)
        })?;
        Ok(FaultProxy { background, plan, faults, counters })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.background.addr()
    }

    /// Where clients connect, as a `grpc://` URI.
    pub fn uri(&self) -> String {
        format!("grpc://{}", self.addr())
    }

    /// The fault from now on, for open connections and new ones.
    pub fn set(&self, fault: Fault) {
        self.plan.send_modify(|plan| {
            // A stream with a hole in it would be a fault that no network has.
            let broken = plan.fault == Fault::AnswersLost && fault != plan.fault;
            plan.epoch += u64::from(broken || fault == Fault::Cut);
            plan.fault = fault;
        });
    }

    /// Loses the replies of a Valkey or Redis to the next `times` requests that
    /// contain these bytes, such as the name of a command or a key, and breaks
    /// or silences the connection of each. The server has done what was asked
    /// by then. Replies to earlier requests on that connection arrive, those to
    /// later ones are lost too. Of several faults for one request the first
    /// that was set counts; [`FaultProxy::set`] goes on beside them.
    ///
    /// It counts requests and replies, so every request on the connection has
    /// to have one reply: not after `SUBSCRIBE`, `MONITOR` or `CLIENT REPLY`,
    /// not with TLS, and not for commands written without their lengths.
    ///
    /// # Panics
    /// When 64 of these faults are in force.
    #[must_use = "the fault ends when this is dropped"]
    pub fn lose_replies(
        &self,
        bytes: impl Into<Vec<u8>>,
        times: u64,
        loss: ReplyLoss,
    ) -> ReplyFault {
        self.faults.losses.add(bytes.into(), loss, times)
    }

    /// Holds requests that contain these bytes before the server has them, each
    /// with all that comes after it on its connection, until this ends. Where
    /// replies are told apart requests are, too: see
    /// [`FaultProxy::lose_replies`].
    ///
    /// # Panics
    /// When 64 of these faults are in force.
    #[must_use = "the fault ends when this is dropped"]
    pub fn hold_requests(&self, bytes: impl Into<Vec<u8>>) -> RequestHold {
        self.faults.holds.add(bytes.into())
    }

    /// Closes every open connection; new ones are as before.
    pub fn close_connections(&self) {
        self.plan.send_modify(|plan| plan.epoch += 1);
    }

    /// Lets nothing pass over the connections that are open now, in either direction,
    /// and leaves them open; new ones are as before. So is a path that has forgotten
    /// its connections: nobody is told, and nothing ever comes.
    pub fn silence_connections(&self) {
        self.plan.send_modify(|plan| plan.silenced += 1);
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Connections that were made so far, those closed at once too.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    server: SocketAddr,
    plan: watch::Sender<Plan>,
    faults: Faults,
    counters: Arc<Counters>,
) {
    let clock = SystemClock::shared();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, mostly: some are given back soon.
            clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let number = counters.accepted.fetch_add(1, Ordering::SeqCst);
        if counters.open.load(Ordering::SeqCst) >= MAX_CONNECTIONS {
            continue;
        }
        let open = Open::new(&counters);
        let (plans, faults, clock) = (plan.subscribe(), faults.clone(), clock.clone());
        tokio::spawn(async move {
            pass(client, server, number, plans, faults, clock).await;
            drop(open);
        });
    }
}

/// Counts a connection as long as it lives.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    number: u64,
    plans: watch::Receiver<Plan>,
    faults: Faults,
    clock: SharedClock,
) {
    let Plan { epoch, silenced, fault } = *plans.borrow();
    if fault == Fault::Cut {
        return;
    }
    let (mut ends, mut silence) = (plans.clone(), plans.clone());
    let both = async {
        let mut silence = plans.clone();
        if silence.wait_for(|plan| plan.fault != Fault::Silent).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(server).await else { return };
        // Delays are what the test asks for, not what Nagle adds.
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (requests, answers) = faults.losses.connection(&faults.holds);
        let (requests, answers) = (Filter::Requests(requests), Filter::Answers(answers));
        let up = pump::run(from_client, to_server, requests, plans.clone(), &clock, 2 * number);
        let down =
            pump::run(from_server, to_client, answers, plans.clone(), &clock, 2 * number + 1);
        // An end of one direction lets the other finish; a failure is one of both.
        drop(tokio::try_join!(up, down));
    };
    let mut both = std::pin::pin!(both);
    tokio::select! {
        () = &mut both => return,
        _ = ends.wait_for(|plan| plan.epoch != epoch) => return,
        _ = silence.wait_for(|plan| plan.silenced != silenced) => {}
    }
    // Its sockets live in what is not carried on.
    drop(ends.wait_for(|plan| plan.epoch != epoch).await);
}
