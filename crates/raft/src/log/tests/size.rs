//! Files are freed, memory is bounded, and many entries are opened.

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

use crate::log::{Flush, LogStore, Options};
use crate::stored::{Entry, LogId};
use crate::testing::{append, entry, open, small};

#[tokio::test]
async fn purging_frees_the_files_and_a_removal_that_was_cut_short_is_finished() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    for index in 0..100 {
        append(&mut log, [entry(1, index, vec![7; 100])]).await;
    }
    let before = log.status();
    assert!(before.segments > 10 && before.disk_bytes > 10_000, "{before:?}");
    let oldest = home.path().join(format!("{:020}.log", 0));
    let bytes = std::fs::read(&oldest).unwrap();
    log.purge(LogId::new_term_index(1, 97)).await.unwrap();
    let after = log.status();
    assert!(after.segments <= 2 && after.disk_bytes < 2_000, "{after:?}");
    assert_eq!((after.entries, after.purged), (2, Some(97)));
    let files = std::fs::read_dir(home.path()).unwrap().count();
    assert!(files <= 2 + 2, "{files} files, with the lock and the identity");
    drop(log);
    // As if the directory had not been synced before the power was lost.
    std::fs::write(&oldest, bytes).unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    assert!(!oldest.exists());
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_log_that_a_snapshot_took_the_place_of_goes_on_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    append(&mut log, (0..30).map(|index| entry(1, index, vec![1; 100]))).await;
    log.purge(LogId::new_term_index(4, 1_000)).await.unwrap();
    append(&mut log, [entry(5, 1_001, "next")]).await;
    drop(log);
    let mut log = open(home.path(), small(Flush::Thread));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), [entry(5, 1_001, "next")]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(LogId::new_term_index(4, 1_000)));
}

#[tokio::test]
async fn a_hundred_thousand_entries_are_opened_and_few_are_in_memory() {
    const COUNT: u64 = 100_000;
    let home = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 4 << 20, cache_bytes: 1 << 20, ..Options::default() };
    let mut log = open(home.path(), options());
    for start in (0..COUNT).step_by(1_000) {
        let new = (start..start + 1_000).map(|index| entry(1, index, index.to_le_bytes().to_vec()));
        append(&mut log, new).await;
        assert!(log.status().cached_bytes <= (1 << 20) + 200_000, "{:?}", log.status());
    }
    drop(log);
    let mut log = open(home.path(), options());
    let status = log.status();
    assert_eq!((status.entries, status.cached_bytes), (COUNT, 0));
    assert!(status.segments > 1);
    for index in (0..COUNT).step_by(997) {
        let read = log.try_get_log_entries(index..index + 1).await.unwrap();
        assert_eq!(read, [entry(1, index, index.to_le_bytes().to_vec())]);
    }
    use futures::StreamExt as _;
    let all = log.entries_stream(0..COUNT).await;
    let indexes: Vec<u64> = all.map(|entry| entry.unwrap().log_id.index).collect().await;
    assert!(indexes.into_iter().eq(0..COUNT));
}

#[tokio::test]
async fn one_read_is_of_so_many_bytes_and_of_one_entry_at_least() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    append(&mut log, (0..20).map(|index| entry(1, index, vec![1; 100]))).await;
    append(&mut log, [entry(1, 20, vec![1; 3_000])]).await;
    let read = log.limited_get_log_entries(0, 20).await.unwrap();
    assert!((2..6).contains(&read.len()), "{}", read.len());
    assert_eq!(log.limited_get_log_entries(20, 21).await.unwrap().len(), 1);
}

#[tokio::test]
async fn holes_and_giants_are_refused_and_nothing_is_written() {
    use openraft::storage::RaftLogStorageExt as _;
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    append(&mut log, [entry(1, 0, "first")]).await;
    let hole = [entry(1, 1, "second"), entry(1, 3, "fourth")];
    let error = log.blocking_append(hole).await.unwrap_err();
    assert!(error.to_string().contains("entry 3 does not follow entry 1"), "{error}");
    let giant = [entry(1, 1, vec![0; 65 << 20])];
    let error = log.blocking_append(giant).await.unwrap_err();
    assert!(error.to_string().contains("the limit is"), "{error}");
    assert!(log.failure().is_none());
    append(&mut log, [entry(1, 1, "second")]).await;
    drop(log);
    let mut log: LogStore = open(home.path(), small(Flush::Thread));
    let all: Vec<Entry> = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(all, [entry(1, 0, "first"), entry(1, 1, "second")]);
}

#[tokio::test]
async fn what_was_committed_and_not_synced_is_on_disk_after_a_close() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    append(&mut log, (0..3).map(|index| entry(1, index, "command"))).await;
    log.save_committed(Some(LogId::new_term_index(1, 2))).await.unwrap();
    drop(log);
    // Its last record says that all before is on disk.
    let path = home.path().join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    let whole = std::mem::replace(&mut bytes, std::fs::read(&path).unwrap());
    std::fs::write(&path, whole).unwrap();
    let identity = crate::testing::identity();
    let opened = LogStore::<openraft_rt_tokio::TokioRuntime>::open(
        home.path(),
        &identity,
        small(Flush::Thread),
    );
    assert!(opened.is_err(), "damage right before the end is refused");
    std::fs::write(&path, bytes).unwrap();
    let mut log = open(home.path(), small(Flush::Thread));
    assert_eq!(log.read_committed().await.unwrap(), Some(LogId::new_term_index(1, 2)));
}
