//! Names of what is stored.

use crate::error::Error;

/// The folder that is ours alone.
pub(super) const OURS: &str = "_sheaf";

/// As long as Kafka lets a topic's name be.
const LONGEST: usize = 249;

/// Digits of an offset in a name, so that names sort as offsets do.
const DIGITS: usize = 20;

const EXTENSION: &str = ".parquet";

/// One partition of one topic, whose name can be a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    topic: String,
    number: i32,
}

impl Partition {
    pub(super) fn new(topic: &str, number: i32) -> Result<Self, Error> {
        check(topic)?;
        Ok(Partition { topic: topic.to_owned(), number })
    }

    pub(super) fn key(&self) -> (String, i32) {
        (self.topic.clone(), self.number)
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn number(&self) -> i32 {
        self.number
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> String {
        format!("{}/partition-{}", self.topic, self.number)
    }

    /// The file of the messages from `start` on.
    pub(super) fn file(&self, start: i64) -> String {
        format!("{}/{}", self.folder(), file(start))
    }

    /// What says where it began.
    pub(super) fn begin(&self) -> String {
        format!("{}/_begin.json", self.folder())
    }

    /// Where things wait until they are decided.
    pub(super) fn pending(&self) -> String {
        format!("{OURS}/pending/{}", self.folder())
    }
}

/// The name of a file that begins with this offset.
pub(super) fn file(start: i64) -> String {
    format!("{start:0DIGITS$}{EXTENSION}")
}

/// The offset that a file of this name begins with; none where it is no file of ours.
pub(super) fn start_of(name: &str) -> Option<i64> {
    number(name.strip_suffix(EXTENSION)?)
}

/// An offset as it is in names.
pub(super) fn number(digits: &str) -> Option<i64> {
    let all = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// Refuses what cannot be a folder: everything that cannot be a topic either.
pub(super) fn check(topic: &str) -> Result<(), Error> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = match topic {
        "" => "it is empty",
        "." | ".." => "a folder cannot be called so",
        OURS => "this folder is Sheaf's own",
        _ if topic.len() > LONGEST => "it is longer than 249 bytes",
        _ if !topic.chars().all(word) => "letters, digits, `.`, `_` and `-` are allowed",
        _ => return Ok(()),
    };
    let shown: String = topic.chars().take(LONGEST).collect();
    Err(Error::Invalid(format!("topic {shown:?} has no files: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_offsets_and_read_back() {
        let starts = [0, 9, 10, 99_999, i64::MAX];
        let named: Vec<String> = starts.iter().map(|start| file(*start)).collect();
        assert!(named.is_sorted());
        let read: Vec<_> = named.iter().filter_map(|name| start_of(name)).collect();
        assert_eq!(read, starts);
        let ours = format!("{}.x", file(3));
        for other in
            ["_begin.json", "3.parquet", "x.parquet", &ours, "00000000000000000-03.parquet"]
        {
            assert_eq!(start_of(other), None, "{other}");
        }
        // Twenty digits may be more than an offset is.
        assert_eq!(start_of("99999999999999999999.parquet"), None);
    }

    #[test]
    fn a_name_that_could_lead_elsewhere_is_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a\0", "ä", "_sheaf", "a b", &"x".repeat(250)] {
            assert!(Partition::new(bad, 0).is_err(), "{bad:?}");
        }
        let of = Partition::new("a.b-c_D9", 3).unwrap();
        assert_eq!(of.file(7), "a.b-c_D9/partition-3/00000000000000000007.parquet");
    }
}
