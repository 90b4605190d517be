//! Addresses of servers, as people and other servers write them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, invalid};

/// The address of a Flight server.
///
/// Reads `grpc://HOST:PORT`, `grpc+tcp://HOST:PORT`, `http://HOST:PORT` and
/// `HOST:PORT`, and shows as the first; under TLS `grpc+tls://HOST:PORT` and
/// `https://HOST:PORT`. IPv6 addresses stand in brackets. `grpc+unix://PATH` is a
/// socket in the file system of this machine.
///
/// ```
/// use sheaf_flight::Target;
///
/// let target: Target = "grpc+tcp://localhost:8080".parse()?;
/// assert_eq!(target, "localhost:8080".parse()?);
/// assert_eq!(target.to_string(), "grpc://localhost:8080");
/// assert!("grpc+tls://localhost:8080".parse::<Target>()?.is_tls());
/// assert!("localhost".parse::<Target>().is_err());
/// # Ok::<(), sheaf_flight::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    host: String,
    port: u16,
    tls: bool,
    /// The socket in the file system, in place of host and port.
    path: Option<PathBuf>,
}

impl Target {
    /// The socket in the file system, where it is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The host, an IPv6 address in brackets; `localhost` for a socket in the
    /// file system.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a socket in the file system.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is called under TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The same address as HTTP/2 sees it.
    pub(super) fn http_uri(&self) -> String {
        match &self.path {
            Some(_) => format!("http://{}", self.host),
            None => format!("http://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            return write!(f, "grpc+unix://{}", path.display());
        }
        let scheme = if self.tls { "grpc+tls" } else { "grpc" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("grpc", text));
        let tls = match scheme {
            "grpc" | "grpc+tcp" | "http" => false,
            "grpc+tls" | "https" => true,
            "grpc+unix" | "unix" => {
                if !rest.starts_with('/') {
                    return Err(wrong(text, "the path of a socket is written whole, from /"));
                }
                let host = "localhost".to_owned();
                return Ok(Target { host, port: 0, tls: false, path: Some(rest.into()) });
            }
            _ => return Err(wrong(text, &format!("the scheme {scheme:?} is not known"))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority =
            rest.parse().map_err(|error| wrong(text, &format!("{error}")))?;
        if authority.as_str().contains('@') {
            return Err(wrong(text, "credentials do not belong into an address"));
        }
        let port = authority.port_u16().filter(|&port| port != 0);
        let port = port.ok_or_else(|| wrong(text, "the port is missing, or not 1 to 65535"))?;
        let host = authority.host();
        if host.is_empty() {
            return Err(wrong(text, "the host is missing"));
        }
        Ok(Target { host: host.to_owned(), port, tls, path: None })
    }
}

fn wrong(text: &str, why: &str) -> Error {
    let text: String = text.chars().take(200).collect();
    invalid(format!(
        "{text:?} is no address of a server ({why}): write grpc://HOST:PORT, grpc+tls://… or \
         grpc+unix:///PATH"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{Code, Retryable as _};

    #[test]
    fn every_form_reads_as_the_same_target() {
        for form in ["grpc://h:1", "grpc+tcp://h:1", "http://h:1/", "h:1"] {
            assert_eq!(form.parse::<Target>().unwrap().to_string(), "grpc://h:1", "{form}");
        }
        for form in ["grpc+tls://h:1", "https://h:1/"] {
            let target = form.parse::<Target>().unwrap();
            assert_eq!((target.to_string().as_str(), target.is_tls()), ("grpc+tls://h:1", true));
            assert_ne!(target, "h:1".parse().unwrap());
        }
        let local: Target = "grpc+unix:///run/sheaf.sock".parse().unwrap();
        assert_eq!(local.to_string(), "grpc+unix:///run/sheaf.sock");
        assert_eq!(local.path(), Some(Path::new("/run/sheaf.sock")));
        let six: Target = "[::1]:8080".parse().unwrap();
        assert_eq!((six.host(), six.port()), ("[::1]", 8080));
    }

    #[test]
    fn what_is_no_target_says_why() {
        for wrong in
            ["", "h", "h:0", "h:70000", "ftp://h:1", "grpc://:1", "u:p@h:1", "h:1/path", "a b:1"]
        {
            let error = wrong.parse::<Target>().unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{wrong}: {error}");
            assert!(error.message().contains("grpc://HOST:PORT"), "{error}");
        }
        assert!("grpc+unix://run/s".parse::<Target>().is_err());
    }
}
