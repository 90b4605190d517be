//! Offsets of sources: versioned JSON.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sheaf_dataflow::ComponentError;
use sheaf_retry::Code;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    kind: String,
    at: T,
}

/// An offset of a source of this kind.
pub(crate) fn write<T: Serialize>(kind: &str, at: &T) -> Result<Bytes, ComponentError> {
    let versioned = Versioned { version: VERSION, kind: kind.to_owned(), at };
    let bytes = serde_json::to_vec(&versioned).map_err(|error| {
        ComponentError::new(Code::Internal, "an offset cannot be written").because(error)
    })?;
    Ok(bytes.into())
}

/// Reads it back.
pub(crate) fn read<T: DeserializeOwned>(
    kind: &str,
    offset: Option<&Bytes>,
) -> Result<Option<T>, ComponentError> {
    let Some(bytes) = offset else { return Ok(None) };
    let no_use = |why: String| {
        let text = format!(
            "the offset that is kept of this source {why}; remove the state of the component to \
             read from the beginning"
        );
        ComponentError::new(Code::FailedPrecondition, text)
    };
    let head = serde_json::from_slice::<Versioned<serde_json::Value>>(bytes)
        .map_err(|error| no_use("cannot be read".into()).because(error))?;
    if head.version > VERSION {
        let text = format!(
            "the offset that is kept of this source has version {}, this build knows {VERSION}; \
             use the newer Sheaf that wrote it",
            head.version
        );
        return Err(ComponentError::new(Code::FormatNewer, text));
    }
    if head.kind != kind {
        return Err(no_use(format!("is that of a source of kind {}, this is {kind}", head.kind)));
    }
    let at = serde_json::from_value(head.at);
    at.map(Some).map_err(|error| no_use("is not of its form".into()).because(error))
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Retryable as _;

    use super::*;

    #[test]
    fn an_offset_reads_back_and_a_strange_one_is_refused() {
        let written = write("file", &7_u64).unwrap();
        assert_eq!(read::<u64>("file", Some(&written)).unwrap(), Some(7));
        assert_eq!(read::<u64>("file", None).unwrap(), None);
        for (bytes, code) in [
            (&b"{}"[..], Code::FailedPrecondition),
            (b"\xff", Code::FailedPrecondition),
            (br#"{"version":1,"kind":"http","at":7}"#, Code::FailedPrecondition),
            (br#"{"version":1,"kind":"file","at":"x"}"#, Code::FailedPrecondition),
            (br#"{"version":2,"kind":"file","at":{}}"#, Code::FormatNewer),
        ] {
            let error = read::<u64>("file", Some(&Bytes::from_static(bytes))).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
