//! Files that are not as they should be.

use std::path::Path;

use redb::{Database, ReadableTable as _, TableDefinition};
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Kind, Status};
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{clock, directory, file, plan, registration, worker};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;
const COMPONENTS: Table = TableDefinition::new("components");
const PIPELINES: Table = TableDefinition::new("pipelines");
const META: Table = TableDefinition::new("meta");
const QUARANTINE: Table = TableDefinition::new("quarantine");

fn open(folder: &Path) -> Result<ControlPlane, sheaf_pipeline::registry::Error> {
    ControlPlane::open(Options { state: file(folder), ..Options::default() }, clock())
}

/// Changes the bytes of a record.
fn change(folder: &Path, table: Table, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let database = Database::open(folder.join("control.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(table).unwrap();
        let mut bytes = table.get(key).unwrap().unwrap().value().to_vec();
        change(&mut bytes);
        table.insert(key, &*bytes).unwrap();
    }
    write.commit().unwrap();
}

fn quarantined(folder: &Path) -> Vec<String> {
    keys(folder, QUARANTINE)
}

fn stored(folder: &Path) -> Vec<String> {
    keys(folder, COMPONENTS)
}

fn keys(folder: &Path, table: Table) -> Vec<String> {
    use redb::ReadableDatabase as _;
    let database = Database::open(folder.join("control.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(table).unwrap();
    table.iter().unwrap().map(|entry| entry.unwrap().0.value().to_owned()).collect()
}

/// Two pipelines, a source in each, and a worker. Answers the greatest fence.
async fn fill(folder: &Path) -> u64 {
    let plane = open(folder).unwrap();
    for name in ["orders", "payments"] {
        plane.plan(plan(name)).await.unwrap();
        plane.register(registration(&format!("{name}:read"), Kind::Source)).await.unwrap();
    }
    let last = plane.register(worker("w1")).await.unwrap();
    plane.close().await.unwrap();
    last.fence
}

#[tokio::test]
async fn damaged_records_are_reported_kept_aside_and_left_out() {
    let folder = directory();
    let fence = fill(folder.path()).await;
    change(folder.path(), COMPONENTS, "orders:read", |bytes| bytes[3] ^= 1);
    change(folder.path(), COMPONENTS, "w1", |bytes| bytes.truncate(4));
    change(folder.path(), PIPELINES, "payments", Vec::clear);
    let plane = open(folder.path()).unwrap();
    let damaged: Vec<_> = plane.damaged().iter().map(|found| &*found.name).collect();
    assert_eq!(damaged, ["pipelines/payments", "components/orders:read", "components/w1"]);
    assert_eq!(plane.damaged()[1].why, "its checksum does not match");
    // The plan still has the place: its component registers anew.
    let place = plane.component("orders:read".to_owned()).await.unwrap();
    assert_eq!(place.status, Status::Expected);
    let again = plane.register(registration("orders:read", Kind::Source)).await.unwrap();
    assert!(again.created && again.fence > fence);
    // What belongs to no plan any more is left out too.
    assert!(plane.component("payments:read".to_owned()).await.is_err());
    plane.close().await.unwrap();
    let aside = quarantined(folder.path());
    assert_eq!(aside, ["components/orders:read/2", "components/w1/2", "pipelines/payments/2"]);
    assert_eq!(stored(folder.path()), ["orders:read"], "the stray one is gone from the file");
    assert!(open(folder.path()).unwrap().damaged().is_empty(), "said once");
}

#[tokio::test]
async fn fences_go_up_though_what_was_stored_of_them_is_damaged() {
    let folder = directory();
    fill(folder.path()).await;
    let plane = open(folder.path()).unwrap();
    let before = plane.register(worker("w2")).await.unwrap().fence;
    plane.close().await.unwrap();
    change(folder.path(), META, "control", |bytes| bytes[1] ^= 1);
    let plane = open(folder.path()).unwrap();
    assert_eq!(plane.damaged()[0].name, "meta/control");
    assert!(plane.register(worker("w3")).await.unwrap().fence > before);
}

#[tokio::test]
async fn newer_records_are_refused_by_name_and_stay() {
    let folder = directory();
    fill(folder.path()).await;
    let newer = |bytes: &mut Vec<u8>| {
        bytes.truncate(bytes.len() - 5);
        // Field 1, the version, comes first.
        assert_eq!(bytes[..2], [8, 1]);
        bytes[1] = 9;
        let checksum = crc32c::crc32c(bytes).to_le_bytes();
        bytes.push(125);
        bytes.extend(checksum);
    };
    change(folder.path(), PIPELINES, "payments", newer);
    for _ in 0..2 {
        let error = open(folder.path()).unwrap_err();
        assert_eq!(error.code(), Code::FormatNewer);
        let text = error.to_string();
        assert!(text.contains("pipelines/payments is of version 9"), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_state_file_is_refused_and_not_touched() {
    let folder = directory();
    let path = folder.path().join("control.redb");
    std::fs::write(&path, "this is a diary, not a database\n".repeat(500)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error.code(), Code::Corrupt, "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before);
    let error = open(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.code(), Code::Io, "{error}");
}
