//! From what was written to what holds.

use std::path::PathBuf;
use std::time::Duration;

use sheaf_retry::MAX_RETRIES;
use sheaf_store::Durability;
use sheaf_telemetry::{LogFormat, LogOptions};
use sheaf_terminal::HumanBytes;

use super::address::HostPort;
use super::backend::{self, Backend};
use super::machine::Machine;
use super::problem::Problem;
use super::raft;
use super::raw::RawConfig;
use super::reader::Reader;
use super::resolved::{Config, Mode};
use super::security::{self, SecurityConfig};

/// Least memory for payloads: below it not even a few small batches fit.
const MIN_MEMORY: u64 = 1_000_000;
/// Longest name of a queue, in bytes.
const MAX_QUEUE_NAME: usize = 128;
/// Most queues that the workers of one process take from.
const MAX_QUEUES: usize = 64;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

impl RawConfig {
    /// Checks every setting and how they fit together.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the help text.
    pub fn validate(&self, machine: &Machine) -> Result<Config, Vec<Problem>> {
        let mut reader = Reader::new(self);
        let config = read(&mut reader, machine);
        let mut problems = reader.problems;
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => {
                problems.dedup();
                Err(problems)
            }
        }
    }
}

/// `None` only where a problem was reported.
fn read(reader: &mut Reader<'_>, machine: &Machine) -> Option<Config> {
    let mode = mode(reader);
    let insecure = reader.switch("insecure");
    let security = security::read(reader, insecure.unwrap_or(true));
    let flight_addr = listen(reader, "flight-addr", insecure, &security, mode);
    let admin_addr = listen(reader, "admin-addr", insecure, &security, None);
    let advertise_addr = advertised(reader, security.has_tls());
    let backend = backend::read(reader, mode, &security);
    if let Some(Backend::Remote(remote)) = &backend {
        for address in remote.addresses() {
            security::dial(reader, &security, "coordinator", address);
        }
    }
    reachable(reader, mode, flight_addr.as_ref(), backend.as_ref());
    if let Some(mode) = mode {
        backend::without_effect(reader, mode, backend.as_ref());
    }
    let data_dir = data_dir(reader);
    let durability = durability(reader);
    let compression = reader.parse("compression");
    let memory_limit = reader.memory("memory-limit", MIN_MEMORY, machine);
    let max_live_bytes = max_live_bytes(reader);
    let ttl = reader.duration("ttl", MILLISECOND * 10..=DAY * 3_650);
    let shuffle_disk = reader.parse("shuffle-disk");
    let shuffle_idle = reader.duration("shuffle-idle", MILLISECOND * 100..=DAY * 3_650);
    let lease = reader.duration("lease", MILLISECOND * 100..=DAY);
    let grace = reader.duration("grace", Duration::ZERO..=HOUR);
    let max_retries = reader.number("max-retries", MAX_RETRIES);
    let workers = workers(reader, mode);
    let poll_interval = reader.duration("poll-interval", MILLISECOND..=Duration::from_secs(60));
    let queues = queues(reader);
    let processor = reader.parse("processor");
    let sink = reader.parse("sink");
    if matches!(mode, Some(Mode::All)) {
        idle(reader, workers);
    }
    let verbose = reader.switch("verbose");
    let format = reader.parse::<LogFormat>("log-format");
    Some(Config {
        mode: mode?,
        backend: backend?,
        flight_addr: flight_addr?,
        flight_uds: flight_uds(reader),
        admin_addr: admin_addr?,
        advertise_addr: advertise_addr?,
        insecure: insecure?,
        security,
        data_dir: data_dir?,
        durability: durability?,
        compression: compression?,
        memory_limit: memory_limit?,
        max_live_bytes: max_live_bytes?,
        ttl: ttl?,
        shuffle_disk: shuffle_disk?,
        shuffle_idle: shuffle_idle?,
        lease: lease?,
        grace: grace?,
        max_retries: max_retries?,
        workers: workers?,
        poll_interval: poll_interval?,
        queues: queues?,
        processor: processor?,
        sink: sink?,
        logs: LogOptions { format: format?, verbose: verbose?, filter: None },
    })
}

/// `none`, or a size.
fn max_live_bytes(reader: &mut Reader<'_>) -> Option<u64> {
    if reader.text("max-live-bytes") == "none" {
        return Some(u64::MAX);
    }
    reader.parse::<HumanBytes>("max-live-bytes").map(|bytes| bytes.0)
}

fn mode(reader: &mut Reader<'_>) -> Option<Mode> {
    reader.parse::<Mode>("mode")
}

/// Where coordinators listen by default: one beside a Flight server starts as
/// it is.
const COORDINATOR_ADDR: &str = "localhost:8082";

