//! The ports of a process, bound before anything else.

use std::net::ToSocketAddrs as _;

use sheaf_flight::{Exposure, Listener, LocalListener};
use sheaf_retry::{Code, Retryable as _};
use tokio::net::TcpListener;

use super::error::Error;
use crate::config::{Config, Mode};

/// The ports of a server.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) flight: Listener,
    pub(super) local: Option<LocalListener>,
    /// Where shared memory is handed over, beside that.
    pub(super) segments: Option<LocalListener>,
    pub(super) admin: TcpListener,
}

impl Ports {
    /// Binds all. Host names are looked up, which may block for a moment.
    pub(super) fn bind(config: &Config) -> Result<Self, Error> {
        let address = config.flight_addr().to_string();
        let flight = Listener::bind(&address, "--flight-addr", exposure(config))?;
        let local = config.flight_uds().map(|path| LocalListener::bind(path, "--flight-uds"));
        let local = local.transpose()?;
        let segments = match config.flight_uds() {
            Some(path) if config.mode() != Mode::Coordinator => {
                let mut name = path.as_os_str().to_owned();
                name.push(".shm");
                Some(LocalListener::bind(name, "--flight-uds")?)
            }
            _ => None,
        };
        Ok(Ports { flight, local, segments, admin: Self::bind_admin(config)? })
    }

    /// Binds the admin port alone.
    pub(super) fn bind_admin(config: &Config) -> Result<TcpListener, Error> {
        let address = config.admin_addr().to_string();
        let refuse =
            |code, problem: String| Error::AdminPort { address: address.clone(), problem, code };
        let found = address.to_socket_addrs().map_err(|error| {
            refuse(Code::InvalidArgument, format!("is no address of this machine: {error}"))
        })?;
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(std::net::SocketAddr::is_ipv6);
        let first = found.first().copied().ok_or_else(|| {
            refuse(Code::InvalidArgument, "names no address of this machine".to_owned())
        })?;
        if exposure(config) == Exposure::Loopback && !first.ip().is_loopback() {
            let problem = "is open to other machines: use 127.0.0.1, give TLS and tokens, or --insecure to allow it";
            return Err(refuse(Code::FailedPrecondition, problem.to_owned()));
        }
        let bound = std::net::TcpListener::bind(first).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        bound.map_err(|error| match error.code() {
            Code::AddressInUse => refuse(
                Code::AddressInUse,
                "is in use: stop what listens there, or use port 0 for a free one".to_owned(),
            ),
            code => refuse(code, format!("cannot be bound: {error}")),
        })
    }
}

fn exposure(config: &Config) -> Exposure {
    match (config.insecure(), config.security().is_complete()) {
        (true, _) => Exposure::Insecure,
        (false, true) => Exposure::Secured,
        (false, false) => Exposure::Loopback,
    }
}
