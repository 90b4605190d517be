//! Files that were changed or cut off.

use std::path::{Path, PathBuf};

use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{PutOptions, Store};
use sheaf_testkit::TempDir;

use crate::support::{batch, files, get, messages, options, put};

/// A data directory with one payload, its file and the file's bytes.
async fn one_payload() -> (TempDir, PathBuf, Vec<u8>, Vec<sheaf_flight::Message>) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    // One dictionary for both batches, as the file format has it.
    let mut sent = messages(&[batch(1, 8), batch(1, 3)]);
    sent[2].app_metadata = "mine".into();
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    store.close().await;
    let file = files(folder.path(), "arrow").remove(0);
    let bytes = std::fs::read(&file).unwrap();
    (folder, file, bytes, sent)
}

/// What the store makes of the directory: the messages that were put, or none.
async fn look(folder: &Path, sent: &[sheaf_flight::Message]) -> bool {
    let store = Store::open(options(folder)).await.unwrap();
    let quarantined = store.stats().quarantined;
    let served = match get(&store, "x").await {
        Ok(got) => {
            assert_eq!(got, sent);
            true
        }
        Err(error) => {
            assert!([Code::NotFound, Code::Corrupt].contains(&error.code()), "{error}");
            // Never again, and the name is free.
            assert_eq!(get(&store, "x").await.unwrap_err().code(), Code::NotFound);
            assert_eq!(store.stats().quarantined, quarantined.max(1));
            put(&store, "x", sent, PutOptions::DISK).await.unwrap();
            assert_eq!(get(&store, "x").await.unwrap(), sent);
            false
        }
    };
    store.close().await;
    let aside = std::fs::read_dir(folder.join("batches/quarantine")).unwrap().count();
    assert_eq!(aside, usize::from(!served));
    if aside > 0 {
        std::fs::remove_dir_all(folder.join("batches/quarantine")).unwrap();
    }
    served
}

#[tokio::test]
async fn no_changed_bit_is_served() {
    let (folder, file, bytes, sent) = one_payload().await;
    let (mut served, mut refused) = (0, 0);
    // A prime, so that all offsets within a word and all bits come up.
    for position in (0..bytes.len()).step_by(37) {
        let mut changed = bytes.clone();
        changed[position] ^= 1 << (position % 8);
        std::fs::write(&file, &changed).unwrap();
        if look(folder.path(), &sent).await { served += 1 } else { refused += 1 }
    }
    // Padding may change unnoticed; what is data may not.
    assert!(served > 0 && refused > bytes.len() / 37 / 2, "{served} served, {refused} refused");
}

#[tokio::test]
async fn no_part_of_a_file_is_served_and_other_files_are_no_payloads() {
    let (folder, file, bytes, sent) = one_payload().await;
    for length in (0..bytes.len()).step_by(211).chain([bytes.len() - 1]) {
        std::fs::write(&file, &bytes[..length]).unwrap();
        assert!(!look(folder.path(), &sent).await, "{length} of {} bytes", bytes.len());
    }
    std::fs::write(&file, [&bytes[..], b"more"].concat()).unwrap();
    assert!(!look(folder.path(), &sent).await);
    // Its own bytes under another name.
    std::fs::write(&file, &bytes).unwrap();
    std::fs::rename(&file, file.with_file_name("y.arrow")).unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.payloads, stats.quarantined), (0, 1));
}

#[tokio::test]
async fn pyarrow_reads_the_files() {
    let Some(python) = sheaf_testkit::python() else { return };
    let (_folder, file, _, _) = one_payload().await;
    let script = "import sys, pyarrow as pa\n\
        reader = pa.ipc.open_file(sys.argv[1])\n\
        table = reader.read_all()\n\
        table.validate(full=True)\n\
        assert table.schema.metadata == {b'made by': b'a test'}, table.schema\n\
        assert b'sheaf.payload' in reader.metadata, reader.metadata\n\
        print(table.num_rows, reader.num_record_batches, table['number'][8])\n";
    let run = std::process::Command::new(python).args(["-c", script]).arg(&file).output().unwrap();
    let error = String::from_utf8_lossy(&run.stderr);
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), "11 2 1000", "{error}");
}
