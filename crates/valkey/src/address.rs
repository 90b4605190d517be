//! Addresses of Valkey: one server, Sentinels, or a Cluster.

use fred::prelude::{Config as FredConfig, ServerConfig};
use sheaf_coordinator::Error;

/// Where Valkey is, as people write it.
///
/// | form | topology |
/// |---|---|
/// | `HOST`, `HOST:PORT` | one server |
/// | `valkey://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` | one server (`redis://` too) |
/// | `valkeys://…` | the same over TLS (`rediss://` too) |
/// | `valkey-sentinel://HOST[:PORT]?node=HOST:PORT&sentinelServiceName=NAME` | the primary that Sentinels name |
/// | `valkey-cluster://HOST[:PORT]?node=HOST:PORT` | a Cluster |
///
/// `valkeys-sentinel` and `valkeys-cluster` use TLS; `redis` stands wherever
/// `valkey` does. The password is not shown by `Debug`.
#[derive(Clone, PartialEq)]
pub struct Address {
    config: FredConfig,
    shown: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

impl std::fmt::Display for Address {
    /// Without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

const SCHEMES: &str = "write HOST:PORT, or a URL that begins with valkey://, valkeys:// (TLS), \
                       valkey-sentinel:// or valkey-cluster://";

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// `Invalid`, with what is allowed; the text itself is not repeated where
    /// it could hold a password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |problem: String| Error::Invalid { field: "valkey-addr", problem };
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("valkey".to_owned(), text),
        };
        let (kind, suffix) = scheme.split_once('-').map_or((scheme.as_str(), ""), |parts| parts);
        let known = matches!(kind, "valkey" | "valkeys" | "redis" | "rediss")
            && matches!(suffix, "" | "sentinel" | "cluster");
        if !known {
            return Err(invalid(format!("{scheme:?} is no scheme of Valkey: {SCHEMES}")));
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.is_empty() || host.starts_with(':') {
            return Err(invalid(format!("names no host: {SCHEMES}")));
        }
        if suffix == "sentinel" && !rest.contains("sentinelServiceName=") {
            let problem = "names no primary: add ?sentinelServiceName=NAME, such as mymaster";
            return Err(invalid(problem.to_owned()));
        }
        let config = FredConfig::from_url(&format!("{scheme}://{rest}"))
            .map_err(|error| invalid(format!("{}: {SCHEMES}", error.details())))?;
        let shown = shown(&scheme, host, &config);
        Ok(Address { config, shown })
    }

    /// Whether the connection is encrypted.
    pub fn uses_tls(&self) -> bool {
        self.config.uses_rustls()
    }

    /// The number of its database.
    pub(crate) fn database(&self) -> u8 {
        self.config.database.unwrap_or(0)
    }

    pub(crate) fn config(&self) -> &FredConfig {
        &self.config
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.config.server.is_clustered()
    }
}

fn shown(scheme: &str, host: &str, config: &FredConfig) -> String {
    let others: Vec<String> = config
        .server
        .hosts()
        .iter()
        .map(|server| format!("{}:{}", server.host, server.port))
        .collect();
    match &config.server {
        ServerConfig::Sentinel { service_name, .. } => {
            format!("{scheme}://{} for {service_name}", others.join(","))
        }
        ServerConfig::Clustered { .. } => format!("{scheme}://{}", others.join(",")),
        _ => format!("{scheme}://{}", others.first().map_or(host, String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_has_a_form_and_passwords_are_not_shown() {
        for (text, expected) in [
            ("localhost", "valkey://localhost:6379"),
            ("10.0.0.1:7000", "valkey://10.0.0.1:7000"),
            ("[::1]:7000", "valkey://[::1]:7000"),
            ("redis://u:p%40ss@h:1/2", "redis://h:1"),
            ("valkeys://:secret@h", "valkeys://h:6379"),
            ("valkey-cluster://a:1?node=b:2", "valkey-cluster://b:2,a:1"),
            (
                "valkey-sentinel://a:1?node=b:2&sentinelServiceName=main",
                "valkey-sentinel://b:2,a:1 for main",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), expected, "{text}");
            assert!(!format!("{address:?}").contains("secret"));
        }
        assert!(Address::parse("valkeys://h").unwrap().uses_tls());
        assert_eq!(
            Address::parse("redis://u:p%40ss@h").unwrap().config().password.as_deref(),
            Some("p@ss")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "names no host"),
            (":6379", "names no host"),
            ("http://h", "\"http\" is no scheme"),
            ("valkey://h:port", "write HOST:PORT"),
            ("valkey-sentinel://h", "sentinelServiceName=NAME"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
