//! What is in the files, and that each byte of them is checked.

use sheaf_retry::{Code, Retryable as _};

use super::{batch, head, make, names, open};
use crate::snapshot::{Error, Options, SnapshotId, Snapshots};

#[test]
fn two_snapshots_are_kept_and_a_reader_of_an_older_one_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    assert!(snapshots.current().is_none());
    let oldest = make(&snapshots, 10, 3);
    let mut batches = oldest.batches().unwrap();
    batches.next().unwrap().unwrap();
    make(&snapshots, 20, 3);
    make(&snapshots, 30, 3);
    let name = |index: u64| format!("{:020}-{index:020}.arrow", 3);
    assert_eq!(names(home.path()), [name(20), name(30)]);
    assert_eq!(batches.map(Result::unwrap).collect::<Vec<_>>().len(), 2);
    drop(snapshots);
    let current = open(home.path()).current().unwrap();
    assert_eq!((current.id().index, current.digest(), current.rows()), (30, 42, 30));
    assert_eq!(*current.meta(), head(30).meta);
    let id: SnapshotId = current.id().to_string().parse().unwrap();
    assert_eq!(id, current.id());
    let read = current.batches().unwrap().next().unwrap().unwrap();
    assert_eq!(read.columns(), batch(0, 10, 100).columns());
}

#[test]
fn a_snapshot_without_rows_is_one() {
    let home = tempfile::tempdir().unwrap();
    let file = make(&open(home.path()), 5, 0);
    assert_eq!(file.batches().unwrap().count(), 0);
    assert_eq!(open(home.path()).current().unwrap().id(), file.id());
}

#[test]
fn each_byte_is_checked_and_a_damaged_snapshot_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    make(&snapshots, 1, 1);
    let path = make(&snapshots, 2, 1).path().to_path_buf();
    drop(snapshots);
    let whole = std::fs::read(&path).unwrap();
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        cases.push(bytes);
    }
    let mut longer = whole.clone();
    longer.push(0);
    cases.push(longer);
    for (case, bytes) in cases.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let snapshots = open(home.path());
        assert_eq!(snapshots.current().unwrap().id().index, 1, "case {case} is taken as whole");
        let error = snapshots.check(Some(2)).unwrap_err();
        assert_eq!(error.code(), Code::Corrupt);
        assert!(error.to_string().contains(".damaged is damaged"), "{error}");
        snapshots.check(Some(1)).unwrap();
        assert_eq!(names(home.path()).len(), 2, "one that is damaged is kept");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(open(home.path()).current().unwrap().id().index, 2);
}

#[test]
fn another_cluster_and_a_newer_version_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = make(&open(home.path()), 1, 1).path().to_path_buf();
    let refused = |cluster: &str| {
        Snapshots::open(home.path(), cluster, Options::default()).expect_err("it is refused")
    };
    let error = refused("other");
    assert!(matches!(error, Error::Foreign { .. }), "{error}");

    // A tail of the next version, whatever else it has.
    use prost::Message as _;
    use sheaf_proto::raft::v1 as proto;
    let mut bytes = std::fs::read(&path).unwrap();
    let tail = proto::SnapshotTail { version: 2, ..proto::SnapshotTail::default() };
    assert!(tail.encoded_len() > 0);
    bytes.extend(super::super::tail::encode(&tail));
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(refused("test").code(), Code::FormatNewer);
}

#[test]
fn a_snapshot_over_the_limit_is_given_up_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { limit_bytes: 5_000 };
    let snapshots = Snapshots::open(home.path(), "test", options).unwrap();
    let mut writer = snapshots.write(&head(1)).unwrap();
    let error = (0..10).find_map(|number| writer.write(&batch(number, 10, 100)).err()).unwrap();
    assert!(matches!(error, Error::TooLarge { limit: 5_000, .. }), "{error}");
    drop(writer);
    assert_eq!(names(home.path()), Vec::<String>::new());
    let id = SnapshotId { term: 1, index: 1, bytes: 5_001, hash: 0 };
    assert_eq!(snapshots.receive(id).unwrap_err().code(), Code::LimitExceeded);
}
