//! The forms of texts: each a pattern for editors, and what it means in words.
//!
//! The patterns stand in the schema; the functions say the same and are what
//! `sheafctl` uses. Tests hold the two together.

/// Identifiers of components and names of pipelines.
pub(crate) const IDENTIFIER: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
/// Names of environment variables and of tables.
pub(crate) const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// Addresses of brokers.
pub(crate) const HOST_PORT: &str = r"^[^:/\s]+:[0-9]{1,5}$";
/// Addresses of web servers.
pub(crate) const WEB_ADDRESS: &str = r"^https?://[^\s]+$";
/// Addresses of Flight servers.
pub(crate) const FLIGHT_ADDRESS: &str = r"^grpc(\+tls)?://[^/\s]+$";
/// Places in a JSON document.
pub(crate) const JSON_POINTER: &str = "^(/[^/]*)*$";
/// Paths of a URL.
pub(crate) const URL_PATH: &str = "^/";

/// What a text has to be.
pub(crate) struct Form {
    pub(crate) pattern: &'static str,
    /// Follows `expected`.
    pub(crate) words: &'static str,
    pub(crate) accepts: fn(&str) -> bool,
}

/// Every form.
pub(crate) const FORMS: [Form; 7] = [
    Form {
        pattern: IDENTIFIER,
        words: "lower-case letters, digits and hyphens, with a letter or digit at both ends",
        accepts: |text| {
            let ends = !text.starts_with('-') && !text.ends_with('-');
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !text.is_empty() && ends && text.bytes().all(inner)
        },
    },
    Form {
        pattern: VARIABLE,
        words: "letters, digits and underscores, with no digit at the beginning",
        accepts: |text| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            text.bytes().all(inner) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        },
    },
    Form {
        pattern: HOST_PORT,
        words: "HOST:PORT, such as localhost:9092",
        accepts: |text| {
            text.split_once(':').is_some_and(|(host, port)| {
                let digits =
                    (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
                let plain = |c: char| c == '/' || c.is_whitespace();
                !host.is_empty() && !host.contains(plain) && digits
            })
        },
    },
    Form {
        pattern: WEB_ADDRESS,
        words: "an address that begins with http:// or https://",
        accepts: |text| {
            let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
        },
    },
    Form {
        pattern: FLIGHT_ADDRESS,
        words: "grpc://HOST:PORT or grpc+tls://HOST:PORT",
        accepts: |text| {
            let rest = text.strip_prefix("grpc://").or_else(|| text.strip_prefix("grpc+tls://"));
            let wrong = |c: char| c == '/' || c.is_whitespace();
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(wrong))
        },
    },
    Form {
        pattern: JSON_POINTER,
        words: "a JSON pointer, such as /data/items",
        accepts: |text| text.is_empty() || text.starts_with('/'),
    },
    Form {
        pattern: URL_PATH,
        words: "a path that begins with a slash",
        accepts: |text| text.starts_with('/'),
    },
];

/// The form with this pattern.
pub(crate) fn form(pattern: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.pattern == pattern)
}
