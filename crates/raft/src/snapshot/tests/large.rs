//! A large snapshot is never in memory whole.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine as _};

use super::{batch, open, schema};
use crate::apply::Machine;
use crate::log::{Flush, LogStore};
use crate::machine::{Applied, MachineError, StateMachine};
use crate::testing::small;
use crate::types::Types;

const CHILD: &str = "SHEAF_TEST_LARGE_CHILD";
const PARTS: &str = "SHEAF_TEST_LARGE_PARTS";
const PART_BYTES: usize = 1 << 20;
/// Above what the process has before.
const LIMIT_KIB: u64 = 48 << 10;

/// Makes its snapshot as it is asked, and forgets what it reads.
struct Generated {
    parts: u64,
    next: u64,
    seen: u64,
}

impl StateMachine for Generated {
    fn apply(&mut self, _: Applied<'_>) -> Bytes {
        Bytes::new()
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.next = 0;
        Ok(())
    }

    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError> {
        self.next += 1;
        Ok((self.next <= self.parts).then(|| batch(self.next, 16, PART_BYTES / 16)))
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        for batch in batches {
            self.seen += u64::from(batch?.num_rows() == 16);
        }
        Ok(())
    }

    fn digest(&mut self) -> u64 {
        self.parts
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs in the child, alone: builds, sends, receives and installs one.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
async fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Path::new(&home);
    let parts: u64 = std::env::var(PARTS).unwrap().parse().unwrap();
    let log: LogStore = crate::testing::open(&home.join("log"), small(Flush::Thread));
    let machine = |name: &str| {
        let machine = Generated { parts, next: 0, seen: 0 };
        Machine::new(machine, open(&home.join(name)), &log).unwrap()
    };
    let (mut from, mut to) = (machine("from"), machine("to"));
    let before = peak_kib();
    let mut builder = from.get_snapshot_builder().await;
    let file = RaftSnapshotBuilder::<Types>::build_snapshot(&mut builder).await.unwrap().snapshot;
    assert!(file.id().bytes > parts * PART_BYTES as u64);
    let mut incoming = to.snapshots().receive(file.id()).unwrap();
    while incoming.received() < file.id().bytes {
        let chunk = file.chunk(incoming.received(), 1 << 20).unwrap();
        incoming.write(incoming.received(), &chunk).unwrap();
    }
    let received = incoming.finish().unwrap();
    to.install_snapshot(&file.meta().clone(), received).await.unwrap();
    assert_eq!(to.with_machine(|machine| machine.seen), parts);
    let (after, bytes) = (peak_kib(), file.id().bytes);
    println!("{bytes} bytes took {} KiB above {before} KiB", after - before);
    assert!(after - before < LIMIT_KIB, "{after} KiB at most, {before} KiB before");
    println!("passed");
}

#[test]
fn soak_a_large_snapshot_takes_little_memory() {
    let parts = if sheaf_testkit::soak() { 1_024 } else { 256 };
    // Beside the test program, and not in /tmp, which may itself be memory.
    let program = std::env::current_exe().unwrap();
    let home = Arc::new(tempfile::tempdir_in(program.parent().unwrap()).unwrap());
    let out = Command::new(program)
        .args(["--exact", "snapshot::tests::large::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, home.path())
        .env(PARTS, parts.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("passed"), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    println!("{}", text.lines().find(|line| line.contains("KiB")).unwrap());
}
