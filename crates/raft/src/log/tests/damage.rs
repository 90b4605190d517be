//! Torn ends and damaged bytes, at every offset.

use std::fs;
use std::path::{Path, PathBuf};

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use sheaf_retry::{Code, Retryable as _};

use crate::log::{Error, Flush, LogStore, Options};
use crate::stored::Entry;
use crate::testing::{append, entry, identity, open, small};

fn segments(home: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    paths
}

fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|index| entry(1, index, format!("the command of entry {index}"))).collect()
}

fn one_file() -> Options {
    Options { segment_bytes: 1 << 20, ..small(Flush::Inline) }
}

/// Opens it, checks that it has `least` entries at least and that those it has are
/// as they were written, and leaves the files as they are then.
async fn check(home: &Path, least: u64, what: &str) -> u64 {
    let mut log: LogStore = LogStore::open(home, &identity(), one_file())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let last = log.get_log_state().await.unwrap().last_log_id.unwrap().index;
    assert!(last + 1 >= least, "{what}: {} of {least} are left", last + 1);
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), entries(0..last + 1), "{what}");
    log.cut_power(Vec::clear).unwrap();
    last + 1
}

#[tokio::test]
async fn a_torn_end_is_cut_at_every_offset_and_what_was_acknowledged_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), one_file());
    for index in 0..5 {
        append(&mut log, entries(index..index + 1)).await;
    }
    let path = segments(home.path()).remove(0);
    let acknowledged = fs::metadata(&path).unwrap().len();
    append(&mut log, entries(5..8)).await;
    log.cut_power(Vec::clear).unwrap();
    drop(log);
    let whole = fs::read(&path).unwrap();
    let acknowledged = usize::try_from(acknowledged).unwrap();
    assert!(whole.len() > acknowledged + 100);
    for at in acknowledged..whole.len() {
        fs::write(&path, &whole[..at]).unwrap();
        check(home.path(), 5, &format!("cut at {at}")).await;
        assert!(fs::metadata(&path).unwrap().len() <= at as u64);

        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        fs::write(&path, &flipped).unwrap();
        assert!(
            check(home.path(), 5, &format!("changed at {at}")).await < 8,
            "byte {at} is checked"
        );

        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        fs::write(&path, &zeros).unwrap();
        check(home.path(), 5, &format!("zeros from {at}")).await;
    }
    // What follows a cut is whole again.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let mut log = open(home.path(), one_file());
    append(&mut log, entries(7..9)).await;
    drop(log);
    check(home.path(), 9, "after the cut").await;
}

#[tokio::test]
async fn damage_to_what_was_acknowledged_is_refused_at_every_offset() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), one_file());
    for index in 0..6 {
        append(&mut log, entries(index..index + 1)).await;
    }
    let path = segments(home.path()).remove(0);
    append(&mut log, entries(6..7)).await;
    let acknowledged = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    drop(log);
    let whole = fs::read(&path).unwrap();
    for at in 0..acknowledged {
        for changed in [whole[at] ^ 0x01, 0, 0xff] {
            if changed == whole[at] {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[at] = changed;
            fs::write(&path, &bytes).unwrap();
            let error = LogStore::<openraft_rt_tokio::TokioRuntime>::open(
                home.path(),
                &identity(),
                one_file(),
            )
            .expect_err(&format!("byte {at} became {changed}"));
            assert_eq!(error.code(), Code::Corrupt, "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was changed");
        }
    }
    fs::write(&path, &whole).unwrap();
    check(home.path(), 7, "whole again").await;
}

#[tokio::test]
async fn missing_files_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    for index in 0..80 {
        append(&mut log, entries(index..index + 1)).await;
    }
    drop(log);
    let paths = segments(home.path());
    assert!(paths.len() > 4, "{paths:?}");
    let identity_file = home.path().join("identity");
    let kept = home.path().join("kept");
    for path in [&paths[0], &paths[1], &paths[paths.len() - 2], &identity_file] {
        fs::rename(path, &kept).unwrap();
        let opened = LogStore::<openraft_rt_tokio::TokioRuntime>::open(
            home.path(),
            &identity(),
            small(Flush::Thread),
        );
        let error = opened.expect_err(&format!("{path:?} is missing"));
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        fs::rename(&kept, path).unwrap();
    }
    let mut log = open(home.path(), small(Flush::Thread));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), entries(0..80));
}

#[tokio::test]
async fn a_damaged_entry_is_refused_when_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path(), one_file()));
    let mut log = open(home.path(), Options { cache_bytes: 0, ..one_file() });
    append(&mut log, entries(0..3)).await;
    let path = segments(home.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"entry 1").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = log.try_get_log_entries(0..3).await.unwrap_err();
    assert!(error.to_string().contains("entry 1: it does not match its checksum"), "{error}");
    assert_eq!(log.try_get_log_entries(2..3).await.unwrap(), entries(2..3));
}
