//! Where a component tells how it is.

use std::fmt;

use sheaf_flight::Target;

use crate::registry::{Error, invalid, limits};

/// The port of a health endpoint that names none.
pub const DEFAULT_PORT: u16 = 8088;

const FIELD: &str = "health_endpoint";
const SECURE: &str = "https://";

/// Host and port of a `GET /health`.
///
/// The host is that of the component's address, so that nobody has the control
/// plane ask a server that is not theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// An IPv6 address stands in brackets.
    host: String,
    port: u16,
    /// Whether it is asked under TLS.
    tls: bool,
}

impl Endpoint {
    /// What stands in a registration: `HOST`, `HOST:PORT` or `:PORT`, or nothing,
    /// beside the address of the component. It is asked under TLS where that address is.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is none, or of another host.
    pub fn checked(text: &str, address: &str) -> Result<Option<Self>, Error> {
        limits::text(FIELD, text)?;
        if text.is_empty() {
            return Ok(None);
        }
        let of = |error: sheaf_flight::Error| invalid("address", error.message());
        let target: Target = address.parse().map_err(of)?;
        let (host, tls) = (target.host(), target.is_tls());
        let text = match tls {
            // As it is shown.
            true => text.strip_prefix(SECURE).unwrap_or(text),
            false => text,
        };
        let written = match text.strip_prefix(':') {
            Some(port) => format!("{host}:{port}"),
            None if has_port(text) => text.to_owned(),
            None => format!("{text}:{DEFAULT_PORT}"),
        };
        let form =
            || invalid(FIELD, format!("{text:?} is not of the form HOST, HOST:PORT or :PORT"));
        if written.contains(['/', '@', '?', '#']) {
            return Err(form());
        }
        let found: Target = written.parse().map_err(|_: sheaf_flight::Error| form())?;
        if !is_same_host(found.host(), host) {
            let problem = format!("{} is not the host of its address, {host}", found.host());
            return Err(invalid(FIELD, problem));
        }
        Ok(Some(Endpoint { host: found.host().to_owned(), port: found.port(), tls }))
    }

    /// One that was checked before; `None` where it is none.
    pub(crate) fn stored(text: &str) -> Option<Self> {
        let target: Target = text.parse().ok()?;
        let (host, port, tls) = (target.host().to_owned(), target.port(), target.is_tls());
        Some(Endpoint { host, port, tls })
    }

    /// Whether it is asked under TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Where a path of it is.
    pub(super) fn url(&self, path: &str) -> String {
        match self.tls {
            true => format!("{self}{path}"),
            false => format!("http://{self}{path}"),
        }
    }

    /// Host and port, as HTTP has them.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// As it is dialled: an IPv6 address without its brackets.
    pub(super) fn dialled(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { SECURE } else { "" };
        write!(f, "{scheme}{}:{}", self.host, self.port)
    }
}

fn has_port(text: &str) -> bool {
    // Colons within brackets are those of an IPv6 address.
    text.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

fn is_same_host(left: &str, right: &str) -> bool {
    const HERE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
    left.eq_ignore_ascii_case(right) || (HERE.contains(&left) && HERE.contains(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, address: &str) -> Result<Option<String>, String> {
        let checked = Endpoint::checked(text, address);
        checked.map(|found| found.map(|found| found.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_is_the_address_and_8088() {
        let address = "grpc://10.0.0.7:50051";
        assert_eq!(read("", address), Ok(None));
        assert_eq!(read("10.0.0.7", address), Ok(Some("10.0.0.7:8088".to_owned())));
        assert_eq!(read(":9000", address), Ok(Some("10.0.0.7:9000".to_owned())));
        assert_eq!(read("localhost:8088", "127.0.0.1:5"), Ok(Some("localhost:8088".to_owned())));
        assert_eq!(read("[::1]", "grpc://[::1]:5"), Ok(Some("[::1]:8088".to_owned())));
    }

    #[test]
    fn what_is_called_under_tls_is_asked_under_tls_and_read_again_as_it_is_shown() {
        let address = "grpc+tls://10.0.0.7:50051";
        let shown = read(":9000", address).unwrap().unwrap();
        assert_eq!(shown, "https://10.0.0.7:9000");
        assert_eq!(read(&shown, address), Ok(Some(shown.clone())));
        assert!(Endpoint::stored(&shown).unwrap().is_tls());
        assert!(read(&shown, "grpc://10.0.0.7:50051").is_err(), "nobody may ask for more");
        assert_eq!(Endpoint::stored(&shown).unwrap().url("/stats"), shown + "/stats");
    }

    #[test]
    fn another_host_and_what_is_no_endpoint_are_refused() {
        let address = "grpc://10.0.0.7:50051";
        assert!(read("169.254.169.254:80", address).unwrap_err().contains("not the host"));
        for bad in ["10.0.0.7:0", "10.0.0.7:99999", "10.0.0.7/x", "u@10.0.0.7", ":", "10.0.0.7:x"] {
            assert!(read(bad, address).is_err(), "{bad}");
        }
        assert!(read("10.0.0.7\r\nx:1", address).is_err());
    }
}
