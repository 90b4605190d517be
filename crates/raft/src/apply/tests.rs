//! The engine's own suite, and snapshots beside commands.

use std::path::Path;

use futures::stream;
use openraft::storage::{RaftLogStorage as _, RaftSnapshotBuilder, RaftStateMachine as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{AsyncRuntime as _, StorageError, StorageHelper};
use tempfile::TempDir;

use super::{Builder, Machine};
use crate::log::{Flush, LogStore};
use crate::machine::{Applied, MachineError, StateMachine};
use crate::snapshot::{Options, SnapshotFile, Snapshots};
use crate::stored::{Entry, LogId};
use crate::testing::{Journal, append, entry, identity, open, small};
use crate::types::Types;

type Runtime = openraft_rt_tokio::TokioRuntime;

fn snapshots(home: &Path) -> Snapshots {
    Snapshots::open(&home.join("snapshots"), "test", Options::default()).unwrap()
}

fn parts(home: &Path, flush: Flush) -> (LogStore, Machine<Journal>) {
    let log = open(&home.join("log"), small(flush));
    let machine = Machine::new(Journal::default(), snapshots(home), &log).unwrap();
    (log, machine)
}

struct Stores(Flush);

impl StoreBuilder<Types, LogStore, Machine<Journal>, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine<Journal>), StorageError<Types>> {
        let home = tempfile::tempdir().unwrap();
        let (log, machine) = parts(home.path(), self.0);
        Ok((home, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engines_suite_passes() {
    for flush in [Flush::Thread, Flush::Inline] {
        Suite::test_all(Stores(flush)).await.unwrap();
    }
}

type Sim = openraft_rt_sim::SimRuntime;

struct SimStores;

impl StoreBuilder<Types<Sim>, LogStore<Sim>, Machine<Journal, Sim>, TempDir> for SimStores {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore<Sim>, Machine<Journal, Sim>), StorageError<Types<Sim>>> {
        let home = tempfile::tempdir().unwrap();
        let log = LogStore::open(&home.path().join("log"), &identity(), small(Flush::Inline));
        let log = log.unwrap();
        let machine = Machine::new(Journal::default(), snapshots(home.path()), &log).unwrap();
        Ok((home, log, machine))
    }
}

#[test]
fn the_engines_suite_passes_on_a_simulated_runtime_in_the_same_steps_each_time() {
    let run = || {
        let mut runtime = Sim::with_seed(7);
        runtime.record_trace(true);
        runtime.block_on(Suite::test_all(SimStores)).unwrap();
        runtime.take_trace()
    };
    let first = run();
    assert!(!first.is_empty());
    assert_eq!(first, run());
}

async fn apply(machine: &mut Machine<Journal>, entries: Vec<Entry>) {
    let items = entries.into_iter().map(|entry| Ok((entry, None)));
    let entries = stream::iter(items);
    machine.apply(entries).await.unwrap();
}

async fn build(builder: &mut Builder<Journal>) -> SnapshotFile {
    let built = RaftSnapshotBuilder::<Types<Runtime>>::build_snapshot(builder).await.unwrap();
    assert_eq!(&built.meta, built.snapshot.meta());
    built.snapshot
}

fn commands(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|index| entry(1, index, format!("command {index}"))).collect()
}

/// Adds its digest up while it is copied, and says how often it was asked for all of it.
#[derive(Default)]
struct Large {
    journal: Journal,
    asked: u64,
}

impl StateMachine for Large {
    fn apply(&mut self, entry: Applied<'_>) -> bytes::Bytes {
        self.journal.apply(entry)
    }

    fn schema(&self) -> arrow_schema::SchemaRef {
        self.journal.schema()
    }

    fn begin_snapshot(&mut self) -> Result<(), MachineError> {
        self.journal.begin_snapshot()
    }

    fn snapshot_part(&mut self) -> Result<Option<arrow_array::RecordBatch>, MachineError> {
        self.journal.snapshot_part()
    }

    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<arrow_array::RecordBatch, MachineError>>,
    ) -> Result<(), MachineError> {
        self.journal.restore(batches)
    }

    fn digest(&mut self) -> u64 {
        self.asked += 1;
        self.journal.digest()
    }

    fn copies_digest(&self) -> bool {
        true
    }

    fn copied_digest(&mut self) -> u64 {
        self.journal.digest()
    }
}

