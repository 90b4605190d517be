//! Tickets of the namespace `topics`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sheaf_flight::invalid;

use crate::error::Error;
use crate::filter::Filter;
use crate::stream::{Selection, Start};

/// First element of the paths and tickets of topics.
pub const NAMESPACE: &str = "topics";

const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'~');

/// What to read of a topic.
///
/// As text `topics/T?partition=3&from=1200&follow=true&columns=a,b&where=…&limit=10`,
/// where each part of the query may be left out or empty. `from` is an offset, a time in
/// RFC 3339, `oldest` or `newest`; `where` is a [`Filter`]. Names and values are
/// percent-encoded where they have other characters than letters, digits and
/// `-_.:~`; a comma in a column's name is `%2C`.
///
/// ```
/// use sheaf_kafka::{Start, Ticket};
///
/// let ticket: Ticket = "topics/logs?from=1200&follow=true&where=level%20%3D%20%27warn%27".parse()?;
/// assert_eq!(ticket.selection.start, Start::Offset(1_200));
/// assert_eq!(ticket.to_string().parse::<Ticket>()?, ticket);
/// # Ok::<(), sheaf_flight::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The topic.
    pub topic: String,
    /// Which rows, by their place.
    pub selection: Selection,
    /// The columns to read, in this order; `None` is all.
    pub columns: Option<Vec<String>>,
    /// Which rows, by what they are, as it was written.
    pub filter: Option<(String, Filter)>,
    /// Rows at most.
    pub limit: Option<u64>,
}

impl Ticket {
    /// All that is there of a topic.
    pub fn whole(topic: impl Into<String>) -> Self {
        let selection = Selection::default();
        Ticket { topic: topic.into(), selection, columns: None, filter: None, limit: None }
    }

    /// Only one partition of it.
    #[must_use]
    pub fn of_partition(mut self, partition: i32) -> Self {
        self.selection.partition = Some(partition);
        self
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "partition" => {
                let number = value.parse::<i32>().ok().filter(|number| *number >= 0);
                let number = number.ok_or_else(|| format!("partition is {value:?}, no number"))?;
                self.selection.partition = Some(number);
            }
            "from" => {
                let start = decoded(value)?.parse::<Start>();
                self.selection.start = start.map_err(|error| error.to_string())?;
            }
            "follow" => {
                self.selection.follow = value
                    .parse()
                    .map_err(|_| format!("follow is {value:?}, neither true nor false"))?;
            }
            "columns" => {
                self.columns = Some(value.split(',').map(decoded).collect::<Result<_, _>>()?);
            }
            "where" => {
                let text = decoded(value)?;
                let filter = text.parse::<Filter>().map_err(|error| error.to_string())?;
                self.filter = Some((text, filter));
            }
            "limit" => {
                let limit = value.parse();
                self.limit = Some(limit.map_err(|_| format!("limit is {value:?}, no number"))?);
            }
            _ => {
                return Err(format!(
                    "{key:?} is none of partition, from, follow, columns, where, limit"
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for Start {
    type Err = Error;

    /// A place in a stream as people write it: an offset, a time in RFC 3339,
    /// `oldest` or `newest`; or `~N` as an error has named it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "oldest" => return Ok(Start::Oldest),
            "newest" => return Ok(Start::Newest),
            _ => {}
        }
        if let Some(place) = text.strip_prefix('~') {
            let place =
                place.parse().map_err(|_| Error::Invalid(format!("{text:?} is no place")))?;
            return Ok(Start::Place(place));
        }
        if let Ok(offset) = text.parse::<i64>() {
            let why = || Error::Invalid(format!("offset {offset} is below 0"));
            return (offset >= 0).then_some(Start::Offset(offset)).ok_or_else(why);
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
            let known = "no offset, no time such as 2026-11-29T12:00:00Z, oldest or newest";
            Error::Invalid(format!("{text:?} is {known}"))
        })?;
        Ok(Start::Time(time.timestamp_millis()))
    }
}

impl FromStr for Ticket {
    type Err = sheaf_flight::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: String| invalid(format!("ticket {text:?}: {why}"));
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let topic = path.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('/'));
        let topic = topic.filter(|topic| !topic.is_empty() && !topic.contains('/'));
        let topic = topic.ok_or_else(|| refuse("it is not of the form topics/T".to_owned()))?;
        let mut ticket = Ticket::whole(decoded(topic).map_err(&refuse)?);
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| refuse(format!("{part:?} is not of the form name=value")))?;
            if seen.contains(&key) {
                return Err(refuse(format!("{key:?} is there twice")));
            }
            seen.push(key);
            if !value.is_empty() {
                ticket.set(key, value).map_err(&refuse)?;
            }
        }
        Ok(ticket)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        write!(f, "{NAMESPACE}/{}", encoded(&self.topic))?;
        let mut parts = Vec::new();
        let Selection { partition, start, follow } = self.selection;
        if let Some(partition) = partition {
            parts.push(format!("partition={partition}"));
        }
        match start {
            Start::Oldest => {}
            Start::Newest => parts.push("from=newest".to_owned()),
            Start::Place(place) => parts.push(format!("from=~{place}")),
            Start::Offset(offset) => parts.push(format!("from={offset}")),
            Start::Time(millis) => {
                let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
                let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
                parts.push(format!("from={}", encoded(&time)));
            }
        }
        if follow {
            parts.push("follow=true".to_owned());
        }
        if let Some(columns) = &self.columns {
            let names: Vec<_> = columns.iter().map(|name| encoded(name)).collect();
            parts.push(format!("columns={}", names.join(",")));
        }
        if let Some((text, _)) = &self.filter {
            parts.push(format!("where={}", encoded(text)));
        }
        if let Some(limit) = self.limit {
            parts.push(format!("limit={limit}"));
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
        let all = "topics/a.b-c?partition=3&from=2026-11-29T12%3A00%3A00Z&follow=true\
                   &columns=x,%C3%A4%26&where=n%20%3E%201&limit=7";
        let ticket: Ticket = all.parse().unwrap();
        assert_eq!(ticket.columns.as_deref(), Some(&["x".to_owned(), "ä&".to_owned()][..]));
        assert!(matches!(ticket.selection.start, Start::Time(1_795_953_600_000)), "{ticket:?}");
        assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
        let blank = "topics/a?columns=&from=&where=&limit=";
        assert_eq!(blank.parse::<Ticket>().unwrap(), Ticket::whole("a"));
        for (wrong, why) in [
            ("batches/a", "topics/T"),
            ("topics/", "topics/T"),
            ("topics/a/b", "topics/T"),
            ("topics/a?partition=-1", "-1"),
            ("topics/a?from=-1", "below 0"),
            ("topics/a?from=soon", "soon"),
            ("topics/a?follow=yes", "yes"),
            ("topics/a?where=n%20%3D", "a constant"),
            ("topics/a?rows=1", "none of"),
            ("topics/a?limit=1&limit=2", "twice"),
            ("topics/a?limit", "name=value"),
            ("topics/%ff", "UTF-8"),
        ] {
            let error = wrong.parse::<Ticket>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
