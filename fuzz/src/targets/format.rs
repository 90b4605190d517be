//! The file `FORMAT`: nothing but a number that this build knows opens.

use std::path::PathBuf;

use sheaf_retry::Code;
use sheaf_store::fuzzing;
use tempfile::TempDir;

use super::support::refused;

/// What the file may hold.
pub(crate) const WORDS: &[&str] = &["1", "0", "2", "+", "-", "\n", "18446744073709551616"];

thread_local! {
    static HOME: TempDir = tempfile::tempdir().expect("a directory");
}

/// The file as it is written, and as it might look.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    ["1\n", "01", "+1", " 1\n", "0", "2\n", "one"].map(|text| text.as_bytes().to_vec()).into()
}

/// Opens a directory with this file.
pub(crate) fn run(data: &[u8]) -> bool {
    let home: PathBuf = HOME.with(|home| home.path().to_path_buf());
    let number = std::str::from_utf8(data).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let answer = fuzzing::format(&home, data);
    let accepted = answer.is_ok();
    match (answer, number) {
        (Ok(()), Some(1)) => {}
        (Err(error), Some(2..)) => assert_eq!(refused(&error), Code::FormatNewer),
        // The first format is 1.
        (Err(error), None | Some(0)) => assert_eq!(refused(&error), Code::Corrupt),
        (answer, number) => panic!("{number:?} is answered by {answer:?}"),
    }
    accepted
}