#[tokio::test]
async fn a_snapshot_of_a_large_state_has_the_digest_of_its_rows() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&home.path().join("log"), small(Flush::Thread));
    let mut machine = Machine::new(Large::default(), snapshots(home.path()), &log).unwrap();
    machine.apply(stream::iter(commands(0..500).into_iter().map(|e| Ok((e, None))))).await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    let built = RaftSnapshotBuilder::<Types<Runtime>>::build_snapshot(&mut builder).await.unwrap();
    let (asked, digest) = machine.with_machine(|large| (large.asked, large.journal.digest()));
    assert_eq!((asked, built.snapshot.digest()), (0, digest));

    let fresh = tempfile::tempdir().unwrap();
    let log = open(&fresh.path().join("log"), small(Flush::Thread));
    let mut other = Machine::new(Large::default(), snapshots(fresh.path()), &log).unwrap();
    let file = built.snapshot;
    let mut incoming = other.snapshots().receive(file.id()).unwrap();
    let whole = file.chunk(0, usize::MAX).unwrap();
    incoming.write(0, &whole).unwrap();
    other.install_snapshot(file.meta(), incoming.finish().unwrap()).await.unwrap();
    assert_eq!(other.with_machine(|large| large.asked), 1, "it is compared");
}

fn membership(index: u64, ids: &[u64]) -> Entry {
    let voters = ids.iter().copied().collect();
    let member = crate::types::Member::new(vec!["a:1".to_owned()]);
    let nodes: std::collections::BTreeMap<_, _> =
        ids.iter().map(|id| (*id, member.clone())).collect();
    let membership = crate::stored::Membership::new(vec![voters], nodes).unwrap();
    Entry {
        log_id: LogId::new_term_index(1, index),
        payload: openraft::EntryPayload::Membership(membership),
    }
}

#[tokio::test]
async fn a_node_that_was_removed_is_remembered_by_snapshots() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, mut machine) = parts(home.path(), Flush::Thread);
    let entries = vec![membership(0, &[1, 9]), membership(1, &[1])];
    append(&mut log, entries.clone()).await;
    assert!(!machine.knew(9));
    apply(&mut machine, entries).await;
    assert!(machine.knew(9));
    build(&mut machine.get_snapshot_builder().await).await;
    log.save_committed(Some(LogId::new_term_index(1, 1))).await.unwrap();
    log.purge(LogId::new_term_index(1, 1)).await.unwrap();
    drop((log, machine));
    let (_log, machine) = restart(home.path()).await.unwrap();
    assert!(machine.knew(1) && machine.knew(9) && !machine.knew(2));
}

/// What the restart of a node does before it takes part.
async fn restart(home: &Path) -> Result<(LogStore, Machine<Journal>), String> {
    let mut log = open(&home.join("log"), small(Flush::Thread));
    let machine = Machine::new(Journal::default(), snapshots(home), &log);
    let mut machine = machine.map_err(|error| error.to_string())?;
    let mut helper = StorageHelper::<Types, _, _>::new(&mut log, &mut machine).with_id(1);
    helper.get_initial_state().await.map_err(|error| error.to_string())?;
    Ok((log, machine))
}

#[tokio::test]
async fn a_snapshot_is_of_the_state_at_its_begin_whatever_is_applied_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let (_log, mut machine) = parts(home.path(), Flush::Thread);
    apply(&mut machine, commands(0..1_000)).await;
    let digest = machine.with_machine(crate::machine::StateMachine::digest);
    let mut builder = machine.get_snapshot_builder().await;
    let mut applied = machine.applied();
    let (mut other, built) =
        (machine.clone(), tokio::spawn(async move { build(&mut builder).await }));
    for index in 1_000..1_500 {
        apply(&mut other, commands(index..index + 1)).await;
    }
    let file = built.await.unwrap();
    assert_eq!(*applied.borrow_and_update(), 1_499);
    assert_eq!((file.rows(), file.batches_count()), (1_000, 10));
    assert_eq!((file.digest(), file.id().index), (digest, 999));

    let fresh = tempfile::tempdir().unwrap();
    let (_log, mut restored) = parts(fresh.path(), Flush::Thread);
    restored.install_snapshot(file.meta(), received(&restored, &file)).await.unwrap();
    assert_eq!(restored.with_machine(crate::machine::StateMachine::digest), digest);
    assert_eq!(*restored.applied().borrow(), 999);
    assert_eq!(restored.with_machine(|journal| journal.commands.len()), 1_000);
}

/// The snapshot as it comes from another node.
fn received(machine: &Machine<Journal>, file: &SnapshotFile) -> SnapshotFile {
    let mut incoming = machine.snapshots().receive(file.id()).unwrap();
    while incoming.received() < file.id().bytes {
        let chunk = file.chunk(incoming.received(), 10_000).unwrap();
        incoming.write(incoming.received(), &chunk).unwrap();
    }
    incoming.finish().unwrap()
}

#[tokio::test]
async fn a_snapshot_that_the_machine_gives_up_is_begun_again() {
    let home = tempfile::tempdir().unwrap();
    let (_log, mut machine) = parts(home.path(), Flush::Thread);
    apply(&mut machine, commands(0..10)).await;
    let mut builder = machine.get_snapshot_builder().await;
    apply(&mut machine, commands(10..20)).await;
    machine.with_machine(Journal::give_up_snapshot);
    let file = build(&mut builder).await;
    assert_eq!((file.id().index, file.rows()), (19, 20));
}

