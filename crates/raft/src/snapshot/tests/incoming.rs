//! Snapshots that another node sends, with breaks.

use sheaf_retry::{Code, Retryable as _};

use super::{make, names, open};
use crate::snapshot::{Error, SnapshotFile, Snapshots};

const CHUNK: usize = 500;

fn send(
    snapshots: &Snapshots,
    file: &SnapshotFile,
    until: u64,
) -> crate::snapshot::IncomingSnapshot {
    let mut incoming = snapshots.receive(file.id()).unwrap();
    while incoming.received() < until {
        let chunk = file.chunk(incoming.received(), CHUNK).unwrap();
        incoming.write(incoming.received(), &chunk).unwrap();
    }
    incoming
}

#[test]
fn a_snapshot_is_received_on_from_where_the_break_was() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = make(&open(there.path()), 7, 20);
    let snapshots = open(here.path());
    let bytes = file.id().bytes;
    assert!(bytes > 10 * CHUNK as u64);
    let half = send(&snapshots, &file, bytes / 2).received();
    let resumed = snapshots.receive(file.id()).unwrap();
    assert_eq!(resumed.received(), half);
    drop(resumed);
    let whole = send(&snapshots, &file, bytes).finish().unwrap();
    assert_eq!((whole.id(), whole.meta()), (file.id(), file.meta()));
    assert!(snapshots.current().is_none(), "it is not installed yet");
    let adopted = snapshots.adopt(whole).unwrap();
    assert_eq!(snapshots.current().unwrap().id(), adopted.id());
    assert_eq!(std::fs::read(adopted.path()).unwrap(), std::fs::read(file.path()).unwrap());
    assert_eq!(names(here.path()).len(), 1);
    // Again, as after a lost answer.
    let again = send(&snapshots, &file, bytes).finish().unwrap();
    assert_eq!(snapshots.adopt(again).unwrap().id(), file.id());
}

#[test]
fn a_snapshot_that_is_not_installed_leaves_nothing() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = make(&open(there.path()), 7, 20);
    let snapshots = open(here.path());
    let whole = send(&snapshots, &file, file.id().bytes).finish().unwrap();
    let clone = whole.clone();
    drop(whole);
    assert_eq!(names(here.path()).len(), 1);
    drop(clone);
    assert_eq!(names(here.path()), Vec::<String>::new());
}

#[test]
fn another_snapshot_begins_anew_and_a_restart_too() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(there.path());
    let (first, second) = (make(&source, 7, 20), make(&source, 8, 20));
    let snapshots = open(here.path());
    drop(send(&snapshots, &first, 2_000));
    assert_eq!(snapshots.receive(second.id()).unwrap().received(), 0);
    assert_eq!(names(here.path()).len(), 1, "one is kept");
    drop(send(&snapshots, &second, 2_000));
    drop(snapshots);
    let snapshots = open(here.path());
    assert_eq!(names(here.path()), Vec::<String>::new());
    assert_eq!(snapshots.receive(second.id()).unwrap().received(), 0);
}

#[test]
fn chunks_out_of_order_or_beyond_the_end_are_refused_and_what_is_there_stays() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = make(&open(there.path()), 7, 20);
    let snapshots = open(here.path());
    let mut incoming = send(&snapshots, &file, 1_000);
    for at in [0, 999, 1_001, u64::MAX] {
        let error = incoming.write(at, b"chunk").unwrap_err();
        assert!(matches!(error, Error::OutOfOrder { expected: 1_000, .. }), "{error}");
    }
    let beyond = vec![0; usize::try_from(file.id().bytes).unwrap()];
    assert_eq!(incoming.write(1_000, &beyond).unwrap_err().code(), Code::LimitExceeded);
    let error = incoming.finish().unwrap_err();
    assert!(error.to_string().contains("it has 1000 bytes"), "{error}");
    send(&snapshots, &file, file.id().bytes).finish().unwrap();
}

#[test]
fn a_snapshot_that_was_changed_on_its_way_is_refused_and_received_anew() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(there.path());
    let (file, other) = (make(&source, 7, 20), make(&source, 7, 21));
    let snapshots = open(here.path());
    let mut incoming = snapshots.receive(file.id()).unwrap();
    let mut bytes = std::fs::read(there.path().join(format!("{:020}-{:020}.arrow", 3, 7))).unwrap();
    // The other one took its place in the directory, so this is not it.
    bytes.truncate(usize::try_from(file.id().bytes).unwrap());
    incoming.write(0, &bytes).unwrap();
    incoming.finish().unwrap_err();
    assert_eq!(snapshots.receive(file.id()).unwrap().received(), 0);

    // Whole, but not the one that was announced.
    let mut announced = other.id();
    announced.index = 8;
    let mut incoming = snapshots.receive(announced).unwrap();
    incoming.write(0, &other.chunk(0, usize::MAX).unwrap()).unwrap();
    let error = incoming.finish().unwrap_err();
    assert_eq!(error.code(), Code::MalformedData);
    assert!(error.to_string().contains("is not 3-8-"), "{error}");
    assert!(snapshots.current().is_none());
    drop(snapshots);
    open(here.path());
    assert_eq!(names(here.path()), Vec::<String>::new());
}
