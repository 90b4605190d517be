//! What values of flags mean.

use sheaf_kafka::{From, WhenFull};
use sheaf_terminal::parse_rfc3339;

/// Where a group begins.
pub(super) fn begin(text: &str) -> Result<From, String> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        time => {
            let time = parse_rfc3339(time).map_err(|_| {
                format!(
                    "--start is {time:?}: earliest, latest, or a time such as 2026-11-29T12:00:00Z"
                )
            })?;
            Ok(From::Time(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
        }
    }
}

/// What happens when there is no room.
pub(super) fn when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "block" => Ok(WhenFull::Block),
        "drop-oldest" => Ok(WhenFull::DropOldest),
        _ => Err("write block or drop-oldest".to_owned()),
    }
}

/// The beginning of the names of metrics.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !text.is_empty() && text.chars().all(is_word) {
        true => Ok(text.to_owned()),
        false => Err("write letters, digits and _".to_owned()),
    }
}

/// Properties that nobody may set, and why.
const OURS: [(&str, &str); 7] = [
    ("metadata.broker.list", "is what --brokers says"),
    ("bootstrap.servers", "is what --brokers says"),
    ("group.id", "is what --group says"),
    ("auto.offset.reset", "stays: where a group begins, --start says"),
    ("enable.auto.commit", "stays off: offsets are committed when their rows are safe"),
    ("enable.auto.offset.store", "stays off: offsets are committed when their rows are safe"),
    ("enable.partition.eof", "stays off: the end of a partition is no message"),
];

/// A property of librdkafka.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let name = name.trim();
    if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Err(format!("{name} {why}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
