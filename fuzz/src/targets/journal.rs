//! The journal of registrations: any file opens or is refused by its version,
//! what is read of it stays, and what is appended is found again.

use std::path::PathBuf;

use sheaf_retry::Code;
use sheaf_store::fuzzing::{self, Registration};
use tempfile::TempDir;

use super::support::{Input, push_chunk, refused};

/// What the file may hold.
pub(crate) const WORDS: &[&str] = &["SHEAFREG", "\u{1}\u{0}\u{0}\u{0}", "a", "b", "spec"];

thread_local! {
    static HOME: TempDir = tempfile::tempdir().expect("a directory");
}

/// What an input may be: a file, or records for which the frames are made.
const RAW: u8 = 1;

/// Files as they are written, whole and torn.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let records = [
        Registration { id: "a".into(), sequence: 1, spec: b"spec".to_vec() },
        Registration { id: "b".into(), sequence: u64::MAX, spec: Vec::new() },
        Registration { id: "a".into(), sequence: 2, spec: vec![0; 300] },
    ];
    let file = fuzzing::journal_file(&records, &["b"]);
    let raw = |bytes: &[u8]| [&[RAW][..], bytes].concat();
    let mut framed = vec![0];
    for record in fuzzing::journal_records(&records, &["b"]) {
        push_chunk(&mut framed, &record);
    }
    vec![raw(&file), raw(&file[..file.len() - 3]), raw(&file[..12]), raw(b""), framed]
}

/// Opens it, appends to it, opens it again.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let bytes = match input.byte() & RAW {
        RAW => input.rest().to_vec(),
        _ => {
            let mut records = Vec::new();
            while !input.is_empty() {
                records.push(input.chunk().to_vec());
            }
            fuzzing::journal_of(&records)
        }
    };
    let path: PathBuf = HOME.with(|home| home.path().join("registered.log"));
    std::fs::write(&path, bytes).expect("a file");
    let new = Registration { id: "new".into(), sequence: 7, spec: b"of it".to_vec() };
    let before = match fuzzing::journal(&path, Some(&new)) {
        Ok(known) => known,
        Err(error) => {
            assert_eq!(refused(&error), Code::FormatNewer, "{error}");
            return false;
        }
    };
    let mut wanted = before.clone();
    wanted.retain(|known| known.id != new.id);
    wanted.push(new);
    wanted.sort();
    let mut after = fuzzing::journal(&path, None).expect("it was written by this build");
    after.sort();
    assert_eq!(after, wanted, "what was read, and what was appended");
    !before.is_empty()
}
