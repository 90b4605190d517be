//! A file, as it was seen last.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sheaf_terminal::Failure;

use super::super::super::file;

/// A file that changed no longer ago may have changed since in the same tick of its clock.
const FRESH: u64 = 4;

/// See the module.
pub(super) struct Seen {
    path: PathBuf,
    text: String,
    metadata: Option<(i64, i64, u64, u64)>,
    /// For how many looks it was the same.
    age: u64,
    is_missing: bool,
}

impl Seen {
    /// One whose text is known.
    pub(super) fn new(path: &Path, text: String) -> Self {
        Seen { path: path.to_owned(), text, metadata: None, age: 0, is_missing: false }
    }

    /// Its name and its text, where that is another one.
    pub(super) fn look(&mut self) -> Result<Option<(String, String)>, Failure> {
        let now = std::fs::metadata(&self.path).ok().map(|found| facts(&found));
        self.age = if now == self.metadata { self.age + 1 } else { 0 };
        self.metadata = now;
        if now.is_some() && self.age > FRESH {
            return Ok(None);
        }
        match file::read(&self.path) {
            Ok((name, text)) => {
                self.is_missing = false;
                if text == self.text {
                    return Ok(None);
                }
                self.text.clone_from(&text);
                Ok(Some((name, text)))
            }
            // Editors take a file away for a moment when they save it.
            Err(_) if self.age == 0 || self.is_missing => Ok(None),
            Err(failure) => {
                self.is_missing = true;
                Err(failure)
            }
        }
    }
}

fn facts(metadata: &Metadata) -> (i64, i64, u64, u64) {
    (metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &Path) -> Seen {
        Seen::new(path, "one".to_owned())
    }

    #[test]
    fn only_another_text_is_news_however_the_file_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut file = seen(&path);
        assert!(file.look().unwrap().is_none());
        // As an editor does it: another file under the same name, and then the same text anew.
        std::fs::write(folder.path().join("new"), "two").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "two");
        std::fs::write(&path, "two").unwrap();
        assert!(file.look().unwrap().is_none());
        // As long, and perhaps in the same tick.
        std::fs::write(&path, "owt").unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "owt");
    }

    #[test]
    fn a_file_that_is_away_is_said_once_and_after_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut file = seen(&path);
        assert!(file.look().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().is_none(), "it may come back");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.look().unwrap().unwrap().1, "two");
        std::fs::remove_file(&path).unwrap();
        let told = (0..5).filter(|_| file.look().is_err()).count();
        assert_eq!(told, 1);
    }
}
