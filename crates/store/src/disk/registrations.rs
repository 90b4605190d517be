//! A look at the journal of registrations, which changes nothing in it.

use std::io;
use std::path::Path;

use super::directory::REGISTERED_FILE;
use super::journal::Scan;
use crate::error::{Error, io_error};

/// What `registered.log` was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrations {
    /// There is none yet.
    Absent,
    /// So many records, and a torn end of so many bytes: after a crash, or of a
    /// server that writes right now.
    Whole {
        /// Records.
        records: u64,
        /// Bytes behind them.
        torn: u64,
    },
    /// It begins as no journal does.
    Foreign,
    /// Between whole records stands something else.
    Damaged {
        /// Records that can be read.
        records: u64,
        /// Bytes that cannot.
        bytes: u64,
    },
    /// A newer version wrote it.
    Newer {
        /// Its version.
        found: u64,
        /// The newest that this build reads.
        supported: u64,
    },
}

impl Registrations {
    /// Looks at the journal of a data directory. Reads the whole file.
    pub(super) fn of(root: &Path) -> Result<Self, Error> {
        let path = root.join(REGISTERED_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => return Ok(Registrations::Absent),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Registrations::Absent);
            }
            Err(error) => return Err(io_error("read", &path, error)),
        };
        let Scan { records, whole, damaged } = match Scan::of(&bytes, &path) {
            Ok(scan) => scan,
            Err(Error::FormatNewer { found, supported, .. }) => {
                return Ok(Registrations::Newer { found, supported });
            }
            Err(error) => return Err(error),
        };
        let (records, torn) = (records.len() as u64, (bytes.len() - whole) as u64);
        Ok(match (whole, damaged) {
            (0, _) => Registrations::Foreign,
            (_, 0) => Registrations::Whole { records, torn },
            (_, bytes) => Registrations::Damaged { records, bytes: bytes as u64 },
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use sheaf_proto::storage::v1::RegistrationRecord;

    use super::super::journal;
    use super::*;

    fn record(id: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        journal::frame(&journal::over(id).encode_to_vec(), &mut bytes);
        bytes
    }

    fn found(bytes: &[u8]) -> Registrations {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REGISTERED_FILE);
        std::fs::write(&path, bytes).unwrap();
        let found = Registrations::of(folder.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "a look changes nothing");
        found
    }

    #[test]
    fn a_torn_end_is_told_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Registrations::of(folder.path()).unwrap(), Registrations::Absent);
        let (head, first, second) = (journal::head(), record("a"), record("b"));
        let whole = [head.clone(), first.clone(), second.clone()].concat();
        assert_eq!(found(&[]), Registrations::Absent);
        assert_eq!(found(&head), Registrations::Whole { records: 0, torn: 0 });
        assert_eq!(found(&whole), Registrations::Whole { records: 2, torn: 0 });
        for torn in 1..second.len() {
            let expected = Registrations::Whole { records: 1, torn: torn as u64 };
            assert_eq!(found(&whole[..whole.len() - second.len() + torn]), expected, "{torn}");
        }
        // Any byte of the first record, its length included.
        for bad in head.len()..head.len() + first.len() {
            let mut bytes = whole.clone();
            bytes[bad] ^= 0x41;
            let expected = Registrations::Damaged { records: 1, bytes: first.len() as u64 };
            assert_eq!(found(&bytes), expected, "byte {bad}");
        }
    }

    #[test]
    fn newer_ones_and_other_files_are_told() {
        for other in ["x", "SHEAF", "SHEAFREG", "something else that is long"] {
            assert_eq!(found(other.as_bytes()), Registrations::Foreign, "{other:?}");
        }
        let newer = RegistrationRecord { version: 99, ..journal::over("a") };
        let mut bytes = journal::head();
        journal::frame(&newer.encode_to_vec(), &mut bytes);
        assert!(matches!(found(&bytes), Registrations::Newer { found: 99, .. }));
        let mut head = journal::head();
        head[8] = 98;
        assert!(matches!(found(&head), Registrations::Newer { found: 98, .. }));
    }
}
