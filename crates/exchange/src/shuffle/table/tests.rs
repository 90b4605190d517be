//! Each invariant of the table by itself.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use sheaf_flight::ipc::{Compression, Encoder};
use sheaf_flight::{Budget, Message};
use sheaf_retry::{Code, Retryable as _};

use super::super::chunk::crc32c_of;
use super::*;

/// The stream of one sender: its rows in batches of so many, and its text as a
/// dictionary where that is wanted.
pub(super) fn stream(sender: u32, rows: usize, step: usize, dictionary: bool) -> Vec<Message> {
    let names = |from: usize| {
        (from..rows.min(from + step)).map(move |row| format!("{sender}-{row}")).collect::<Vec<_>>()
    };
    let batch = |from: usize| {
        let names = names(from);
        let column: ArrayRef = if dictionary {
            Arc::new(DictionaryArray::<Int32Type>::from_iter(names.iter().map(String::as_str)))
        } else {
            Arc::new(StringArray::from(names))
        };
        RecordBatch::try_from_iter([("name", column)]).unwrap()
    };
    let (mut encoder, schema) = Encoder::try_new(batch(0).schema(), Compression::None).unwrap();
    let batches = (0..rows).step_by(step).map(batch);
    let chunks = batches.flat_map(|batch| encoder.encode(&batch).unwrap());
    std::iter::once(schema).chain(chunks.collect::<Vec<_>>()).collect()
}

pub(super) fn key() -> PartitionKey {
    PartitionKey::try_new("q", 1, 7).unwrap()
}

pub(super) fn table() -> Table {
    Table::new(Budget::new(64 << 20), 1)
}

fn by(index: u32, attempt: u64, senders: u32) -> Sender {
    Sender { index, attempt, senders }
}

fn push(
    table: &mut Table,
    sender: Sender,
    sequence: u64,
    message: &Message,
) -> Result<bool, Error> {
    table.push(&key(), sender, sequence, crc32c_of(message), message.clone())
}

/// Sends chunks without committing.
fn send(table: &mut Table, sender: Sender, messages: &[Message]) {
    table.begin(&key(), sender, &messages[0]).unwrap();
    for (sequence, message) in messages[1..].iter().enumerate() {
        assert!(push(table, sender, sequence as u64, message).unwrap());
    }
}

fn totals(messages: &[Message]) -> Totals {
    let rows = messages[1..].iter().map(|one| sheaf_flight::ipc::inspect(&one.header).unwrap());
    let rows = rows.filter(|one| one.kind == sheaf_flight::ipc::Kind::RecordBatch);
    Totals { chunks: messages.len() as u64 - 1, rows: rows.map(|one| one.rows).sum() }
}

fn send_all(table: &mut Table, sender: Sender, messages: &[Message]) {
    send(table, sender, messages);
    table.commit(&key(), sender, totals(messages)).unwrap();
}

/// Sends to any partition, as its only sender.
pub(super) fn send_all_to(table: &mut Table, key: &PartitionKey, messages: &[Message]) {
    table.begin(key, Sender::only(), &messages[0]).unwrap();
    for (sequence, message) in messages[1..].iter().enumerate() {
        let (sequence, crc) = (sequence as u64, crc32c_of(message));
        assert!(table.push(key, Sender::only(), sequence, crc, message.clone()).unwrap());
    }
    table.commit(key, Sender::only(), totals(messages)).unwrap();
}

/// Everything that a reader gets until there is no more.
fn read(table: &mut Table, mode: Mode) -> Result<Vec<(u32, Message)>, Error> {
    let mut got = Vec::new();
    loop {
        match table.next(&key(), got.len() as u64, mode)? {
            Step::Chunk(chunk, sender) => got.push((sender, chunk.in_memory().unwrap())),
            Step::Wait(_) | Step::End(_) => return Ok(got),
        }
    }
}

