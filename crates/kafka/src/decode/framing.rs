//! The five bytes that a schema registry puts before a value.
//!
//! # Source
//! Confluent Schema Registry, "Wire format".

use std::borrow::Cow;

use super::Value;

/// A zero byte and the id in big-endian order.
pub(super) const HEADER_BYTES: usize = 5;

/// The id in the header of a value; none without a header.
pub(super) fn schema_id(value: &[u8]) -> Option<u32> {
    match value {
        [0, id @ ..] => id.first_chunk().map(|id| u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// Values whose format cannot begin with a zero byte, without their headers.
pub(super) fn without_header<'a, 'v>(values: &'a [Value<'v>]) -> Cow<'a, [Value<'v>]> {
    let framed = |value: &Value<'_>| schema_id(value.bytes).is_some();
    if !values.iter().any(framed) {
        return values.into();
    }
    let strip = |value: &Value<'v>| {
        let start = if framed(value) { HEADER_BYTES } else { 0 };
        Value { index: value.index, bytes: &value.bytes[start..] }
    };
    values.iter().map(strip).collect()
}
