//! Names and passwords of a handshake, by header or by message as the first
//! byte says: what is read is the same when it is written and read again.

use arrow_flight::BasicAuth;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use sheaf_flight::fuzzing;

use super::support::refused;

/// What headers and messages are made of.
pub(crate) const WORDS: &[&str] =
    &["Basic ", "basic ", "YWRhOnB3", "OmE=", "=", "\n", "\x12", "\x1a", "\x7f", ":"];

fn header(name: &str, password: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))).into_bytes()
}

fn message(name: &str, password: &str) -> Vec<u8> {
    BasicAuth { username: name.to_owned(), password: password.to_owned() }.encode_to_vec()
}

fn seed(kind: u8, bytes: Vec<u8>) -> Vec<u8> {
    [vec![kind], bytes].concat()
}

/// Both forms, with and without padding.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let unpadded = format!("BASIC {}", STANDARD_NO_PAD.encode("a:b:c"));
    vec![
        seed(1, header("ada", "pw")),
        seed(1, header("", "")),
        seed(1, unpadded.into_bytes()),
        seed(0, message("ada", "pw")),
        seed(0, message("grün", "")),
        seed(0, Vec::new()),
    ]
}

/// Reads, writes and reads again.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    let is_header = kind % 2 == 1;
    let read = |bytes: &[u8]| match is_header {
        true => fuzzing::basic(bytes),
        false => fuzzing::basic_auth(Bytes::copy_from_slice(bytes)),
    };
    let (name, password) = match read(bytes) {
        Ok(pair) => pair,
        Err(error) => {
            refused(&error);
            return false;
        }
    };
    assert!(!is_header || !name.contains(':'), "{name:?}");
    let write = if is_header { header } else { message };
    assert_eq!(read(&write(&name, &password)).ok(), Some((name, password)));
    true
}