#[test]
fn two_senders_do_not_touch_each_other() {
    let mut table = table();
    let (one, two) = (stream(0, 9, 3, false), stream(1, 4, 2, false));
    send(&mut table, by(0, 1, 2), &one);
    send_all(&mut table, by(1, 1, 2), &two);
    // The same sequences of another sender, and another attempt of it.
    send(&mut table, by(1, 2, 2), &two);
    table.commit(&key(), by(0, 1, 2), totals(&one)).unwrap();
    let got = read(&mut table, Mode::Complete).unwrap();
    let of = |sender: u32| {
        let its = got.iter().filter(|(from, _)| *from == sender);
        its.map(|(_, message)| message.clone()).collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1)), (one[1..].to_vec(), two[1..].to_vec()));
}

#[test]
fn a_chunk_that_comes_again_is_taken_once_and_a_gap_is_an_error() {
    let mut table = table();
    let messages = stream(0, 9, 3, false);
    let sender = by(0, 1, 1);
    send(&mut table, sender, &messages[..3]);
    let used = table.budget.used();
    assert!(!push(&mut table, sender, 1, &messages[2]).unwrap());
    assert_eq!(table.budget.used(), used);
    let error = push(&mut table, sender, 1, &messages[3]).unwrap_err();
    assert!(matches!(error, Error::Different { sequence: 1, .. }), "{error}");
    let error = push(&mut table, sender, 3, &messages[3]).unwrap_err();
    assert!(matches!(error, Error::Gap { sequence: 3, expected: 2, .. }), "{error}");
    assert_eq!(table.begin(&key(), sender, &messages[0]).unwrap(), 2);
    assert!(push(&mut table, sender, 2, &messages[3]).unwrap());
    // A commit, and with it the chunks before it, may come again too.
    for _ in 0..2 {
        table.commit(&key(), sender, totals(&messages)).unwrap();
        assert!(!push(&mut table, sender, 0, &messages[1]).unwrap());
    }
    let error = push(&mut table, sender, 3, &messages[3]).unwrap_err();
    assert!(error.to_string().contains("after the commit"), "{error}");
}

#[test]
fn a_newer_attempt_takes_the_place_of_an_older_one_as_a_whole() {
    let mut table = table();
    let (first, second) = (stream(0, 9, 3, false), stream(0, 9, 2, false));
    send(&mut table, by(0, 1, 1), &first[..3]);
    send(&mut table, by(0, 2, 1), &second[..2]);
    // The first goes on sending.
    let stale = |error: Error| {
        assert_eq!(error.code(), Code::StaleFence, "{error}");
    };
    stale(push(&mut table, by(0, 1, 1), 2, &first[3]).unwrap_err());
    stale(table.commit(&key(), by(0, 1, 1), totals(&first[..3])).unwrap_err());
    stale(table.begin(&key(), by(0, 1, 1), &first[0]).unwrap_err());
    assert_eq!(table.begin(&key(), by(0, 2, 1), &second[0]).unwrap(), 1);
    for sequence in 1..second.len() - 1 {
        push(&mut table, by(0, 2, 1), sequence as u64, &second[sequence + 1]).unwrap();
    }
    table.commit(&key(), by(0, 2, 1), totals(&second)).unwrap();
    // One that has committed stays until the next one has.
    send(&mut table, by(0, 3, 1), &first[..2]);
    let got = read(&mut table, Mode::Complete).unwrap();
    assert_eq!(got.into_iter().map(|(_, one)| one).collect::<Vec<_>>(), second[1..]);
}

#[test]
fn an_older_attempt_than_one_that_committed_is_refused() {
    let mut table = table();
    let messages = stream(0, 4, 2, false);
    send_all(&mut table, by(0, 5, 1), &messages);
    let error = table.begin(&key(), by(0, 4, 1), &messages[0]).unwrap_err();
    assert!(matches!(error, Error::Stale { attempt: 4, newest: 5, .. }), "{error}");
}

