//! Versions, owners, and two at once.

use prost::Message as _;
use sheaf_proto::raft::v1 as proto;
use sheaf_retry::{Code, Retryable as _};

use crate::log::{Error, Flush, Identity, LogStore};
use crate::testing::{append, entry, identity, open, small};

fn refused(home: &std::path::Path, identity: &Identity) -> Error {
    let opened =
        LogStore::<openraft_rt_tokio::TokioRuntime>::open(home, identity, small(Flush::Thread));
    opened.expect_err("it is refused")
}

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path(), small(Flush::Thread));
    assert_eq!(refused(home.path(), &identity()).code(), Code::DirectoryLocked);
    drop(log);
    open(home.path(), small(Flush::Thread));
}

#[test]
fn another_cluster_or_another_node_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path(), small(Flush::Thread)));
    for other in
        [Identity { cluster: "other".to_owned(), ..identity() }, Identity { node: 2, ..identity() }]
    {
        let error = refused(home.path(), &other);
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.to_string().contains("is of node 1 of cluster \"test\""), "{error}");
    }
}

#[tokio::test]
async fn a_newer_version_is_refused_in_the_directory_and_in_a_record() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    append(&mut log, [entry(1, 0, "command")]).await;
    drop(log);
    let path = home.path().join("identity");
    let bytes = std::fs::read(&path).unwrap();
    let mut newer = proto::LogIdentity::decode(bytes.as_slice()).unwrap();
    newer.version += 1;
    std::fs::write(&path, newer.encode_to_vec()).unwrap();
    let error = refused(home.path(), &identity());
    assert_eq!(error.code(), Code::FormatNewer);
    assert!(error.to_string().contains("version 3, this build knows up to 2"), "{error}");
    std::fs::write(&path, bytes).unwrap();

    let segment = home.path().join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.len() as u64;
    let record = proto::LogRecord { version: 2, record: None };
    super::super::frame::write_record(&record, end, end, &mut bytes);
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(refused(home.path(), &identity()).code(), Code::FormatNewer);
}

#[test]
fn a_crash_while_a_directory_is_made_leaves_nothing_in_the_way() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path(), small(Flush::Thread)));
    let segment = home.path().join(format!("{:020}.log", 0));
    let whole = std::fs::read(&segment).unwrap();
    // The first write has two records: a head and a truncation.
    let record = |at: usize| {
        let length = u32::from_le_bytes(whole[at + 4..at + 8].try_into().unwrap());
        at + 28 + usize::try_from(length).unwrap()
    };
    let first_write = record(record(0));
    for length in 0..=first_write {
        std::fs::remove_file(home.path().join("identity")).unwrap();
        std::fs::write(&segment, &whole[..length]).unwrap();
        std::fs::write(home.path().join("identity.tmp"), "torn").unwrap();
        drop(open(home.path(), small(Flush::Thread)));
    }
    // Whatever is behind it was written by a log that somebody may know of.
    assert!(whole.len() > first_write);
    for length in [first_write + 1, whole.len()] {
        drop(std::fs::remove_file(home.path().join("identity")));
        std::fs::write(&segment, &whole[..length]).unwrap();
        let error = refused(home.path(), &identity());
        assert!(error.to_string().contains("`identity` is missing"), "{error}");
    }
}

#[test]
fn a_log_keeps_its_incarnation_and_one_of_before_gets_one() {
    let home = tempfile::tempdir().unwrap();
    let first = open(home.path(), small(Flush::Thread)).incarnation();
    assert_ne!(first, 0);
    assert_eq!(open(home.path(), small(Flush::Thread)).incarnation(), first);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path(), small(Flush::Thread)).incarnation(), first);

    // As the version before wrote it.
    let path = home.path().join("identity");
    let mut old = proto::LogIdentity::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    (old.version, old.incarnation, old.crc32c) = (1, 0, 0);
    old.crc32c = crc32c::crc32c(&old.encode_to_vec());
    std::fs::write(&path, old.encode_to_vec()).unwrap();
    let new = open(home.path(), small(Flush::Thread)).incarnation();
    assert!(new != 0 && new != first);
    assert_eq!(open(home.path(), small(Flush::Thread)).incarnation(), new);
}
