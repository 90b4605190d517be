//! Which coordinator a process uses.

use std::fmt;

use super::address::HostPort;
use super::raft::{self, RaftConfig};
use super::raw::Origin;
use super::reader::Reader;
use super::resolved::Mode;
use super::security::SecurityConfig;
use super::valkey::{self, ValkeyConfig};

/// Who remembers what must still happen to every batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// This process, on its data directory.
    Embedded,
    /// Valkey: any number of processes that name the same one are one coordinator.
    Valkey(Box<ValkeyConfig>),
    /// This process and others, which replicate it among themselves.
    Raft(Box<RaftConfig>),
    /// Another process, over gRPC, or several that are one coordinator.
    Remote(Remote),
    /// Nobody: a Flight server by itself.
    Absent,
}

impl fmt::Display for Backend {
    /// `embedded`, `none`, or its address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Embedded => f.write_str("embedded"),
            Backend::Valkey(valkey) => valkey.fmt(f),
            Backend::Raft(raft) => raft.fmt(f),
            Backend::Remote(remote) => remote.fmt(f),
            Backend::Absent => f.write_str("none"),
        }
    }
}

/// Where a coordinator of other processes is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    addresses: Vec<HostPort>,
}

impl Remote {
    /// One address at least; all of them are the same coordinator.
    pub fn addresses(&self) -> &[HostPort] {
        &self.addresses
    }

    /// Its only address, where it has one.
    pub fn only(&self) -> Option<&HostPort> {
        match self.addresses.as_slice() {
            [address] => Some(address),
            _ => None,
        }
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(HostPort::is_loopback)
    }
}

impl From<HostPort> for Remote {
    fn from(address: HostPort) -> Self {
        Remote { addresses: vec![address] }
    }
}

impl fmt::Display for Remote {
    /// Addresses with commas between, as the setting takes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uris: Vec<String> = self.addresses.iter().map(HostPort::uri).collect();
        f.write_str(&uris.join(","))
    }
}

/// Reads the settings that choose the coordinator, and checks that they agree.
pub(super) fn read(
    reader: &mut Reader<'_>,
    mode: Option<Mode>,
    security: &SecurityConfig,
) -> Option<Backend> {
    let chosen = reader.text("coordinator").to_owned();
    let by_address = !reader.text("valkey-addr").is_empty();
    if reader.is_set("valkey-addr") && !by_address && chosen.is_empty() {
        // Perhaps of a variable that is not set: another coordinator would know nothing of
        // the batches that are there.
        let message = "is empty; name a Valkey, such as valkey://HOST:6379, or leave it out";
        reader.wrong("valkey-addr", message.to_owned());
        return None;
    }
    if chosen != "raft" {
        raft::without(reader);
    }
    let backend = match chosen.as_str() {
        "valkey" => return valkey::read(reader).map(|valkey| Backend::Valkey(Box::new(valkey))),
        "" if by_address => {
            return valkey::read(reader).map(|valkey| Backend::Valkey(Box::new(valkey)));
        }
        "" if mode == Some(Mode::Flight) => Some(Backend::Absent),
        "embedded" | "" => Some(Backend::Embedded),
        "raft" => raft::read(reader, security).map(|raft| Backend::Raft(Box::new(raft))),
        other => remote(reader, other),
    };
    if by_address {
        let place = reader.place("coordinator");
        let message = format!(
            "chooses Valkey as coordinator, but {place} says {chosen:?}; remove one of the two"
        );
        reader.wrong("valkey-addr", message);
        return None;
    }
    valkey::without(reader);
    if let (Some(backend), Some(mode)) = (&backend, mode) {
        agree(reader, backend, mode);
    }
    backend
}

fn remote(reader: &mut Reader<'_>, text: &str) -> Option<Backend> {
    let read = || text.split(',').map(|one| HostPort::from_uri(one.trim())).collect();
    match text.contains("://").then(read) {
        Some(Ok(addresses)) => return Some(Backend::Remote(Remote { addresses })),
        Some(Err(problem)) => reader.wrong("coordinator", problem),
        None => {
            let message = format!(
                "{text:?} is no coordinator: write embedded, valkey, raft or grpc://HOST:PORT"
            );
            reader.wrong("coordinator", message);
        }
    }
    None
}

/// Whether the mode has a use for the backend.
fn agree(reader: &mut Reader<'_>, backend: &Backend, mode: Mode) {
    let message = match (mode, backend) {
        (Mode::All | Mode::Coordinator, Backend::Remote(remote)) => format!(
            "mode {mode} has its coordinator inside and does not use {remote}; \
             choose --mode worker or flight, or --coordinator embedded"
        ),
        (Mode::Worker, Backend::Embedded | Backend::Absent) => {
            "mode worker needs a coordinator: add --coordinator grpc://HOST:PORT with the address \
             of a server's ready line, or --valkey-addr"
                .to_owned()
        }
        (Mode::Flight, Backend::Embedded) => "mode flight has no coordinator inside: \
             name one with --coordinator grpc://HOST:PORT or --valkey-addr, or leave it out"
            .to_owned(),
        (Mode::Worker | Mode::Flight, Backend::Remote(remote))
            if remote.addresses.iter().any(|address| address.port == 0) =>
        {
            "port 0 cannot be dialled; name the server's".to_owned()
        }
        (Mode::Worker | Mode::Flight, Backend::Raft(_)) => format!(
            "mode {mode} is no node of a cluster: name its nodes with \
             --coordinator grpc://HOST:PORT,grpc://…"
        ),
        _ => return,
    };
    reader.wrong("coordinator", message);
}

/// Settings that belong to workers.
const WORK: [&str; 5] = ["workers", "poll-interval", "queue", "processor", "sink"];
/// Settings that belong to payloads.
const PAYLOADS: [&str; 6] =
    ["memory-limit", "ttl", "advertise-addr", "compression", "shuffle-disk", "shuffle-idle"];
/// Settings that belong to what is kept.
const KEPT: [&str; 2] = ["data-dir", "durability"];

/// Settings without effect in a mode, where the command line names them:
/// files and environments are shared by processes of several modes.
pub(super) fn without_effect(reader: &mut Reader<'_>, mode: Mode, backend: Option<&Backend>) {
    // On Valkey every process is the coordinator.
    let coordination: &[&str] = match backend {
        Some(Backend::Valkey(_)) => &[],
        _ => &["max-retries", "max-live-bytes"],
    };
    // A coordinator sizes its limits by the memory there is.
    const FLIGHT_ONLY: [&str; 5] =
        ["ttl", "advertise-addr", "compression", "shuffle-disk", "shuffle-idle"];
    let (settings, owner): (Vec<&[&'static str]>, _) = match mode {
        Mode::All => return,
        Mode::Worker => (vec![&KEPT, &PAYLOADS, coordination, &["flight-uds"]], "the server"),
        Mode::Flight if backend == Some(&Backend::Absent) => {
            (vec![&WORK, coordination, &["lease"]], "workers and coordinator")
        }
        Mode::Flight => (vec![&WORK, coordination], "workers and coordinator"),
        Mode::Coordinator => (vec![&WORK, &FLIGHT_ONLY], "workers and Flight servers"),
    };
    for name in settings.concat() {
        if reader.origin(name) == Origin::Flag {
            let message = format!("has no effect in mode {mode}: it belongs to {owner}");
            reader.wrong(name, message);
        }
    }
}
