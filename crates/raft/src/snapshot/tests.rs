//! Snapshots through crashes, damage, breaks, and other readers.

mod bytes;
mod crash;
mod full;
mod incoming;
mod large;
mod python;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array as _, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{Head, Options, SnapshotFile, Snapshots};
use crate::stored::{LogId, Membership, SnapshotMeta, StoredMembership};

fn open(home: &Path) -> Snapshots {
    Snapshots::open(home, "test", Options::default()).unwrap()
}

fn schema() -> SchemaRef {
    let field = Field::new("value", DataType::Binary, false);
    Arc::new(Schema::new(vec![field]))
}

fn head(index: u64) -> Head {
    let voters = [1, 2, 3].into_iter().collect();
    let membership = Membership::new_with_defaults(vec![voters], []);
    let meta = SnapshotMeta {
        last_log_id: Some(LogId::new_term_index(3, index)),
        last_membership: StoredMembership::new(Some(LogId::new_term_index(2, 1)), membership),
    };
    Head { meta, nodes: Vec::new(), digest: 42, schema: schema() }
}

/// Of `rows` rows, by their number.
fn batch(number: u64, rows: usize, bytes: usize) -> RecordBatch {
    let value = vec![u8::try_from(number % 251).unwrap(); bytes];
    let values: BinaryArray = (0..rows).map(|_| Some(value.as_slice())).collect();
    assert_eq!(values.len(), rows);
    RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap()
}

fn make(snapshots: &Snapshots, index: u64, batches: u64) -> SnapshotFile {
    let mut writer = snapshots.write(&head(index)).unwrap();
    for number in 0..batches {
        writer.write(&batch(number, 10, 100)).unwrap();
    }
    let path = writer.finish().unwrap();
    snapshots.adopt(snapshots.check_file(&path).unwrap()).unwrap()
}

fn names(home: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        paths.map(|path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
