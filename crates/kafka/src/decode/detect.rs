//! Which format a stream has, by its first messages.

use super::Value;
use super::framing;
use super::registry::Registry;
use crate::format::Format;

/// The format of most of the first values, or the schema ids that must be
/// known to tell. A value that is not framed with a known schema is JSON if
/// it is a JSON object, else text if it is UTF-8, else bytes. One whose schema
/// was refused tells nothing, and where most are such there is no format yet:
/// the next values may tell.
pub(super) fn detect(
    values: &[Value<'_>],
    registry: &Registry,
    sample: usize,
) -> Result<Option<Format>, Vec<u32>> {
    let sample = &values[..values.len().min(sample.max(1))];
    let mut unknown: Vec<u32> = sample
        .iter()
        .filter_map(|value| framing::schema_id(value.bytes))
        .filter(|id| registry.lacks(*id))
        .collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        unknown.dedup();
        return Err(unknown);
    }
    // In the order in which they came, so that the first one wins a draw.
    let mut votes: Vec<(Format, usize)> = Vec::new();
    let mut silent = 0;
    for value in sample {
        let Some(format) = one(value.bytes, registry) else {
            silent += 1;
            continue;
        };
        match votes.iter_mut().find(|(voted, _)| *voted == format) {
            Some((_, count)) => *count += 1,
            None => votes.push((format, 1)),
        }
    }
    if silent > sample.len() / 2 {
        return Ok(None);
    }
    let most = votes.iter().map(|(_, count)| *count).max();
    let winner = votes.iter().find(|(_, count)| Some(*count) == most);
    Ok(winner.map(|(format, _)| *format))
}

fn one(bytes: &[u8], registry: &Registry) -> Option<Format> {
    if let Some(known) = framing::schema_id(bytes).and_then(|id| registry.get(id)) {
        return known.format();
    }
    Some(match std::str::from_utf8(bytes) {
        Err(_) => Format::Bytes,
        Ok(text) => {
            match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
                Ok(_) => Format::Json,
                Err(_) => Format::String,
            }
        }
    })
}
