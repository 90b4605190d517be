//! What goes over the wire besides Arrow: tickets and metadata of messages.

pub(super) mod fragments;
pub(super) mod talk;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_flight::Message;

use super::engine::{Item, MAX_WAIT, ReadOptions};
use super::error::Error;
use super::key::{PartitionKey, Sender, Totals};
use fragments::Part;

/// First element of the paths and tickets of partitions.
pub const NAMESPACE: &str = "shuffle";

/// Largest message that the namespace takes, in bytes. A larger chunk, which is one
/// row or one dictionary, comes in fragments; it is read as one message.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// Header of a put: which of the senders, from 0.
pub const SENDER: &str = "sheaf-shuffle-sender";
/// Header of a put: the attempt of the sender.
pub const ATTEMPT: &str = "sheaf-shuffle-attempt";
/// Header of a put: how many senders the partition has.
pub const SENDERS: &str = "sheaf-shuffle-senders";
/// Header of a put: `crc32c` (the default) where each chunk has its checksum,
/// `none` for clients that cannot compute it.
pub const CHECKSUMS: &str = "sheaf-shuffle-checksums";

/// A put's call headers.
pub(super) fn headers(sender: Sender) -> [(&'static str, String); 3] {
    let Sender { index, attempt, senders } = sender;
    [(SENDER, index.to_string()), (ATTEMPT, attempt.to_string()), (SENDERS, senders.to_string())]
}

/// What a message of a put says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Part>,
}

/// The message with which a sender ends: metadata only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    pub(super) commit: Totals,
}

/// The answer to a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAnswer {
    /// The chunk that is next.
    pub next_sequence: u64,
    /// Whether the attempt has committed.
    pub committed: bool,
}

/// What a message of a get says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) sequence: u64,
    pub(super) sender: u32,
    pub(super) crc32c: String,
}

/// What the schema message of a get says about the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) incarnation: u64,
}

/// The schema message of a get.
pub(super) fn schema(message: Message, incarnation: u64) -> Result<Message, Error> {
    Ok(Message { app_metadata: json(&Begun { incarnation })?, ..message })
}

/// The last message of a get: metadata only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Last {
    /// All there is.
    End(Totals),
    /// More is to be asked for from this chunk on.
    More { next_sequence: u64 },
}

pub(super) fn json(value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::Protocol(format!("metadata cannot be written: {error}")))?;
    Ok(Bytes::from(bytes))
}

pub(super) fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| {
        let shown = String::from_utf8_lossy(&json[..json.len().min(200)]);
        Error::Protocol(format!("{what}: {error} in {shown:?}"))
    })
}

/// A checksum as it is written.
pub(super) fn hexadecimal(crc: u32) -> String {
    format!("{crc:08x}")
}

pub(super) fn read_hexadecimal(sequence: u64, text: &str) -> Result<u32, Error> {
    let crc = (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok()).flatten();
    crc.ok_or_else(|| {
        let text = format!("chunk {sequence}: crc32c {text:?} is not eight hexadecimal digits");
        Error::Protocol(text)
    })
}

/// What a reader gives, as a message of a get.
pub(super) fn message(item: Item) -> Result<Message, Error> {
    let alone = |last| Ok(Message { app_metadata: json(&last)?, ..Message::default() });
    match item {
        Item::Chunk { sequence, sender, crc, message, .. } => {
            let given = Given { sequence, sender, crc32c: hexadecimal(crc) };
            Ok(Message { app_metadata: json(&given)?, ..message })
        }
        Item::More(next_sequence) => alone(Last::More { next_sequence }),
        Item::End(totals) => alone(Last::End(totals)),
    }
}

/// Which partition to read, and how.
///
/// As text: `shuffle/QUERY/STAGE/PARTITION?from_sequence=3&pipelined=true&consume=true&max_bytes=16777216&incarnation=4&wait_ms=5000`,
/// each part of the query may be left out.
///
/// ```
/// use sheaf_exchange::shuffle::ShuffleTicket;
///
/// let ticket: ShuffleTicket = "shuffle/q7/2/11?pipelined=true&from_sequence=3".parse()?;
/// assert_eq!((ticket.key.partition(), ticket.options.from_sequence), (11, 3));
/// assert_eq!(ticket.to_string().parse::<ShuffleTicket>()?, ticket);
/// # Ok::<(), sheaf_exchange::shuffle::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShuffleTicket {
    /// The partition.
    pub key: PartitionKey,
    /// How it is read.
    pub options: ReadOptions,
}

