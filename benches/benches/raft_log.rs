//! Appending to the log of a Raft node, each append on disk before the next:
//! one entry of 256 bytes, and 64.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::type_config::alias::EntryOf;
use openraft::{EntryPayload, LogId};
use openraft_rt_tokio::TokioRuntime;
use sheaf_raft::log::{Identity, LogStore, Options};
use sheaf_raft::types::{Command, Types};

const ENTRY_BYTES: usize = 256;
/// Entries after which the oldest are purged, so that the disk does not fill up.
const KEPT: u64 = 100_000;

fn entry(index: u64) -> EntryOf<Types> {
    let command = Command(Bytes::from_static(&[7; ENTRY_BYTES]));
    openraft::Entry {
        log_id: LogId::new_term_index(1, index),
        payload: EntryPayload::Normal(command),
    }
}

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    // On the disk that is built on: others keep temporary files in memory.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let identity = Identity { cluster: "bench".to_owned(), node: 1 };
    let log: LogStore<TokioRuntime> =
        LogStore::open(home.path(), &identity, Options::default()).expect("a fresh directory");
    let mut next = 0;
    let mut group = criterion.benchmark_group("raft_log");
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("append_{count}_synced"), |bencher| {
            bencher.iter(|| {
                let mut log = log.clone();
                runtime.block_on(async {
                    let entries: Vec<_> = (next..next + count).map(entry).collect();
                    log.blocking_append(entries).await.expect("room on the disk");
                    next += count;
                    if next % KEPT < count && next > KEPT {
                        let upto = LogId::new_term_index(1, next - KEPT);
                        log.purge(upto).await.expect("a removal");
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
