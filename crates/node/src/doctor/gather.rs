//! Finds out everything at once: files and machine on a thread that may block,
//! servers beside it.

use std::time::Duration;

use futures::future::join_all;
use sheaf_connectors::SinkSpec;
use sheaf_coordinator::embedded::FileState;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_store::Survey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::certificates::SecurityFacts;
use super::data_dir::DataFacts;
use super::disk::{DirFacts, Kind};
use super::machine::MachineFacts;
use super::peer::{Needs, PeerFacts, STEP};
use super::ports::{self, AdminAnswer, Bind};
use crate::config::{Backend, Config, HostPort, Mode};

/// How long disk and files may take: a dead network file system never answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes that are read of an answer of an admin port.
const ANSWER_BYTES: u64 = 64 << 10;

/// What this machine and its files are.
#[derive(Debug)]
pub(super) struct Local {
    /// None in mode worker.
    pub(super) data: Option<DataFacts>,
    pub(super) sink: Option<DirFacts>,
    pub(super) machine: MachineFacts,
    pub(super) security: SecurityFacts,
    /// None in mode worker.
    pub(super) flight: Option<Bind>,
    pub(super) admin: Bind,
}

/// Everything that was found out.
#[derive(Debug)]
pub(super) struct Facts {
    /// `None` where it took too long.
    pub(super) local: Option<Local>,
    /// The server that listens where this configuration would.
    pub(super) own: Option<PeerFacts>,
    pub(super) admin: Option<AdminAnswer>,
    /// Servers that the configuration names.
    pub(super) named: Vec<PeerFacts>,
}

impl Facts {
    /// Asks everything and everybody at the same time.
    pub(super) async fn gather(config: &Config, clock: &SharedClock) -> Self {
        let security = config.security().client();
        let named = others(config)
            .into_iter()
            .map(|(role, needs, address)| PeerFacts::gather(role, needs, address, security, clock));
        let here = async {
            let local = local(config, clock).await;
            let tls = config.security().has_tls();
            let taken = |bind: Option<&Bind>| bind == Some(&Bind::Taken);
            let flight = taken(local.as_ref().and_then(|local| local.flight.as_ref()));
            let admin = taken(local.as_ref().map(|local| &local.admin));
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
        let ((local, own, admin), named) = futures::join!(here, join_all(named));
        Facts { local, own, admin, named }
    }
}

/// The servers that a configuration dials, by role and by what it needs there.
fn others(config: &Config) -> Vec<(&'static str, Needs, HostPort)> {
    let Backend::Remote(coordinator) = config.backend() else { return Vec::new() };
    let (works, both) = (config.mode() == Mode::Worker, config.flight_addr() == coordinator);
    let needs = Needs { coordinator: true, itself: !works, payloads: works && both };
    let mut others = vec![("coordinator", needs, coordinator.clone())];
    if works && !both {
        let needs = Needs { payloads: true, ..Needs::default() };
        others.push(("flight", needs, config.flight_addr().clone()));
    }
    others
}

async fn local(config: &Config, clock: &SharedClock) -> Option<Local> {
    let (config, time) = (config.clone(), clock.clone());
    let work = tokio::task::spawn_blocking(move || look(&config, &time));
    tokio::select! {
        done = work => done.ok(),
        () = clock.sleep(PATIENCE) => None,
    }
}

fn look(config: &Config, clock: &SharedClock) -> Local {
    let mode = config.mode();
    // Before the ports: binding is the shortest of all.
    let flight = (mode != Mode::Worker).then(|| Bind::attempt(config.flight_addr()));
    let admin = Bind::attempt(config.admin_addr());
    let sink = match config.sink() {
        SinkSpec::Files { dir, .. } if config.workers() > 0 => {
            Some(DirFacts::gather(dir, clock.as_ref()))
        }
        SinkSpec::Files { .. } | SinkSpec::None => None,
    };
    Local {
        data: (mode != Mode::Worker).then(|| data(config, clock)),
        sink,
        machine: MachineFacts::gather(),
        security: SecurityFacts::gather(config.security(), clock),
        flight,
        admin,
    }
}

fn data(config: &Config, clock: &SharedClock) -> DataFacts {
    let path = config.data_dir();
    let dir = DirFacts::gather(path, clock.as_ref());
    let there = dir.kind == Kind::Directory;
    let survey = (there && config.mode() != Mode::Coordinator)
        .then(|| Survey::of(path).map_err(|error| (error.code(), error.to_string())));
    let records = (there && config.backend() == &Backend::Embedded).then(|| {
        FileState::of(&path.join("coordinator.redb")).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let text = error.to_string();
            (error.code(), cause.map_or(text.clone(), |cause| format!("{text}: {cause}")))
        })
    });
    DataFacts { dir, survey, records }
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