/// An address to bind, or in mode worker one to dial.
fn listen(
    reader: &mut Reader<'_>,
    name: &str,
    insecure: Option<bool>,
    security: &SecurityConfig,
    mode: Option<Mode>,
) -> Option<HostPort> {
    // The address is often copied from a ready line, with its scheme.
    let own = mode.and_then(|_| raft::own_address(reader));
    let text = match (reader.text(name), &own) {
        (_, Some(own)) if !reader.is_set(name) => own,
        _ if mode == Some(Mode::Coordinator) && !reader.is_set(name) => COORDINATOR_ADDR,
        (text, _) => text,
    };
    let address = match HostPort::from_uri(text) {
        Ok(address) => address,
        Err(problem) => {
            reader.wrong(name, problem);
            return None;
        }
    };
    if mode == Some(Mode::Worker) {
        if address.port == 0 {
            reader.wrong(name, "port 0 cannot be dialled; name the server's".to_owned());
            return None;
        }
        security::dial(reader, security, name, &address);
    } else {
        security::listen(reader, security, insecure.unwrap_or(true), name, &address);
    }
    Some(address)
}

fn advertised(reader: &mut Reader<'_>, tls: bool) -> Option<Option<HostPort>> {
    let text = reader.text("advertise-addr");
    if text.is_empty() {
        return Some(None);
    }
    match HostPort::from_uri(text) {
        Ok(address) if address.port > 0 => Some(Some(HostPort { tls, ..address })),
        Ok(address) => {
            let message = format!("{address} cannot be dialled by others: name the port");
            reader.wrong("advertise-addr", message);
            None
        }
        Err(problem) => {
            reader.wrong("advertise-addr", problem);
            None
        }
    }
}

/// A server that registers what it has with a coordinator that others use, too,
/// must be found again under what it registers, and by workers that are as far
/// away as that coordinator.
fn reachable(
    reader: &mut Reader<'_>,
    mode: Option<Mode>,
    bound: Option<&HostPort>,
    backend: Option<&Backend>,
) {
    let (Some(mode), Some(address), Some(backend)) = (mode, bound, backend) else { return };
    let is_near = match (mode, backend) {
        (Mode::Flight, Backend::Remote(remote)) => {
            for coordinator in remote.addresses() {
                let same_host = address.host == coordinator.host
                    || (address.is_loopback() && coordinator.is_loopback());
                if same_host && address.port == coordinator.port {
                    let message = format!(
                        "{coordinator} is this server itself: name the coordinator's address"
                    );
                    return reader.wrong("coordinator", message);
                }
            }
            remote.is_loopback()
        }
        (Mode::All | Mode::Flight, Backend::Valkey(valkey)) => valkey.is_loopback(),
        _ => return,
    };
    let open = address.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let hidden = address.is_loopback() && !is_near;
    if (open || hidden) && reader.text("advertise-addr").is_empty() {
        let message = format!(
            "{address} is no address under which workers find this server: \
             add --advertise-addr HOST:PORT"
        );
        reader.wrong("flight-addr", message);
    }
}

fn flight_uds(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let path = Some(reader.text("flight-uds")).filter(|path| !path.is_empty())?;
    Some(path.into())
}

fn data_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let text = reader.text("data-dir");
    if text.is_empty() {
        reader.wrong("data-dir", "names no directory".to_owned());
        return None;
    }
    Some(text.into())
}

fn durability(reader: &mut Reader<'_>) -> Option<Durability> {
    match reader.text("durability") {
        "disk" => Some(Durability::Disk),
        "memory" => Some(Durability::Memory),
        other => {
            let message = format!("{other:?} is no durability: write memory or disk");
            reader.wrong("durability", message);
            None
        }
    }
}

fn workers(reader: &mut Reader<'_>, mode: Option<Mode>) -> Option<usize> {
    let most = u32::try_from(sheaf_worker::MAX_WORKER_COUNT).unwrap_or(u32::MAX);
    let workers = reader.number("workers", most)?;
    if matches!(mode, Some(Mode::Flight | Mode::Coordinator)) {
        return Some(0);
    }
    if workers == 0 && mode == Some(Mode::Worker) {
        reader.wrong("workers", "mode worker needs at least 1".to_owned());
        return None;
    }
    usize::try_from(workers).ok()
}

/// Settings that only workers would heed, where there are none.
fn idle(reader: &mut Reader<'_>, workers: Option<usize>) {
    if workers != Some(0) {
        return;
    }
    for (name, default) in [("sink", "none"), ("processor", "verify")] {
        if reader.text(name) != default {
            let message = "has no effect with 0 workers; give it to the workers".to_owned();
            reader.wrong(name, message);
        }
    }
}

fn queues(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let text = reader.text("queue");
    let mut queues: Vec<String> = Vec::new();
    let mut fine = true;
    for name in text.split(',').map(str::trim) {
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
        if name.is_empty() || name.len() > MAX_QUEUE_NAME || !letters {
            let message = format!(
                "{name:?} is no name of a queue: write 1 to {MAX_QUEUE_NAME} letters, digits and . _ : -"
            );
            reader.wrong("queue", message);
            fine = false;
        } else if !queues.iter().any(|known| known == name) {
            queues.push(name.to_owned());
        }
    }
    if queues.len() > MAX_QUEUES {
        let message = format!("{} queues are over the limit of {MAX_QUEUES}", queues.len());
        reader.wrong("queue", message);
        fine = false;
    }
    fine.then_some(queues)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
