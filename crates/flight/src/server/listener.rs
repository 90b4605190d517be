//! The port of a server, bound before anything else is configured.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use sheaf_retry::{Code, Retryable as _};

use crate::error::{Error, invalid};
use crate::security::Security;

/// Who may reach a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine only.
    Loopback,
    /// Whoever can route to it, under TLS and with a token:
    /// [`Server::serve`](crate::Server::serve) refuses to do without.
    Secured,
    /// Whoever can route to it: no encryption, no credentials.
    Insecure,
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
    exposure: Exposure,
}

impl Listener {
    /// Binds `address` (`HOST:PORT`; port 0 takes a free one).
    ///
    /// `flag` is only for the texts of errors, and read nowhere else: what the
    /// user changes the address with, such as `--flight-addr` or the name of a
    /// setting.
    ///
    /// A host name is looked up, which may block; `localhost` is served on
    /// IPv4 where it has both.
    ///
    /// # Errors
    /// - `invalid_argument`: no address of that form, or an unknown host.
    /// - `failed_precondition`: not a loopback address, and `exposure` is
    ///   [`Exposure::Loopback`].
    /// - `address_in_use`, `permission_denied`, `io`: the system refused.
    pub fn bind(address: &str, flag: &str, exposure: Exposure) -> Result<Self, Error> {
        let mut found: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| {
                invalid(format!("{flag} {address:?} is no HOST:PORT of this machine: {error}"))
            })?
            .collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let Some(&first) = found.first() else {
            return Err(invalid(format!("{flag} {address:?} names no address")));
        };
        check_exposure(first, flag, exposure)?;
        match TcpListener::bind(first) {
            Ok(inner) => Self::with(inner, flag, exposure),
            Err(error) => Err(refused(&error, flag, first)),
        }
    }

    /// Takes a port bound elsewhere.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn from_std(listener: TcpListener, flag: &str, exposure: Exposure) -> Result<Self, Error> {
        let listener = Self::with(listener, flag, exposure)?;
        check_exposure(listener.address, flag, exposure)?;
        Ok(listener)
    }

    fn with(inner: TcpListener, flag: &str, exposure: Exposure) -> Result<Self, Error> {
        let set_up = inner.set_nonblocking(true).and_then(|()| inner.local_addr());
        let address = set_up.map_err(|error| {
            Error::new(Code::Io, format!("{flag}: cannot use the port: {error}"))
        })?;
        Ok(Listener { inner, address, exposure })
    }

    /// Where it listens, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether the security is what the exposure was granted for.
    pub(super) fn check(&self, security: &Security) -> Result<(), Error> {
        let open = self.exposure == Exposure::Secured && !self.address.ip().is_loopback();
        if !open || (security.has_tls() && security.has_tokens()) {
            return Ok(());
        }
        Err(Error::new(
            Code::FailedPrecondition,
            format!("{} is open to other machines: it needs TLS and tokens", self.address),
        ))
    }

    /// The port, for a server of another protocol: what it is open for is up to that.
    ///
    /// # Errors
    /// `io`: outside of a tokio runtime, or the system refused.
    pub fn into_tokio(self) -> Result<tokio::net::TcpListener, Error> {
        tokio::net::TcpListener::from_std(self.inner).map_err(|error| {
            Error::new(Code::Io, format!("cannot listen on {}: {error}", self.address))
        })
    }
}

fn check_exposure(address: SocketAddr, flag: &str, exposure: Exposure) -> Result<(), Error> {
    if exposure != Exposure::Loopback || address.ip().is_loopback() {
        return Ok(());
    }
    Err(Error::new(
        Code::FailedPrecondition,
        format!(
            "{flag} {address} is open to other machines without encryption and credentials: \
             use 127.0.0.1, give it TLS and tokens, or --insecure to allow it"
        ),
    ))
}

fn refused(error: &std::io::Error, flag: &str, address: SocketAddr) -> Error {
    let code = match error.code() {
        code @ (Code::AddressInUse | Code::PermissionDenied | Code::InvalidArgument) => code,
        _ => Code::Io,
    };
    let text = match code {
        Code::AddressInUse => format!(
            "{flag} {address} is in use: stop what listens there, or give {flag} another port \
             (0 takes a free one)"
        ),
        _ => format!("{flag} {address} cannot be bound: {error}"),
    };
    Error::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_names_the_flag() {
        let first = Listener::bind("localhost:0", "--flight-addr", Exposure::Loopback).unwrap();
        assert!(first.local_addr().is_ipv4() && first.local_addr().port() != 0);
        let taken = first.local_addr().to_string();
        let error = Listener::bind(&taken, "--flight-addr", Exposure::Loopback).unwrap_err();
        assert_eq!(error.code(), Code::AddressInUse);
        assert!(error.message().starts_with(&format!("--flight-addr {taken} is in use")));
    }

    #[test]
    fn beyond_loopback_only_when_asked() {
        let error = Listener::bind("0.0.0.0:0", "--flight-addr", Exposure::Loopback).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains("--insecure"), "{error}");
        assert!(Listener::bind("0.0.0.0:0", "--flight-addr", Exposure::Insecure).is_ok());
        let bound = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(Listener::from_std(bound, "--flight-addr", Exposure::Loopback).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["", "8080", "127.0.0.1", "127.0.0.1:99999"] {
            let error = Listener::bind(wrong, "--flight-addr", Exposure::Loopback).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{wrong}: {error}");
        }
    }
}
