//! The one request of Kafka's protocol that every broker answers to anybody.
//!
//! # Source
//! Apache Kafka, "A guide to the Kafka protocol": `ApiVersions`, version 0.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Error;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

const API_VERSIONS: i16 = 18;
const CORRELATION_ID: i32 = 0x5eaf;
const CLIENT: &[u8; CLIENT_LENGTH as usize] = b"sheaf-testkit";
const CLIENT_LENGTH: u8 = 13;

/// More than any broker says about itself.
const MAX_ANSWER: usize = 1 << 20;

/// A request that a broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersion {
    /// Its number: 0 is Produce, 1 Fetch, 3 Metadata, 68 ConsumerGroupHeartbeat.
    pub key: i16,
    /// The oldest version.
    pub min: i16,
    /// The newest version.
    pub max: i16,
}

/// Asks the broker what it knows; by key.
pub(super) fn api_versions(addr: SocketAddr) -> Result<Vec<ApiVersion>, Error> {
    ask(addr).and_then(|answer| parse(&answer)).map_err(Error::io(format!("ask the broker {addr}")))
}

fn ask(addr: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&request())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| bad("a negative size"))?;
    if size > MAX_ANSWER {
        return Err(bad("a size beyond all reason"));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Size, key, version, correlation id, client; version 0 has no body.
fn request() -> Vec<u8> {
    let mut request = vec![0, 0, 0, 10 + CLIENT_LENGTH];
    request.extend(API_VERSIONS.to_be_bytes());
    request.extend(0_i16.to_be_bytes());
    request.extend(CORRELATION_ID.to_be_bytes());
    request.extend([0, CLIENT_LENGTH]);
    request.extend(CLIENT);
    request
}

/// Correlation id, error code, and a counted array of three numbers each.
fn parse(answer: &[u8]) -> io::Result<Vec<ApiVersion>> {
    let short = || bad("too short an answer");
    let (correlation, rest) = answer.split_first_chunk().ok_or_else(short)?;
    if i32::from_be_bytes(*correlation) != CORRELATION_ID {
        return Err(bad("an answer to another question"));
    }
    let (error, rest) = rest.split_first_chunk().ok_or_else(short)?;
    if i16::from_be_bytes(*error) != 0 {
        return Err(bad(&format!("error code {}", i16::from_be_bytes(*error))));
    }
    let (count, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let count = usize::try_from(i32::from_be_bytes(*count)).map_err(|_| bad("no list"))?;
    let entries = rest.chunks_exact(6);
    if entries.len() != count || !entries.remainder().is_empty() {
        return Err(bad("a list of another length than it says"));
    }
    let number = |pair: &[u8]| i16::from_be_bytes([pair[0], pair[1]]);
    let version = |entry: &[u8]| ApiVersion {
        key: number(&entry[..2]),
        min: number(&entry[2..4]),
        max: number(&entry[4..]),
    };
    let mut known: Vec<ApiVersion> = entries.map(version).collect();
    known.sort_by_key(|api| api.key);
    Ok(known)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not speak Kafka: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_others_are_refused() {
        let whole = [0, 0, 0x5e, 0xaf, 0, 0, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
        assert_eq!(parse(&whole).unwrap(), [ApiVersion { key: 18, min: 0, max: 4 }]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
        let changed = |at: usize, byte| {
            let mut answer = whole;
            answer[at] = byte;
            parse(&answer).unwrap_err().to_string()
        };
        assert!(changed(3, 0).ends_with("an answer to another question"));
        assert!(changed(5, 35).ends_with("error code 35"));
        assert!(changed(9, 2).ends_with("a list of another length than it says"));
        assert!(changed(6, 0xff).ends_with("no list"));
    }
}
