//! Names of files in a sink's directory.

use std::path::{Path, PathBuf};

use sheaf_proto::BatchId;

use crate::format::FileFormat;
use crate::sink::CommitKey;

/// Longest encoded identifier in a name: leaves room for the rest in the 255
/// bytes that file systems allow.
const MAX_ENCODED: usize = 200;

/// Who may read what: `part-*` is for everybody, `_*` for the sink alone
/// (names that begin with an underscore are skipped by readers of data sets).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) commits: PathBuf,
    pub(crate) format: FileFormat,
}

impl Layout {
    pub(crate) fn new(dir: &Path, format: FileFormat) -> Self {
        Layout { dir: dir.to_owned(), tmp: dir.join("_tmp"), commits: dir.join("_commits"), format }
    }

    /// Where readers find the batch.
    pub(crate) fn part(&self, id: &BatchId) -> PathBuf {
        self.dir.join(format!("part-{}.{}", encode(id), self.format.extension()))
    }

    /// Where an attempt writes.
    pub(crate) fn attempt(&self, key: &CommitKey) -> PathBuf {
        self.tmp.join(format!("{}.{}", encode(&key.id), key.fence))
    }

    /// Where an attempt keeps its commit record until it is decided.
    pub(crate) fn proposal(&self, key: &CommitKey) -> PathBuf {
        self.tmp.join(format!("{}.{}.json", encode(&key.id), key.fence))
    }

    /// The commit record, for formats without a footer.
    pub(crate) fn record(&self, id: &BatchId) -> PathBuf {
        self.commits.join(format!("{}.json", encode(id)))
    }
}

/// A file in `_tmp`, as its name tells: encoded identifier and fence.
pub(crate) fn attempt_of(name: &str) -> Option<(&str, u64)> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    let (id, fence) = name.rsplit_once('.')?;
    Some((id, fence.parse().ok()?))
}

/// The identifier with `:` as `%3A`, which some file systems and many readers
/// of data sets do not take in a name. One that becomes too long so (it has
/// dozens of colons) is cut and ends in `~` and a hash instead.
pub(crate) fn encode(id: &BatchId) -> String {
    let encoded = id.as_str().replace(':', "%3A");
    if encoded.len() <= MAX_ENCODED {
        return encoded;
    }
    let hash = twox_hash::XxHash3_128::oneshot(id.as_str().as_bytes());
    let head: String = id.as_str().chars().filter(|c| *c != ':').take(100).collect();
    format!("{head}~{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BatchId {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_unique_and_short_enough() {
        assert_eq!(encode(&id("orders:2026.11-x_Y")), "orders%3A2026.11-x_Y");
        let (colons, other) = (":".repeat(200), format!("{}a", ":".repeat(199)));
        assert_ne!(encode(&id(&colons)), encode(&id(&other)));
        assert_ne!(encode(&id("a:")), encode(&id("a.")));
        let layout = Layout::new(Path::new("/d"), FileFormat::Parquet);
        for long in [colons, "x".repeat(200), format!("{}{}", "x:".repeat(99), "yy")] {
            let key = CommitKey { id: id(&long), fence: u64::MAX };
            for path in [layout.part(&key.id), layout.proposal(&key), layout.record(&key.id)] {
                assert!(path.file_name().unwrap().len() <= 255, "{}", path.display());
            }
        }
    }

    #[test]
    fn attempts_read_back_even_with_dots() {
        let layout = Layout::new(Path::new("/d"), FileFormat::Csv);
        let key = CommitKey { id: id("a.7.json"), fence: 12 };
        for path in [layout.attempt(&key), layout.proposal(&key)] {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(attempt_of(&name), Some(("a.7.json", 12)));
        }
        assert_eq!(attempt_of("stray"), None);
    }
}