#[tokio::test]
async fn a_machine_that_takes_no_snapshot_puts_it_off() {
    use crate::coordinator::EngineMachine;
    use prost::Message as _;
    let home = tempfile::tempdir().unwrap();
    let log = open(&home.path().join("log"), small(Flush::Thread));
    let machine = Machine::new(EngineMachine::new(), snapshots(home.path()), &log);
    let mut machine: Machine<EngineMachine> = machine.unwrap();
    assert!(machine.try_create_snapshot_builder(false).await.is_some());
    let newer = sheaf_proto::raft::v1::CoordinatorCommand {
        version: 9,
        ..sheaf_proto::raft::v1::CoordinatorCommand::default()
    };
    let newer = Ok((entry(1, 0, newer.encode_to_vec()), None));
    machine.apply(stream::iter([newer])).await.unwrap();
    assert!(machine.try_create_snapshot_builder(false).await.is_none());
}

#[tokio::test]
async fn a_restart_restores_the_snapshot_and_applies_the_log_after_it() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, mut machine) = parts(home.path(), Flush::Thread);
    append(&mut log, commands(0..300)).await;
    apply(&mut machine, commands(0..200)).await;
    build(&mut machine.get_snapshot_builder().await).await;
    log.purge(LogId::new_term_index(1, 150)).await.unwrap();
    log.save_committed(Some(LogId::new_term_index(1, 249))).await.unwrap();
    drop((log, machine));
    let (_log, machine) = restart(home.path()).await.unwrap();
    assert_eq!(*machine.applied().borrow(), 249);
    let expected: Vec<u64> = (0..250).collect();
    let found = machine.with_machine(|journal| {
        journal.commands.iter().map(|(index, _)| *index).collect::<Vec<_>>()
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_damaged_snapshot_is_replaced_by_the_one_before_where_the_log_covers_it() {
    for purged in [80, 180] {
        let home = tempfile::tempdir().unwrap();
        let (mut log, mut machine) = parts(home.path(), Flush::Thread);
        append(&mut log, commands(0..300)).await;
        apply(&mut machine, commands(0..100)).await;
        build(&mut machine.get_snapshot_builder().await).await;
        apply(&mut machine, commands(100..200)).await;
        let newest = build(&mut machine.get_snapshot_builder().await).await;
        log.purge(LogId::new_term_index(1, purged)).await.unwrap();
        log.save_committed(Some(LogId::new_term_index(1, 299))).await.unwrap();
        drop((log, machine));
        let mut bytes = std::fs::read(newest.path()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(newest.path(), bytes).unwrap();
        let restarted = restart(home.path()).await;
        if purged == 80 {
            let (_log, machine) = restarted.unwrap();
            assert_eq!(*machine.applied().borrow(), 299);
            assert_eq!(machine.with_machine(|journal| journal.commands.len()), 300);
        } else {
            let problem = restarted.err().expect("entries are missing");
            assert!(problem.contains("entries up to 180 are no longer in the log"), "{problem}");
            assert!(problem.contains("up to 99") && problem.contains("is damaged"), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_whose_log_is_gone_is_not_started_from() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, mut machine) = parts(home.path(), Flush::Thread);
    append(&mut log, commands(0..100)).await;
    apply(&mut machine, commands(0..100)).await;
    build(&mut machine.get_snapshot_builder().await).await;
    drop((log, machine));
    std::fs::remove_dir_all(home.path().join("log")).unwrap();
    // The second time there is the directory that the first try made.
    for _ in 0..2 {
        let problem = restart(home.path()).await.err().expect("it must not start");
        assert!(problem.contains("and no log: put the log back"), "{problem}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_installed_takes_the_place_of_one_that_is_built() {
    let home = tempfile::tempdir().unwrap();
    let (_log, mut leader) = parts(home.path(), Flush::Thread);
    apply(&mut leader, commands(0..500)).await;
    let newer = build(&mut leader.get_snapshot_builder().await).await;

    let home = tempfile::tempdir().unwrap();
    let (_log, mut machine) = parts(home.path(), Flush::Thread);
    apply(&mut machine, commands(0..300)).await;
    let mut builder = machine.get_snapshot_builder().await;
    machine.install_snapshot(newer.meta(), received(&machine, &newer)).await.unwrap();
    assert_eq!(build(&mut builder).await.id(), newer.id());
    assert_eq!(machine.snapshots().current().unwrap().id(), newer.id());
}

#[tokio::test]
async fn a_snapshot_of_another_state_than_announced_is_not_installed() {
    let home = tempfile::tempdir().unwrap();
    let (_log, mut machine) = parts(home.path(), Flush::Thread);
    apply(&mut machine, commands(0..10)).await;
    let file = build(&mut machine.get_snapshot_builder().await).await;
    let mut meta = file.meta().clone();
    meta.last_log_id = Some(LogId::new_term_index(1, 12));
    let error = machine.install_snapshot(&meta, file).await.unwrap_err();
    assert!(error.to_string().contains("is not 1-9-"), "{error}");
    assert_eq!(machine.with_machine(|journal| journal.commands.len()), 10);
}
