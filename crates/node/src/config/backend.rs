//! Which coordinator a process uses.

use super::address::HostPort;
use super::raw::Origin;
use super::reader::Reader;
use super::resolved::Mode;

/// Who remembers what must still happen to every batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// This process, on its data directory.
    Embedded,
    /// Another process, over gRPC.
    Remote(HostPort),
    /// Nobody: a Flight server by itself.
    Absent,
}

/// What works today, for everything that does not yet.
const TODAY: &str = "use --coordinator embedded in mode all or coordinator, or \
                     --coordinator grpc://HOST:PORT in mode flight or worker";

/// Reads the four settings that choose the coordinator, and checks that they agree.
pub(super) fn read(reader: &mut Reader<'_>, mode: Option<Mode>) -> Option<Backend> {
    let chosen = reader.text("coordinator").to_owned();
    let named = reader.is_set("coordinator") && !chosen.is_empty();
    let backend = match chosen.as_str() {
        "" if mode == Some(Mode::Flight) => Some(Backend::Absent),
        "embedded" | "" => Some(Backend::Embedded),
        "valkey" => None,
        "raft" => {
            let message = format!("the coordinator raft is not built into this version; {TODAY}");
            reader.unbuilt("coordinator", message);
            None
        }
        other => match other.contains("://").then(|| HostPort::from_uri(other)) {
            Some(Ok(address)) => Some(Backend::Remote(address)),
            Some(Err(problem)) => {
                reader.wrong("coordinator", problem);
                None
            }
            None => {
                let message = format!(
                    "{other:?} is no coordinator: write embedded, valkey, raft or grpc://HOST:PORT"
                );
                reader.wrong("coordinator", message);
                None
            }
        },
    };
    if valkey(reader, &chosen, named) {
        return None;
    }
    if let (Some(backend), Some(mode)) = (&backend, mode) {
        agree(reader, backend, mode);
    }
    backend
}

/// Whether Valkey is chosen, by name or by its address; reports what is wrong with that.
fn valkey(reader: &mut Reader<'_>, chosen: &str, named: bool) -> bool {
    let by_address = !reader.text("valkey-addr").is_empty();
    let other = named && chosen != "valkey";
    if by_address {
        if let Err(problem) = reader.text("valkey-addr").parse::<HostPort>() {
            reader.wrong("valkey-addr", problem);
        }
        if other {
            let place = reader.place("coordinator");
            let message = format!(
                "chooses Valkey as coordinator, but {place} says {chosen:?}; remove one of the two"
            );
            reader.wrong("valkey-addr", message);
        }
    }
    let durability = reader.text("valkey-durability").to_owned();
    if !matches!(durability.as_str(), "" | "async" | "replicated" | "fsynced") {
        let message =
            format!("{durability:?} is no durability: write async, replicated or fsynced");
        reader.wrong("valkey-durability", message);
    }
    let selected = chosen == "valkey" || (by_address && !other);
    if selected {
        let place = if by_address { "valkey-addr" } else { "coordinator" };
        let message = format!("the coordinator valkey is not built into this version; {TODAY}");
        reader.unbuilt(place, message);
    } else if !by_address {
        for name in ["valkey-password", "valkey-password-file", "valkey-durability"] {
            if !reader.text(name).is_empty() {
                let message =
                    "has no effect without Valkey: add --coordinator valkey, or remove it";
                reader.wrong(name, message.to_owned());
            }
        }
    }
    selected
}

/// Whether the mode has a use for the backend.
fn agree(reader: &mut Reader<'_>, backend: &Backend, mode: Mode) {
    let message = match (mode, backend) {
        (Mode::All | Mode::Coordinator, Backend::Remote(address)) => format!(
            "mode {mode} has its coordinator inside and does not use {address}; \
             choose --mode worker or flight, or --coordinator embedded"
        ),
        (Mode::Worker, Backend::Embedded | Backend::Absent) => {
            "mode worker needs the coordinator of a server: \
             add --coordinator grpc://HOST:PORT with the address of its ready line"
                .to_owned()
        }
        (Mode::Flight, Backend::Embedded) => "mode flight has no coordinator inside: \
             name one with --coordinator grpc://HOST:PORT, or leave it out"
            .to_owned(),
        (Mode::Worker | Mode::Flight, Backend::Remote(address)) if address.port == 0 => {
            "port 0 cannot be dialled; name the server's".to_owned()
        }
        _ => return,
    };
    reader.wrong("coordinator", message);
}

/// Settings that belong to workers.
const WORK: [&str; 5] = ["workers", "poll-interval", "queue", "processor", "sink"];
/// Settings that belong to payloads.
const PAYLOADS: [&str; 3] = ["memory-limit", "ttl", "advertise-addr"];
/// Settings that belong to what is kept.
const KEPT: [&str; 2] = ["data-dir", "durability"];

/// Settings without effect in a mode, where the command line names them:
/// files and environments are shared by processes of several modes.
pub(super) fn without_effect(reader: &mut Reader<'_>, mode: Mode, backend: Option<&Backend>) {
    const COORDINATION: [&str; 2] = ["max-retries", "max-live-bytes"];
    // A coordinator sizes its limits by the memory there is.
    const FLIGHT_ONLY: [&str; 2] = ["ttl", "advertise-addr"];
    let (settings, owner): (Vec<&[&'static str]>, _) = match mode {
        Mode::All => return,
        Mode::Worker => (vec![&KEPT, &PAYLOADS, &COORDINATION], "the server"),
        Mode::Flight if backend == Some(&Backend::Absent) => {
            (vec![&WORK, &COORDINATION, &["lease"]], "workers and coordinator")
        }
        Mode::Flight => (vec![&WORK, &COORDINATION], "workers and coordinator"),
        Mode::Coordinator => (vec![&WORK, &FLIGHT_ONLY], "workers and Flight servers"),
    };
    for name in settings.concat() {
        if reader.origin(name) == Origin::Flag {
            let message = format!("has no effect in mode {mode}: it belongs to {owner}");
            reader.wrong(name, message);
        }
    }
}
