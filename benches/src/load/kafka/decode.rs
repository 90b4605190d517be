//! The decoder alone, on values that a file has.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sheaf_kafka::{Decoded, Decoder, DecoderOptions, RegisteredKind, RegisteredSchema};

use super::{Format, Values, rows};
use crate::error::{Error, Result};
use crate::process::cpu_seconds;

/// How long is measured at least.
const LEAST: Duration = Duration::from_millis(1_000);

/// Writes values, each after its length in four bytes, the lowest first.
pub(super) fn write(path: &Path, values: &Values, count: u64) -> Result<()> {
    let failed = || format!("write {}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(Error::io(failed()))?);
    let (mut value, mut bytes) = (Vec::new(), 0);
    for id in 0..count {
        value.clear();
        rows::value(&mut value, values, id);
        bytes += value.len();
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes();
        file.write_all(&length).map_err(Error::io(failed()))?;
        file.write_all(&value).map_err(Error::io(failed()))?;
    }
    file.flush().map_err(Error::io(failed()))?;
    println!("{}", json!({ "messages": count, "bytes": bytes }));
    Ok(())
}

/// Decodes all of them, `batch` at once, again and again for a second.
pub(super) fn run(path: &Path, values: &Values, batch: usize) -> Result<()> {
    let batches = batches(path, batch)?;
    let mut decoder = decoder(values)?;
    // Once before: the first batch makes the columns.
    pass(&mut decoder, &batches)?;
    let own = [std::process::id().to_string()];
    let (start, before) = (Instant::now(), cpu_seconds(&own)?);
    let mut count = 0;
    while start.elapsed() < LEAST {
        count += pass(&mut decoder, &batches)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(&own)? - before;
    println!("{}", json!({ "messages": count, "seconds": seconds, "cpu_seconds": cpu }));
    Ok(())
}

fn batches(path: &Path, batch: usize) -> Result<Vec<sheaf_kafka::Messages>> {
    let bytes = fs::read(path).map_err(Error::io(format!("read {}", path.display())))?;
    let cut = || Error::Message(format!("{} ends within a value", path.display()));
    let mut batches: Vec<sheaf_kafka::Messages> = Vec::new();
    let (mut rest, mut offset) = (&bytes[..], 0);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (value, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
        rest = behind;
        if batches.last().is_none_or(|last| last.len() >= batch) {
            batches.push(sheaf_kafka::Messages::default());
        }
        if let Some(last) = batches.last_mut() {
            last.push(offset, Some(0), Some(b"key"), Some(value), []);
        }
        offset += 1;
    }
    if rest.is_empty() { Ok(batches) } else { Err(cut()) }
}

fn decoder(values: &Values) -> Result<Decoder> {
    let (format, kind) = match values.format {
        Format::Json => (sheaf_kafka::Format::Json, None),
        Format::Avro => (sheaf_kafka::Format::Avro, Some(RegisteredKind::Avro)),
        Format::Protobuf => (sheaf_kafka::Format::Protobuf, Some(RegisteredKind::Protobuf)),
    };
    let options = DecoderOptions { format, ..DecoderOptions::default() };
    let mut decoder = Decoder::try_new("events", options)?;
    if let (Some(kind), Some(text)) = (kind, rows::schema(values.format, values.bytes)) {
        let schema = RegisteredSchema { kind, text, references: Vec::new() };
        decoder.learn(values.schema_id, &schema);
    }
    Ok(decoder)
}

/// Rows of all batches.
fn pass(decoder: &mut Decoder, batches: &[sheaf_kafka::Messages]) -> Result<usize> {
    let mut rows = 0;
    for messages in batches {
        match decoder.decode(0, messages)? {
            Decoded::Batch(decoded) if decoded.rejected.is_empty() => {
                rows += black_box(&decoded).batch.as_ref().map_or(0, |batch| batch.num_rows());
            }
            Decoded::Batch(decoded) => {
                return Err(Error::Message(format!("rejected: {:?}", decoded.rejected)));
            }
            Decoded::Unknown(ids) => {
                return Err(Error::Message(format!("the values name schemas {ids:?}")));
            }
        }
    }
    Ok(rows)
}
