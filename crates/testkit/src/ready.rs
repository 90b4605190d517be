//! The line by which a server says that it is up, and where.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A parsed `ready flight=grpc://… coordinator=grpc://… admin=http://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    fields: BTreeMap<String, String>,
}

impl Ready {
    /// Reads a line; `None` if it is not a `ready` line, or holds a word
    /// that is not `name=value`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        if words.next() != Some("ready") {
            return None;
        }
        let pair = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(Ready { fields: words.map(pair).collect::<Option<_>>()? })
    }

    /// The URL of a service: `flight`, `coordinator` or `admin`.
    pub fn url(&self, service: &str) -> Option<&str> {
        self.fields.get(service).map(String::as_str)
    }

    /// The socket address in the URL of a service.
    pub fn addr(&self, service: &str) -> Option<SocketAddr> {
        let (_, rest) = self.url(service)?.split_once("://")?;
        rest.split('/').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_services_and_their_addresses() {
        let line = "ready flight=grpc://127.0.0.1:8080 admin=http://[::1]:9/metrics";
        let ready = Ready::parse(line).unwrap();
        assert_eq!(ready.url("flight"), Some("grpc://127.0.0.1:8080"));
        assert_eq!(ready.addr("flight"), Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
        assert_eq!(ready.addr("admin").unwrap().port(), 9);
        assert_eq!(ready.url("coordinator"), None);
    }

    #[test]
    fn other_lines_are_not_ready() {
        for line in ["", "not ready", "readyflight=x", "ready at last", "INFO ready flight=x"] {
            assert_eq!(Ready::parse(line), None, "{line:?}");
        }
    }
}
