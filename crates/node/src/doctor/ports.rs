//! The ports that the configuration would bind: free, or whose.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use sheaf_retry::{Code, Retryable as _};

use super::check::Check;
use super::data_dir::Holding;
use super::disk::Failed;
use super::peer::{PeerFacts, Step};
use crate::config::HostPort;

/// What came of binding a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// Any free port is asked for.
    Any,
    /// It can be had.
    Free,
    /// Somebody has it.
    Taken,
    /// It cannot be bound at all.
    Refused(Failed),
}

impl Bind {
    /// Binds it and lets it go. Looks names up, which may block for a moment.
    pub(super) fn attempt(address: &HostPort) -> Self {
        if address.port == 0 {
            return Bind::Any;
        }
        let found = match (address.host.as_str(), address.port).to_socket_addrs() {
            Ok(found) => found,
            Err(error) => {
                let text = format!("{} cannot be looked up: {error}", address.host);
                return Bind::Refused((Code::InvalidArgument, text));
            }
        };
        // As a server does: IPv4 first.
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let Some(first) = found.first() else {
            return Bind::Refused((Code::InvalidArgument, "the name has no address".to_owned()));
        };
        match TcpListener::bind(first) {
            Ok(_) => Bind::Free,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Bind::Taken,
            Err(error) => Bind::Refused((error.code(), error.to_string())),
        }
    }
}

/// Where the server of this configuration is dialled from this machine.
pub(super) fn own(address: &HostPort, tls: bool) -> HostPort {
    let ip = address.host.parse::<std::net::IpAddr>();
    let host = match ip.is_ok_and(|ip| ip.is_unspecified()) {
        true => "localhost".to_owned(),
        false => address.host.clone(),
    };
    HostPort { host, port: address.port, tls }
}

/// Whether the one that answers is the server of this data directory.
fn is_ours(peer: &PeerFacts, holding: &Holding) -> bool {
    match (holding, peer.info()) {
        (Holding::Held(Some(pid)), Some(info)) => *pid == info.pid,
        // Who cannot be told apart is believed.
        (Holding::Held(_), _) | (Holding::Unknown, Some(_)) => true,
        (Holding::Free | Holding::Unknown, _) => false,
    }
}

/// The port of Flight and the coordinator.
pub(super) fn flight(
    address: &HostPort,
    bind: &Bind,
    peer: Option<&PeerFacts>,
    holding: &Holding,
) -> Check {
    let name = "port.flight";
    let check = match (bind, peer) {
        (Bind::Any, _) => any(name, "--flight-addr"),
        (Bind::Refused(failed), _) => refused(name, "--flight-addr", address, failed),
        (Bind::Free, _) if matches!(holding, Holding::Held(_)) => Check::warning(
            name,
            format!(
                "{address} is free, but a server runs on the data directory at another address"
            ),
            "dial that one, or stop it before this configuration is started",
        ),
        (Bind::Free, _) => Check::ok(name, format!("{address} is free")),
        (Bind::Taken, Some(peer)) if is_ours(peer, holding) => {
            let version = peer.info().map_or_else(String::new, |info| format!(" {}", info.version));
            Check::ok(
                name,
                format!("{address} is served by sheaf{version}, on this data directory"),
            )
        }
        (Bind::Taken, Some(peer)) if peer.info().is_some() || peer.health != Step::NotTried => {
            let who = match (peer.info(), &peer.health) {
                (Some(info), _) => format!("sheaf {} (process {})", info.version, info.pid),
                (None, Step::Done(_)) => "a gRPC server".to_owned(),
                (None, _) => "something that does not speak gRPC".to_owned(),
            };
            let text =
                format!("{address} is taken by {who}, which does not serve this data directory");
            taken(name, "--flight-addr", text)
        }
        (Bind::Taken, _) => taken(name, "--flight-addr", format!("{address} is taken")),
    };
    check.figure("address", address.to_string())
}

/// What the admin port said where it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAnswer {
    pub(super) version: String,
    pub(super) phase: String,
}

/// The admin port; `own` is the server that this configuration has running.
pub(super) fn admin(
    address: &HostPort,
    bind: &Bind,
    answer: Option<&AdminAnswer>,
    own: Option<&PeerFacts>,
    holding: &Holding,
) -> Check {
    let name = "port.admin";
    let at = own.and_then(PeerFacts::info).and_then(|info| info.admin.parse::<SocketAddr>().ok());
    let own = own.is_some_and(|own| is_ours(own, holding));
    let check = match (bind, answer) {
        (Bind::Any, _) => any(name, "--admin-addr"),
        (Bind::Refused(failed), _) => refused(name, "--admin-addr", address, failed),
        (Bind::Free, _) => Check::ok(name, format!("{address} is free")),
        (Bind::Taken, _) if own && at.is_some_and(|at| at.port() == address.port) => {
            Check::ok(name, format!("{address} is the admin port of that server"))
        }
        (Bind::Taken, Some(AdminAnswer { version, phase })) => {
            let text = format!("{address} is the admin port of sheaf {version}, {phase}");
            // Workers have no other port by which they could be told.
            match holding {
                Holding::Unknown => Check::ok(name, text),
                _ => taken(name, "--admin-addr", text),
            }
        }
        (Bind::Taken, None) => taken(name, "--admin-addr", format!("{address} is taken")),
    };
    check.figure("address", address.to_string())
}

fn any(name: &str, flag: &str) -> Check {
    Check::ok(name, format!("any free port, another one at each start: {flag} fixes it"))
}

fn refused(name: &str, flag: &str, address: &HostPort, (code, why): &Failed) -> Check {
    let text = format!("{address} cannot be bound: {why}");
    let check = Check::problem(name, *code, text);
    check.advise(match code {
        Code::PermissionDenied => format!("choose a port of 1024 or more for {flag}"),
        _ => format!("name an address of this machine with {flag}"),
    })
}

fn taken(name: &str, flag: &str, text: String) -> Check {
    let action = format!("stop what listens there, or choose another port with {flag}");
    Check::problem(name, Code::AddressInUse, text).advise(action)
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
