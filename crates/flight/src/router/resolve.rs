//! From what a client names to a namespace and what it holds.

use sheaf_retry::Code;

use crate::error::{Error, invalid};
use crate::handler::{Descriptor, RawDescriptor};

/// The namespace that a command descriptor names an entry of.
pub(super) const COMMAND_NAMESPACE: &str = "batches";
/// Longest ticket, and longest descriptor, in bytes.
const MAX_NAME_BYTES: usize = 16 << 10;
/// Most elements of a path.
pub(crate) const MAX_PATH: usize = 16;
/// Longest id of a batch, in bytes.
const MAX_ID: usize = 200;

/// A descriptor as it came from the wire; the first message of a stream may
/// have none.
pub(crate) type Asked = Option<RawDescriptor>;

/// Reads a descriptor; whether its namespace exists is for the router to say.
pub(crate) fn descriptor(asked: Asked) -> Result<Descriptor, Error> {
    const FORM: &str = "write [\"NAMESPACE\"] or [\"NAMESPACE\", NAME]";
    let asked = asked.ok_or_else(|| invalid(format!("there is no descriptor: {FORM}")))?;
    match bounded(asked)? {
        RawDescriptor::Path(path) if path.is_empty() => {
            Err(invalid(format!("the path of the descriptor is empty: {FORM}")))
        }
        RawDescriptor::Path(path) => Ok(Descriptor { path, is_command: false }),
        RawDescriptor::Command(command) => {
            let id = utf8("command", &command)?;
            let path = vec![COMMAND_NAMESPACE.to_owned(), id.to_owned()];
            Ok(Descriptor { path, is_command: true })
        }
    }
}

/// Refuses a descriptor that is too long, whatever it names.
pub(super) fn bounded(descriptor: RawDescriptor) -> Result<RawDescriptor, Error> {
    match &descriptor {
        RawDescriptor::Path(path) => {
            let bytes: usize = path.iter().map(String::len).sum();
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
        }
        RawDescriptor::Command(command) => short("command", command)?,
    }
    Ok(descriptor)
}

/// Refuses a ticket that is too long, whatever it names.
pub(super) fn bounded_ticket(ticket: &[u8]) -> Result<&[u8], Error> {
    short("ticket", ticket)?;
    Ok(ticket)
}

/// Whether a command has the form of a batch's id.
pub(super) fn could_be_id(command: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    !command.is_empty() && command.len() <= MAX_ID && command.iter().all(allowed)
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
    short(what, bytes)?;
    std::str::from_utf8(bytes).map_err(|error| invalid(format!("the {what} is not UTF-8: {error}")))
}

fn short(what: &str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(Error::new(
        Code::LimitExceeded,
        format!("the {what} has {} bytes, at most {MAX_NAME_BYTES} are allowed", bytes.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sheaf_retry::Retryable as _;

    fn path(elements: &[&str]) -> Asked {
        Some(RawDescriptor::Path(elements.iter().map(|&element| element.to_owned()).collect()))
    }

    fn command(bytes: impl Into<Bytes>) -> Asked {
        Some(RawDescriptor::Command(bytes.into()))
    }

    #[test]
    fn a_command_is_the_id_of_a_batch() {
        let descriptor = descriptor(command("orders:1")).unwrap();
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
            (None, Code::InvalidArgument),
            (path(&[]), Code::InvalidArgument),
            (path(&["x"; 17]), Code::LimitExceeded),
            (command(""), Code::InvalidArgument),
            (command(vec![0xff]), Code::InvalidArgument),
            (command(vec![b'a'; MAX_NAME_BYTES + 1]), Code::LimitExceeded),
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
    #[test]
    fn only_what_can_be_an_id_is_one_where_commands_mean_other_things_too() {
        for id in [&b"orders:1"[..], b"a", b"A.b_c-9", &[b'x'; 200]] {
            assert!(could_be_id(id), "{id:?}");
        }
        for other in [&b""[..], b"SELECT 1", b"a/b", b"\xff", b"a\0", &[b'x'; 201]] {
            assert!(!could_be_id(other), "{other:?}");
        }
    }
}
