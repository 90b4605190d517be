//! What the control plane reads: its records, and registrations. What is read is
//! written again as it was, what is refused changes nothing, and the registry
//! goes on.

use sheaf_pipeline::fuzzing;

/// What both are made of, besides protobuf.
pub(crate) const WORDS: &[&str] =
    &["orders:read", "orders", "grpc://127.0.0.1:", "localhost:8088", "the token of the place"];

/// The rest is a record; anything else is a registration.
const RECORD: u8 = 0;

/// All kinds of records, and a registration.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, rest: Vec<u8>| [vec![kind], rest].concat();
    let records = fuzzing::records().into_iter().map(|record| with(RECORD, record));
    records.chain([with(1, fuzzing::request())]).collect()
}

/// Reads one of them.
pub(crate) fn run(data: &[u8]) -> bool {
    match data.split_first() {
        None => false,
        Some((&RECORD, record)) => fuzzing::stored(record),
        Some((_, request)) => fuzzing::registered(request),
    }
}
