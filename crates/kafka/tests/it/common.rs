//! Builds messages and looks at what comes of them.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch};
use sheaf_kafka::{Decoded, DecodedBatch, Decoder, DecoderOptions, Format, Messages};

/// As many as a consumer hands over at once.
pub(crate) const MANY: usize = 8_192;

/// Messages with these values, their positions as offsets, and keys.
pub(crate) fn messages<V: AsRef<[u8]>>(values: impl IntoIterator<Item = Option<V>>) -> Messages {
    let mut messages = Messages::default();
    for (offset, value) in (0i64..).zip(values) {
        let key = offset.to_string();
        let value = value.as_ref().map(AsRef::as_ref);
        messages.push(offset, Some(1_000 + offset), Some(key.as_bytes()), value, []);
    }
    messages
}

pub(crate) fn of(format: Format) -> Decoder {
    let options = DecoderOptions { format, ..DecoderOptions::default() };
    Decoder::try_new("topic", options).unwrap()
}

pub(crate) fn decode(decoder: &mut Decoder, messages: &Messages) -> DecodedBatch {
    match decoder.decode(3, messages).unwrap() {
        Decoded::Batch(decoded) => decoded,
        Decoded::Unknown(ids) => panic!("{ids:?} are unknown"),
    }
}

/// The batch of texts in JSON or another text format.
pub(crate) fn texts(decoder: &mut Decoder, values: &[&str]) -> DecodedBatch {
    decode(decoder, &messages(values.iter().map(Some)))
}

/// The columns of the messages themselves.
pub(crate) fn own(batch: &RecordBatch) -> Vec<ArrayRef> {
    batch.columns()[..batch.num_columns() - 6].to_vec()
}

pub(crate) fn offsets(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

pub(crate) fn column(batch: &RecordBatch, name: &str) -> ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("{:?}", batch.schema())).clone()
}

/// Each poison among 8,191 good messages costs itself and nothing else,
/// wherever it lies, and the next batch as well.
pub(crate) fn costs_one_row(
    decoder: impl Fn() -> Decoder,
    good: impl Fn(usize) -> Vec<u8>,
    poisons: &[(&[u8], &str)],
) {
    let good: Vec<Vec<u8>> = (0..MANY).map(good).collect();
    let places = [0, MANY / 2, MANY - 1, 1_000];
    let expected = places.map(|at| {
        let without = good.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, v)| Some(v));
        own(&decode(&mut decoder(), &messages(without)).batch.unwrap())
    });
    for (number, (poison, problem)) in poisons.iter().enumerate() {
        let (at, expected) = (places[number % 4], &expected[number % 4]);
        let poisoned = messages(
            good.iter().enumerate().map(|(i, v)| Some(if i == at { *poison } else { &v[..] })),
        );
        let mut decoder = decoder();
        for round in 0..2 {
            let what = format!("{:?} at {at}, round {round}", String::from_utf8_lossy(poison));
            let decoded = decode(&mut decoder, &poisoned);
            let rejected: Vec<_> = decoded.rejected.iter().map(|r| r.index).collect();
            assert_eq!(rejected.len(), 1, "{what}: {:?}", decoded.rejected.first());
            assert_eq!(rejected, [at], "{what}");
            let error = &decoded.rejected[0].error;
            assert!(error.contains(problem), "{what}: {error}");
            let batch = decoded.batch.unwrap();
            assert_eq!(batch.num_rows(), MANY - 1, "{what}");
            assert_eq!(own(&batch), *expected, "{what}");
            assert!(offsets(&batch).iter().all(|offset| *offset != at as i64), "{what}");
            assert!(offsets(&batch).is_sorted(), "{what}");
        }
        if number == 0 {
            let clean = decode(&mut decoder, &messages(good.iter().map(Some)));
            assert!(clean.rejected.is_empty());
            assert_eq!(clean.batch.unwrap().num_rows(), MANY);
        }
    }
}

/// Seven bits to a byte, the low ones first.
pub(crate) fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}