#[test]
fn what_was_read_is_not_replaced() {
    let messages = stream(0, 6, 2, false);
    // By a pipelined reader, before the commit.
    let mut open = table();
    send(&mut open, by(0, 1, 1), &messages[..2]);
    assert_eq!(read(&mut open, Mode::Pipelined).unwrap().len(), 1);
    let error = open.begin(&key(), by(0, 2, 1), &messages[0]).unwrap_err();
    assert!(matches!(error, Error::AlreadyRead { attempt: 2, read: 1, .. }), "{error}");
    // The attempt itself may go on.
    assert_eq!(open.begin(&key(), by(0, 1, 1), &messages[0]).unwrap(), 1);
    // Between the begin of the next attempt and its commit.
    let mut between = table();
    send_all(&mut between, by(0, 1, 1), &messages);
    send(&mut between, by(0, 2, 1), &messages);
    assert_eq!(read(&mut between, Mode::Complete).unwrap().len(), 3);
    let error = between.commit(&key(), by(0, 2, 1), totals(&messages)).unwrap_err();
    assert!(matches!(error, Error::AlreadyRead { attempt: 2, read: 1, .. }), "{error}");
    assert!(between.begin(&key(), by(0, 2, 1), &messages[0]).is_err());
    // Nothing was in it, and a reader has seen so.
    let mut empty = table();
    send_all(&mut empty, by(0, 1, 1), &messages[..1]);
    assert!(read(&mut empty, Mode::Complete).unwrap().is_empty());
    assert!(empty.begin(&key(), by(0, 2, 1), &messages[0]).is_err());
}

#[test]
fn a_commit_that_says_something_else_is_refused() {
    let mut table = table();
    let messages = stream(0, 6, 2, false);
    send(&mut table, by(0, 1, 1), &messages);
    for wrong in [Totals { chunks: 2, rows: 6 }, Totals { chunks: 3, rows: 7 }] {
        let error = table.commit(&key(), by(0, 1, 1), wrong).unwrap_err();
        assert!(matches!(error, Error::Totals { .. }), "{error}");
    }
    let error = read(&mut table, Mode::Complete).unwrap_err();
    assert!(matches!(error, Error::NotReady { committed: 0, senders: 1, missing: 0, .. }));
}

#[test]
fn a_complete_reader_waits_for_all_and_a_pipelined_one_does_not() {
    let mut table = table();
    let messages = stream(1, 6, 2, false);
    send_all(&mut table, by(1, 1, 2), &messages);
    let error = read(&mut table, Mode::Complete).unwrap_err();
    assert!(matches!(error, Error::NotReady { committed: 1, senders: 2, missing: 0, .. }));
    assert_eq!(read(&mut table, Mode::Pipelined).unwrap().len(), 3);
    assert!(matches!(table.next(&key(), 3, Mode::Pipelined).unwrap(), Step::Wait(0)));
    send_all(&mut table, by(0, 1, 2), &stream(0, 2, 2, false));
    assert_eq!(read(&mut table, Mode::Complete).unwrap().len(), 4);
    let end = table.next(&key(), 4, Mode::Pipelined).unwrap();
    assert!(matches!(end, Step::End(Totals { chunks: 4, rows: 8 })));
}

