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
}

/// What works today, for everything that does not yet.
const TODAY: &str =
    "use --coordinator embedded in mode all, or mode worker with --coordinator grpc://HOST:PORT";

/// Reads the four settings that choose the coordinator, and checks that they agree.
pub(super) fn read(reader: &mut Reader<'_>, mode: Option<Mode>) -> Option<Backend> {
    let chosen = reader.text("coordinator").to_owned();
    let named = reader.is_set("coordinator") && !chosen.is_empty();
    let backend = match chosen.as_str() {
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
    match (mode, backend) {
        (Mode::All, Backend::Remote(address)) => {
            let message = format!(
                "mode all has its coordinator inside and does not use {address}; \
                 choose --mode worker, or --coordinator embedded"
            );
            reader.wrong("coordinator", message);
        }
        (Mode::Worker, Backend::Embedded) => {
            let message = "mode worker needs the coordinator of a server: \
                           add --coordinator grpc://HOST:PORT with the address of its ready line";
            reader.wrong("coordinator", message.to_owned());
        }
        (Mode::Worker, Backend::Remote(address)) if address.port == 0 => {
            reader.wrong("coordinator", "port 0 cannot be dialled; name the server's".to_owned());
        }
        _ => {}
    }
}

/// Settings without effect in mode worker, where the command line names them:
/// files and environments are shared by processes of several modes.
pub(super) fn without_effect(reader: &mut Reader<'_>, mode: Mode) {
    const SERVER_ONLY: [&str; 7] = [
        "data-dir",
        "durability",
        "memory-limit",
        "max-live-bytes",
        "ttl",
        "max-retries",
        "advertise-addr",
    ];
    if mode != Mode::Worker {
        return;
    }
    for name in SERVER_ONLY {
        if reader.origin(name) == Origin::Flag {
            let message = "has no effect in mode worker: it belongs to the server";
            reader.wrong(name, message.to_owned());
        }
    }
}
