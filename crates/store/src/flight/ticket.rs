//! Tickets of the namespace `batches`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sheaf_flight::invalid;
use sheaf_proto::BatchId;

use super::NAMESPACE;
use crate::options::ReadOptions;

const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'~');

/// Which payload to read, and which part of it.
///
/// As text: `batches/ID?columns=a,b&offset=10&limit=5` or
/// `batches/ID?from_message=3`. Each part of the query may be left out or
/// empty. Names are percent-encoded where they have other characters than
/// letters, digits and `-_.:~`; a comma in a column's name is `%2C`.
///
/// ```
/// use sheaf_store::Ticket;
///
/// let ticket: Ticket = "batches/orders:1?columns=id,net%2Cprice&limit=10".parse()?;
/// assert_eq!(ticket.id.as_str(), "orders:1");
/// assert_eq!(ticket.options.columns.as_deref().unwrap()[1], "net,price");
/// assert_eq!(ticket.to_string().parse::<Ticket>()?, ticket);
/// # Ok::<(), sheaf_flight::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The payload.
    pub id: BatchId,
    /// The part of it. The text does not say in which compression: a header
    /// of the call does.
    pub options: ReadOptions,
}

impl Ticket {
    /// All of a payload.
    pub fn whole(id: BatchId) -> Self {
        Ticket { id, options: ReadOptions::default() }
    }
}

impl FromStr for Ticket {
    type Err = sheaf_flight::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: String| invalid(format!("ticket {text:?}: {why}"));
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let id = path
            .strip_prefix(NAMESPACE)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| refuse("it is not of the form batches/ID".to_owned()))?;
        let id = BatchId::try_new(&decoded(id).map_err(&refuse)?)
            .map_err(|error| refuse(error.to_string()))?;
        let mut options = ReadOptions::default();
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| refuse(format!("{part:?} is not of the form name=value")))?;
            if seen.contains(&key) {
                return Err(refuse(format!("{key:?} is there twice")));
            }
            seen.push(key);
            if value.is_empty() && ["columns", "offset", "limit", "from_message"].contains(&key) {
                continue;
            }
            let number = || {
                value.parse::<u64>().map_err(|_| {
                    refuse(format!("{key} is {value:?}, not a number from 0 to {}", u64::MAX))
                })
            };
            match key {
                "columns" => {
                    let names = value.split(',').map(decoded).collect::<Result<_, _>>();
                    options.columns = Some(names.map_err(&refuse)?);
                }
                "offset" => options.offset = number()?,
                "limit" => options.limit = Some(number()?),
                "from_message" => options.from_message = number()?,
                _ => {
                    return Err(refuse(format!(
                        "{key:?} is none of columns, offset, limit, from_message"
                    )));
                }
            }
        }
        Ok(Ticket { id, options })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAMESPACE}/{}", self.id)?;
        let ReadOptions { columns, offset, limit, from_message, bodies: _ } = &self.options;
        let mut parts = Vec::new();
        if let Some(columns) = columns {
            let names: Vec<_> =
                columns.iter().map(|name| utf8_percent_encode(name, ENCODED).to_string()).collect();
            parts.push(format!("columns={}", names.join(",")));
        }
        if *offset > 0 {
            parts.push(format!("offset={offset}"));
        }
        if let Some(limit) = limit {
            parts.push(format!("limit={limit}"));
        }
        if *from_message > 0 {
            parts.push(format!("from_message={from_message}"));
        }
        if parts.is_empty() { Ok(()) } else { write!(f, "?{}", parts.join("&")) }
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_read_back_and_wrong_ones_say_why() {
        let all = "batches/a:b?columns=x,%C3%A4%26&offset=3&limit=0";
        let ticket: Ticket = all.parse().unwrap();
        assert_eq!(ticket.options.columns.as_deref(), Some(&["x".to_owned(), "ä&".to_owned()][..]));
        assert_eq!((ticket.options.offset, ticket.options.limit), (3, Some(0)));
        assert_eq!(ticket.to_string(), all);
        let blank = "batches/a?columns=&offset=&limit=&from_message=";
        assert_eq!(blank.parse::<Ticket>().unwrap().to_string(), "batches/a");
        for (wrong, why) in [
            ("topics/a", "batches/ID"),
            ("batches/", "1 to 200"),
            ("batches/a b", "letters"),
            ("batches/a?limit=-1", "\"-1\""),
            ("batches/a?rows=1", "none of"),
            ("batches/a?limit=1&limit=2", "twice"),
            ("batches/a?limit", "name=value"),
            ("batches/%ff", "UTF-8"),
        ] {
            let error = wrong.parse::<Ticket>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