#[test]
fn senders_with_dictionaries_are_read_one_after_the_other() {
    let mut table = table();
    let streams = [stream(0, 6, 2, true), stream(1, 6, 2, true)];
    send(&mut table, by(0, 1, 2), &streams[0][..3]);
    send_all(&mut table, by(1, 1, 2), &streams[1]);
    let got = read(&mut table, Mode::Pipelined).unwrap();
    assert_eq!(got.iter().map(|(from, _)| *from).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn all_partitions_of_a_stage_read_senders_with_dictionaries_in_one_order() {
    let mut table = table();
    let messages = stream(0, 6, 2, true);
    let keys = [0, 1].map(|partition| PartitionKey::try_new("q", 7, partition).unwrap());
    let send = |table: &mut Table, key: &PartitionKey, index: u32, until: usize| {
        table.begin(key, by(index, 1, 3), &messages[0]).unwrap();
        for (sequence, message) in (0..).zip(&messages[1..until]) {
            let crc = crc32c_of(message);
            table.push(key, by(index, 1, 3), sequence, crc, message.clone()).unwrap();
        }
    };
    let turns = |table: &mut Table| [0, 1, 2].map(|sender| table.turn("q", 7, sender));
    // To the one comes another sender first than to the other.
    send(&mut table, &keys[0], 1, 3);
    send(&mut table, &keys[1], 2, 3);
    assert_eq!(turns(&mut table), [Turn::Another; 3]);
    let next = |table: &mut Table, at: usize, position| {
        table.next(&keys[at], position, Mode::Pipelined).unwrap()
    };
    assert!(matches!(next(&mut table, 0, 0), Step::Chunk(_, 1)));
    assert_eq!(turns(&mut table), [Turn::Another, Turn::Its, Turn::Another]);
    assert!(matches!(next(&mut table, 1, 0), Step::Wait(1)));
    // The lowest of those that have begun is next, and not before the end of the first.
    send(&mut table, &keys[0], 0, 3);
    send(&mut table, &keys[1], 1, messages.len());
    table.commit(&keys[1], by(1, 1, 3), totals(&messages)).unwrap();
    let chunks = messages.len() as u64 - 1;
    for position in 0..chunks {
        assert!(matches!(next(&mut table, 1, position), Step::Chunk(_, 1)));
    }
    assert!(matches!(next(&mut table, 1, chunks), Step::Chunk(_, 2)));
    // In the other partition it goes on.
    assert_eq!(turns(&mut table), [Turn::Another, Turn::Its, Turn::Another]);
    send(&mut table, &keys[0], 1, messages.len());
    table.commit(&keys[0], by(1, 1, 3), totals(&messages)).unwrap();
    assert_eq!(turns(&mut table), [Turn::Another, Turn::Another, Turn::Its]);
    for position in 1..chunks {
        assert!(matches!(next(&mut table, 0, position), Step::Chunk(_, 1)));
    }
    assert!(matches!(next(&mut table, 0, chunks), Step::Wait(2)));
}

#[test]
fn another_schema_is_refused_before_the_first_row() {
    let mut table = table();
    send(&mut table, by(0, 1, 2), &stream(0, 2, 2, false));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let other = RecordBatch::try_from_iter([("name", column)]).unwrap();
    let other = sheaf_flight::ipc::encode_schema(&other.schema());
    for sender in [by(1, 1, 2), by(0, 2, 2)] {
        let error = table.begin(&key(), sender, &other).unwrap_err();
        assert!(matches!(error, Error::Schema { .. }), "{error}");
    }
    let error = table.begin(&key(), by(1, 1, 3), &stream(1, 2, 2, false)[0]).unwrap_err();
    assert!(matches!(error, Error::SenderCount { said: 3, known: 2, .. }), "{error}");
    // The first attempt was not touched by it.
    assert!(push(&mut table, by(0, 1, 2), 1, &stream(0, 4, 2, false)[2]).unwrap());
}

#[test]
fn what_is_no_stream_breaks_its_attempt_and_no_other() {
    let mut table = table();
    let plain = stream(0, 4, 2, false);
    send(&mut table, by(0, 1, 2), &plain[..2]);
    let error = push(&mut table, by(0, 1, 2), 1, &plain[0]).unwrap_err();
    assert!(error.to_string().contains("is a schema"), "{error}");
    let mut cut = plain[2].clone();
    cut.body = vec![cut.contiguous_body().slice(..8)];
    let error = push(&mut table, by(0, 1, 2), 1, &cut).unwrap_err();
    assert_eq!(error.code(), Code::MalformedData, "{error}");
    let error = push(&mut table, by(0, 1, 2), 1, &plain[2]).unwrap_err();
    assert!(error.to_string().contains("begin another attempt"), "{error}");
    assert!(table.commit(&key(), by(0, 1, 2), Totals { chunks: 1, rows: 2 }).is_err());
    send_all(&mut table, by(0, 2, 2), &plain);
    send_all(&mut table, by(1, 1, 2), &plain);
    assert_eq!(read(&mut table, Mode::Complete).unwrap().len(), 4);
}

#[test]
fn memory_is_bounded_and_given_back() {
    let budget = Budget::new(20_000);
    let mut table = Table::new(Arc::clone(&budget), 1);
    let messages = stream(0, 100_000, 200, false);
    table.begin(&key(), by(0, 1, 1), &messages[0]).unwrap();
    let mut sent = 0;
    let error = loop {
        match push(&mut table, by(0, 1, 1), sent, &messages[sent as usize + 1]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(budget.used() <= budget.limit());
    };
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
    assert!(sent > 2, "{sent} chunks");
    // What was refused has changed nothing, and what is consumed makes room.
    assert_eq!(read(&mut table, Mode::Pipelined).unwrap().len() as u64, sent);
    assert_eq!(table.consume(&key(), sent).unwrap().len() as u64, sent);
    assert!(push(&mut table, by(0, 1, 1), sent, &messages[sent as usize + 1]).unwrap());
    let error = table.next(&key(), 0, Mode::Pipelined).unwrap_err();
    assert!(matches!(error, Error::Consumed { position: 0, .. }), "{error}");
    assert_eq!(table.clean_up("q", Gone::Asked).partitions(), 1);
    assert_eq!(budget.used(), 0);
}

#[test]
fn where_there_is_no_room_no_partition_begins() {
    let mut table = Table::new(Budget::new(1_000), 1);
    let error = table.begin(&key(), by(0, 1, 1), &stream(0, 2, 2, false)[0]).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert_eq!((table.queries(), table.budget.used()), (Vec::new(), 0));
}

#[test]
fn a_query_that_was_cleaned_up_takes_nothing_more() {
    let mut table = table();
    let messages = stream(0, 4, 2, false);
    send(&mut table, by(0, 1, 1), &messages[..2]);
    assert_eq!(table.clean_up("q", Gone::Asked).partitions(), 1);
    let gone = |error: Error| assert!(matches!(error, Error::CleanedUp { .. }), "{error}");
    gone(push(&mut table, by(0, 1, 1), 1, &messages[2]).unwrap_err());
    gone(table.begin(&key(), by(0, 2, 1), &messages[0]).unwrap_err());
    gone(table.commit(&key(), by(0, 1, 1), totals(&messages)).unwrap_err());
    gone(table.next(&key(), 0, Mode::Complete).unwrap_err());
    gone(table.available("q", 1).unwrap_err());
    for other in 0..REMEMBERED {
        table.clean_up(&format!("other-{other}"), Gone::Asked);
    }
    assert_eq!((table.gone.len(), table.gone_in_order.len()), (REMEMBERED, REMEMBERED));
    assert!(matches!(table.available("q", 1).unwrap_err(), Error::NoStage { .. }));
}

#[test]
fn what_is_available_says_rows_readiness_and_skew() {
    let mut table = table();
    let (one, two) = (stream(0, 6, 2, false), stream(1, 2, 2, false));
    send_all(&mut table, by(0, 1, 2), &one);
    send(&mut table, by(1, 1, 2), &two);
    let other = PartitionKey::try_new("q", 1, 8).unwrap();
    table.begin(&other, by(0, 1, 1), &one[0]).unwrap();
    table.commit(&other, by(0, 1, 1), Totals::default()).unwrap();
    let before = table.available("q", 1).unwrap();
    let shown: Vec<_> = before.partitions.iter().map(|one| (one.partition, one.ready)).collect();
    assert_eq!(shown, [(7, false), (8, true)]);
    let first = &before.partitions[0];
    let bytes: usize = one[1..].iter().chain(&two[1..]).map(Message::len).sum();
    assert_eq!((first.rows, first.bytes, first.chunks), (8, bytes as u64, 4));
    assert_eq!((before.skew.rows_max, before.skew.largest, before.skew.ratio), (8, 7, 2.0));
    // The same data in another attempt has the same checksum.
    send_all(&mut table, by(1, 2, 2), &two);
    let after = table.available("q", 1).unwrap();
    assert!(after.partitions[0].ready);
    assert_eq!(after.partitions[0].checksum, first.checksum);
    assert_ne!(after.partitions[0].checksum, after.partitions[1].checksum);
    assert!(matches!(table.available("q", 2).unwrap_err(), Error::NoStage { stage: 2, .. }));
}
