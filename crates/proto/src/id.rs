//! Names that cross process borders.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest identifier, in characters.
pub const MAX_ID_LENGTH: usize = 200;

/// The identifier of a batch: 1 to 200 characters of `[A-Za-z0-9._:-]`.
///
/// Cheap to clone. Identifiers made by a server are version 7 UUIDs, which
/// sort by the time they were made.
///
/// ```
/// use sheaf_proto::BatchId;
///
/// let id: BatchId = "orders:2026-11-21".parse()?;
/// assert_eq!(id.as_str(), "orders:2026-11-21");
/// assert!("no spaces".parse::<BatchId>().is_err());
/// # Ok::<(), sheaf_proto::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(Arc<str>);

/// The text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("a batch id has 1 to {MAX_ID_LENGTH} characters, this one is empty")]
    Empty,
    /// More characters than allowed.
    #[error("a batch id has at most {MAX_ID_LENGTH} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("a batch id is made of letters, digits and . _ : -, not {0:?}")]
    Character(char),
}

impl BatchId {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// [`InvalidId`] says what is wrong with it.
    pub fn try_new(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if let Some(bad) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-')))
        {
            return Err(InvalidId::Character(bad));
        }
        if text.len() > MAX_ID_LENGTH {
            return Err(InvalidId::TooLong(text.len()));
        }
        Ok(BatchId(text.into()))
    }

    /// A new identifier that sorts by `unix_ms`, the caller's time in
    /// milliseconds since 1970; within one millisecond the order is random.
    pub fn generate(unix_ms: u64) -> Self {
        let nanos = u32::try_from(unix_ms % 1000).unwrap_or(0) * 1_000_000;
        let time = uuid::Timestamp::from_unix(uuid::NoContext, unix_ms / 1000, nanos);
        BatchId(uuid::Uuid::new_v7(time).to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for BatchId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for BatchId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for BatchId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        BatchId::try_new(text)
    }
}

impl serde::Serialize for BatchId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BatchId::try_new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact() {
        assert!(BatchId::try_new(&"a".repeat(200)).is_ok());
        assert_eq!(BatchId::try_new(&"a".repeat(201)), Err(InvalidId::TooLong(201)));
        assert_eq!(BatchId::try_new(""), Err(InvalidId::Empty));
        assert_eq!(BatchId::try_new("a/b"), Err(InvalidId::Character('/')));
        assert_eq!(BatchId::try_new("ä"), Err(InvalidId::Character('ä')));
    }

    #[test]
    fn generated_ones_are_valid_and_ascend() {
        let (first, second) = (BatchId::generate(1_000), BatchId::generate(1_001));
        assert!(first < second);
        assert_ne!(first, BatchId::generate(1_000));
        assert_eq!(BatchId::try_new(first.as_str()), Ok(first));
    }
}
