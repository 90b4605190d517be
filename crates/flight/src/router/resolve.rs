//! From what a client names to a namespace and what it holds.

use bytes::Bytes;
use sheaf_retry::Code;

use crate::error::{Error, invalid};
use crate::handler::Descriptor;

/// The namespace that a command descriptor names an entry of.
pub(super) const COMMAND_NAMESPACE: &str = "batches";
/// Longest ticket, and longest descriptor, in bytes.
const MAX_NAME_BYTES: usize = 16 << 10;
/// Most elements of a path.
const MAX_PATH: usize = 16;

/// A descriptor as it came from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A path.
    Path(Vec<String>),
    /// A command.
    Command(Bytes),
    /// The first message of a stream has none.
    Nothing,
}

/// Reads a descriptor; whether its namespace exists is for the router to say.
pub(crate) fn descriptor(asked: Asked) -> Result<Descriptor, Error> {
    const FORM: &str = "write [\"NAMESPACE\"] or [\"NAMESPACE\", NAME]";
    match asked {
        Asked::Nothing => Err(invalid(format!("there is no descriptor: {FORM}"))),
        Asked::Path(path) => {
            let bytes: usize = path.iter().map(String::len).sum();
            if path.is_empty() {
                return Err(invalid(format!("the path of the descriptor is empty: {FORM}")));
            }
            if path.len() > MAX_PATH || bytes > MAX_NAME_BYTES {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!(
                        "the path of the descriptor has {} elements and {bytes} bytes, \
                         at most {MAX_PATH} and {MAX_NAME_BYTES} are allowed",
                        path.len()
                    ),
                ));
            }
            Ok(Descriptor { path, is_command: false })
        }
        Asked::Command(command) => {
            let id = utf8("command", &command)?;
            let path = vec![COMMAND_NAMESPACE.to_owned(), id.to_owned()];
            Ok(Descriptor { path, is_command: true })
        }
    }
}

/// The text of a ticket, and the namespace it begins with.
pub(crate) fn ticket(bytes: &[u8]) -> Result<(&str, &str), Error> {
    let text = utf8("ticket", bytes)?;
    let namespace = text.split(['/', '?']).next().unwrap_or(text);
    if namespace.is_empty() {
        return Err(invalid(format!(
            "ticket {text:?} does not begin with a namespace: write NAMESPACE/NAME"
        )));
    }
    Ok((namespace, text))
}

fn utf8<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    if bytes.is_empty() {
        return Err(invalid(format!("the {what} is empty")));
    }
    if bytes.len() > MAX_NAME_BYTES {
        return Err(Error::new(
            Code::LimitExceeded,
            format!("the {what} has {} bytes, at most {MAX_NAME_BYTES} are allowed", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes).map_err(|error| invalid(format!("the {what} is not UTF-8: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::Retryable as _;

    fn path(elements: &[&str]) -> Asked {
        Asked::Path(elements.iter().map(|&element| element.to_owned()).collect())
    }

    #[test]
    fn a_command_is_the_id_of_a_batch() {
        let descriptor = descriptor(Asked::Command(Bytes::from_static(b"orders:1"))).unwrap();
        assert_eq!(descriptor.path, ["batches", "orders:1"]);
        assert!(descriptor.is_command);
    }

    #[test]
    fn a_path_stays_as_it_is() {
        let descriptor = descriptor(path(&["topics", "t", "0"])).unwrap();
        assert_eq!(descriptor.path, ["topics", "t", "0"]);
        assert!(!descriptor.is_command);
    }

    #[test]
    fn what_is_no_descriptor_is_refused_by_kind() {
        let cases = [
            (Asked::Nothing, Code::InvalidArgument),
            (path(&[]), Code::InvalidArgument),
            (path(&["x"; 17]), Code::LimitExceeded),
            (Asked::Command(Bytes::new()), Code::InvalidArgument),
            (Asked::Command(Bytes::from_static(&[0xff])), Code::InvalidArgument),
            (Asked::Command(vec![b'a'; MAX_NAME_BYTES + 1].into()), Code::LimitExceeded),
        ];
        for (asked, code) in cases {
            assert_eq!(descriptor(asked).unwrap_err().code(), code);
        }
    }

    #[test]
    fn tickets_begin_with_their_namespace() {
        assert_eq!(ticket(b"batches/a?limit=1").unwrap(), ("batches", "batches/a?limit=1"));
        assert_eq!(ticket(b"topics?x=1").unwrap().0, "topics");
        for wrong in [&b""[..], b"/a", b"\xff"] {
            assert_eq!(ticket(wrong).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
