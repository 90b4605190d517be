//! Where a registry is.

use std::fmt;
use std::str::FromStr;

use ::http::Uri;

use super::Error;

/// The parts of an address, none of which is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) is_tls: bool,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the header `Host` has it.
    pub(super) authority: String,
    /// What all paths begin with; no slash at its end.
    pub(super) prefix: String,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // It may hold a password, which is not shown.
        if text.contains('@') {
            let problem = "a login does not belong into the address of a schema registry; \
                           give it as --schema-registry-auth";
            return Err(Error::Invalid(problem.to_owned()));
        }
        let invalid = |problem: &str| {
            Error::Invalid(format!("the address of the schema registry is {text:?}: {problem}"))
        };
        let uri: Uri = text.trim().parse().map_err(|_| invalid("no URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(invalid("write http://HOST:PORT or https://HOST:PORT"));
        };
        let (is_tls, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(invalid("write http://HOST:PORT or https://HOST:PORT")),
        };
        if uri.query().is_some() {
            return Err(invalid("it has a query"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Address {
            is_tls,
            host: bare.to_owned(),
            port: authority.port_u16().unwrap_or(usual),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        let read = |text: &str| {
            text.parse::<Address>()
                .map(|address| (address.to_string(), address.host, address.port, address.prefix))
        };
        let of = |shown: &str, host: &str, port, prefix: &str| {
            (shown.to_owned(), host.to_owned(), port, prefix.to_owned())
        };
        assert_eq!(read("http://a:8081/").unwrap(), of("http://a:8081", "a", 8081, ""));
        let long = "https://a.example/api/registry/";
        let shown = long.trim_end_matches('/');
        assert_eq!(read(long).unwrap(), of(shown, "a.example", 443, "/api/registry"));
        assert_eq!(read("http://[::1]").unwrap(), of("http://[::1]", "::1", 80, ""));
        for wrong in ["", "a", "a:8081", "ftp://a", "http://", "http://a?b=c", "http:// a"] {
            let error = read(wrong).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{wrong}");
        }
        let error = read("http://me:hunter2@a:8081").unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("--schema-registry-auth"), "{error}");
    }
}
