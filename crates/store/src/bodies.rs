//! In which compression a reader wants bodies.

use std::fmt;
use std::str::FromStr;

use sheaf_flight::Error;
use sheaf_flight::ipc::Compression;

/// The word for [`Bodies::AsPut`].
const AS_PUT: &str = "as-put";

/// In which compression a reader wants the bodies of a payload.
///
/// As text, in the header `sheaf-compression` of a DoGet: `as-put`, or codecs
/// as in `zstd, lz4`, the best one first.
///
/// ```
/// use sheaf_flight::ipc::Compression;
/// use sheaf_store::Bodies;
///
/// let wanted: Bodies = "zstd, none".parse()?;
/// assert_eq!(wanted, Bodies::in_one_of([Compression::Zstd, Compression::None]));
/// assert_eq!(wanted.to_string(), "zstd, none");
/// # Ok::<(), sheaf_flight::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// As they are stored: nothing is computed. Parts of a payload (columns or
    /// rows) are not compressed then.
    #[default]
    Stored,
    /// As they were put: those that the store compressed are what they were,
    /// byte for byte. Of whole payloads only.
    AsPut,
    /// A body that is stored in one of these codecs is sent as it is stored,
    /// any other in the first of them; so are parts of a payload, which are
    /// made anew. One that would not be shorter is not compressed, whatever is
    /// asked for. None at all reads as [`Bodies::Stored`].
    OneOf(Vec<Compression>),
}

impl Bodies {
    /// In one of these codecs, the best one first.
    pub fn in_one_of(codecs: impl IntoIterator<Item = Compression>) -> Self {
        Bodies::OneOf(codecs.into_iter().collect())
    }

    /// The codec of what is encoded anew; `None` where that cannot be.
    pub(crate) fn of_parts(&self) -> Option<Compression> {
        match self {
            Bodies::Stored => Some(Compression::None),
            Bodies::AsPut => None,
            Bodies::OneOf(codecs) => Some(codecs.first().copied().unwrap_or_default()),
        }
    }

    /// As a header has it; `None` where none is needed.
    pub(crate) fn header(&self) -> Option<String> {
        match self {
            Bodies::Stored => None,
            Bodies::OneOf(codecs) if codecs.is_empty() => None,
            other => Some(other.to_string()),
        }
    }
}

impl fmt::Display for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bodies::Stored => f.write_str("stored"),
            Bodies::AsPut => f.write_str(AS_PUT),
            Bodies::OneOf(codecs) => {
                let names: Vec<_> = codecs.iter().map(|codec| codec.as_str()).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

impl FromStr for Bodies {
    type Err = Error;

    /// # Errors
    /// `invalid_argument` for a word that is no codec, one that is there
    /// twice, and `as-put` beside others.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: String| {
            sheaf_flight::invalid(format!(
                "{text:?}: {why}; write as-put, or codecs of none, lz4 and zstd with commas between them, the best one first"
            ))
        };
        if text.trim() == AS_PUT {
            return Ok(Bodies::AsPut);
        }
        let mut codecs = Vec::new();
        for word in text.split(',').map(str::trim) {
            let codec = word.parse().map_err(|_| refuse(format!("{word:?} is no codec")))?;
            if codecs.contains(&codec) {
                return Err(refuse(format!("{word:?} is there twice")));
            }
            codecs.push(codec);
        }
        Ok(Bodies::OneOf(codecs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_others_say_why() {
        for text in ["as-put", "none", "zstd", "zstd, lz4", "lz4, none, zstd"] {
            assert_eq!(text.parse::<Bodies>().unwrap().to_string(), text);
            assert_eq!(text.parse::<Bodies>().unwrap().header().as_deref(), Some(text));
        }
        assert_eq!(" zstd,lz4 ".parse::<Bodies>().unwrap().to_string(), "zstd, lz4");
        for (wrong, why) in [
            ("", "\"\" is no codec"),
            ("gzip", "\"gzip\" is no codec"),
            ("ZSTD", "\"ZSTD\" is no codec"),
            ("zstd,", "\"\" is no codec"),
            ("zstd;q=1", "is no codec"),
            ("zstd, zstd", "there twice"),
            ("as-put, none", "\"as-put\" is no codec"),
            ("stored", "is no codec"),
        ] {
            let error = wrong.parse::<Bodies>().unwrap_err();
            assert!(error.message().contains(why), "{wrong:?}: {error}");
            assert!(error.message().contains("write as-put, or codecs of none"), "{error}");
        }
        assert_eq!((Bodies::Stored.header(), Bodies::OneOf(Vec::new()).header()), (None, None));
    }
}
