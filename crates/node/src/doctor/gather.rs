//! Finds out everything at once: files and machine, and servers beside them.

use futures::future::join_all;
use sheaf_retry::{Code, SharedClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::local::Local;
use super::peer::{Needs, PeerFacts, STEP};
use super::ports::{self, AdminAnswer, Bind};
use super::valkey::ValkeyFacts;
use crate::config::{Backend, Config, HostPort, Mode};

/// Most bytes that are read of an answer of an admin port.
const ANSWER_BYTES: u64 = 64 << 10;

/// Everything that was found out.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) local: Local,
    /// The server that listens where this configuration would.
    pub(super) own: Option<PeerFacts>,
    pub(super) admin: Option<AdminAnswer>,
    /// Servers that the configuration names.
    pub(super) named: Vec<PeerFacts>,
    /// The Valkey that it names.
    pub(super) valkey: Option<ValkeyFacts>,
}

impl Facts {
    /// Asks everything and everybody at the same time.
    pub(super) async fn gather(config: &Config, clock: &SharedClock) -> Self {
        let security = config.security().client();
        let named = others(config)
            .into_iter()
            .map(|(role, needs, address)| PeerFacts::gather(role, needs, address, security, clock));
        let here = async {
            let local = Local::gather(config, clock).await;
            let tls = config.security().has_tls();
            let ports = local.ports.as_ref();
            let flight = ports.is_some_and(|ports| ports.flight == Some(Bind::Taken));
            let admin = ports.is_some_and(|ports| ports.admin == Bind::Taken);
            let own = async {
                let address = ports::own(config.flight_addr(), tls);
                // Without a CA a server under TLS cannot be asked.
                if !flight || (tls && security.ca.is_none()) {
                    return None;
                }
                Some(PeerFacts::gather("server", Needs::default(), address, security, clock).await)
            };
            let admin = async {
                if !admin || tls {
                    return None;
                }
                ask_admin(&ports::own(config.admin_addr(), false), clock).await
            };
            let (own, admin) = futures::join!(own, admin);
            (local, own, admin)
        };
        let valkey = ValkeyFacts::gather(config, clock);
        let ((local, own, admin), named, valkey) = futures::join!(here, join_all(named), valkey);
        Facts { local, own, admin, named, valkey }
    }
}

/// The servers that a configuration dials, by role and by what it needs there.
fn others(config: &Config) -> Vec<(&'static str, Needs, HostPort)> {
    let works = config.mode() == Mode::Worker;
    let payloads = || {
        let needs = Needs { payloads: true, ..Needs::default() };
        ("flight", needs, config.flight_addr().clone())
    };
    let coordinators = match config.backend() {
        Backend::Remote(remote) => remote.addresses().to_vec(),
        Backend::Raft(raft) => {
            let others = raft.peers().iter().filter(|(id, _)| **id != raft.node());
            others.flat_map(|(_, all)| all.clone()).collect()
        }
        Backend::Valkey(_) if works => return vec![payloads()],
        Backend::Valkey(_) | Backend::Embedded | Backend::Absent => return Vec::new(),
    };
    let is_beside = coordinators.contains(config.flight_addr());
    let mut others: Vec<_> = coordinators
        .into_iter()
        .map(|address| {
            let both = config.flight_addr() == &address;
            let needs = Needs { coordinator: true, itself: !works, payloads: works && both };
            ("coordinator", needs, address)
        })
        .collect();
    if works && !is_beside {
        others.push(payloads());
    }
    others
}

/// What the admin port says of its process, if it is one of ours.
async fn ask_admin(address: &HostPort, clock: &SharedClock) -> Option<AdminAnswer> {
    let (_, body) = get(address, "/health", clock).await.ok()?;
    let health: serde_json::Value = serde_json::from_str(&body).ok()?;
    let text = |name: &str| Some(health.get(name)?.as_str()?.to_owned());
    Some(AdminAnswer { version: text("version")?, phase: text("phase")? })
}

/// An answer of an admin port without TLS: its status and its body.
pub(super) async fn get(
    address: &HostPort,
    path: &str,
    clock: &SharedClock,
) -> Result<(u16, String), (Code, String)> {
    let asked = async {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::select! {
        done = asked => done.map_err(|error| {
            (Code::Unavailable, format!("{address} does not answer: {error}"))
        })?,
        () = clock.sleep(STEP) => {
            let text = format!("{address} gave no answer within {} s", STEP.as_secs());
            return Err((Code::DeadlineExceeded, text));
        }
    };
    let answer = String::from_utf8_lossy(&answer);
    let read = || {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    read().ok_or_else(|| (Code::Unavailable, format!("{address} does not speak HTTP")))
}