impl fmt::Display for ShuffleTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadOptions { from_sequence, pipelined, consume, max_bytes, incarnation, wait } =
            self.options;
        let number = |name: &str, value: u64| (value > 0).then(|| format!("{name}={value}"));
        let flag = |name: &str, value: bool| value.then(|| format!("{name}=true"));
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let parts = [
            number("from_sequence", from_sequence),
            flag("pipelined", pipelined),
            flag("consume", consume),
            number("max_bytes", max_bytes),
            number("incarnation", incarnation),
            number("wait_ms", wait_ms),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        write!(f, "{NAMESPACE}/{}", self.key)?;
        if parts.is_empty() { Ok(()) } else { write!(f, "?{}", parts.join("&")) }
    }
}

impl FromStr for ShuffleTicket {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::Ticket { ticket: text.chars().take(300).collect(), why };
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path: Vec<&str> = path.split('/').collect();
        if path.first() != Some(&NAMESPACE) {
            return Err(refuse("it does not begin with shuffle/".to_owned()));
        }
        let key = key_of(&path[1..]).map_err(|error| refuse(error.to_string()))?;
        let mut options = ReadOptions::default();
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| refuse(format!("{part:?} is not of the form name=value")))?;
            if seen.contains(&name) {
                return Err(refuse(format!("{name:?} is there twice")));
            }
            seen.push(name);
            if value.is_empty() && NAMES.contains(&name) {
                continue;
            }
            let number = || {
                value.parse::<u64>().map_err(|_| refuse(format!("{name} is {value:?}, no number")))
            };
            let flag = || match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(refuse(format!("{name} is {value:?}, not true or false"))),
            };
            match name {
                "from_sequence" => options.from_sequence = number()?,
                "pipelined" => options.pipelined = flag()?,
                "consume" => options.consume = flag()?,
                "max_bytes" => options.max_bytes = number()?,
                "incarnation" => options.incarnation = number()?,
                "wait_ms" => options.wait = Duration::from_millis(number()?),
                _ => return Err(refuse(format!("{name:?} is none of {}", NAMES.join(", ")))),
            }
        }
        if options.wait > MAX_WAIT {
            let limit = MAX_WAIT.as_millis();
            return Err(refuse(format!("wait_ms is over the limit of {limit}")));
        }
        Ok(ShuffleTicket { key, options })
    }
}

const NAMES: [&str; 6] =
    ["from_sequence", "pipelined", "consume", "max_bytes", "incarnation", "wait_ms"];

/// The key in `QUERY`, `STAGE`, `PARTITION`.
pub(super) fn key_of<T: AsRef<str>>(path: &[T]) -> Result<PartitionKey, Error> {
    let parts: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let [query, stage, partition] = parts[..] else {
        let text = format!("a partition is named by QUERY, STAGE and PARTITION, not by {parts:?}");
        return Err(Error::Path(text));
    };
    let number = |what: &str, text: &str| {
        text.parse::<u32>().map_err(|_| {
            Error::Path(format!("{what} {text:?} is not a number from 0 to {}", u32::MAX))
        })
    };
    PartitionKey::try_new(query, number("stage", stage)?, number("partition", partition)?)
}

/// The query and the stage in `QUERY`, `STAGE`.
pub(super) fn stage_of<T: AsRef<str>>(path: &[T]) -> Result<(String, u32), Error> {
    let parts: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let [query, stage] = parts[..] else {
        let text = format!("a conversation is about a QUERY and a STAGE, not about {parts:?}");
        return Err(Error::Path(text));
    };
    let key = key_of(&[query, stage, "0"])?;
    Ok((query.to_owned(), key.stage()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_read_back_and_wrong_ones_say_why() {
        let all = "shuffle/q/1/2?from_sequence=3&pipelined=true&consume=true&max_bytes=9&incarnation=4&wait_ms=7";
        let ticket: ShuffleTicket = all.parse().unwrap();
        let wait = Duration::from_millis(7);
        let options = ReadOptions {
            from_sequence: 3,
            pipelined: true,
            consume: true,
            max_bytes: 9,
            incarnation: 4,
            wait,
        };
        assert_eq!((ticket.key.to_string().as_str(), ticket.options), ("q/1/2", options));
        assert_eq!(ticket.to_string(), all);
        let blank = "shuffle/q/1/2?from_sequence=&pipelined=";
        assert_eq!(blank.parse::<ShuffleTicket>().unwrap().to_string(), "shuffle/q/1/2");
        for (wrong, why) in [
            ("batches/a", "shuffle/"),
            ("shuffle/q/1", "QUERY"),
            ("shuffle/q/1/2/3", "QUERY"),
            ("shuffle/a b/1/2", "letters"),
            ("shuffle/q/-1/2", "\"-1\""),
            ("shuffle/q/1/2?rows=1", "none of"),
            ("shuffle/q/1/2?pipelined=1", "true or false"),
            ("shuffle/q/1/2?max_bytes=1&max_bytes=2", "twice"),
            ("shuffle/q/1/2?max_bytes", "name=value"),
            ("shuffle/q/1/2?wait_ms=600001", "limit"),
        ] {
            let error = wrong.parse::<ShuffleTicket>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
