//! What a server answers, and how it is read: RESP2.

use std::io::{self, BufRead, Read as _};

/// A string longer than this is not read.
const MAX_STRING: u64 = 64 << 20;
/// Items of one array.
const MAX_ITEMS: u64 = 1 << 20;
/// Arrays within arrays.
const MAX_DEPTH: usize = 16;
/// The line before a string, or a short answer.
const MAX_LINE: u64 = 64 << 10;

/// An answer of a Valkey or Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `OK`, `PONG` and their like.
    Status(String),
    /// An error within an array, as `EXEC` gives them.
    Error(String),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// Nothing there: a missing key, a transaction that was given up.
    Nil,
    /// Several answers.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a status, error or string; `None` for others and for bytes
    /// that are no text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Status(text) | Reply::Error(text) => Some(text),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Reply::Integer(_) | Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The number, also of a string that is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// The items of an array; none of anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) => items,
            _ => &[],
        }
    }

    /// The value that follows this name in an array of names and values.
    pub fn field(&self, name: &str) -> Option<&Reply> {
        let pairs = self.items().chunks_exact(2);
        pairs.filter(|pair| pair[0].text() == Some(name)).map(|pair| &pair[1]).next()
    }
}

/// A command as the server reads it.
pub(super) fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads one answer.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    read_at(from, 0)
}

fn read_at(from: &mut impl BufRead, depth: usize) -> io::Result<Reply> {
    let line = read_line(from)?;
    let mut text = line.chars();
    let kind = text.next().ok_or_else(|| malformed("an empty line"))?;
    let rest = text.as_str();
    let number = || rest.parse::<i64>().map_err(|_| malformed(format!("{line:?}")));
    // Only -1 is nothing; other negative lengths are as wrong as those too long.
    let length = |limit: u64| match number()? {
        -1 => Ok(None),
        length => match u64::try_from(length) {
            Ok(length) if length <= limit => Ok(Some(length)),
            _ => Err(malformed(format!("a length of {length}; the limit is {limit}"))),
        },
    };
    Ok(match kind {
        '+' => Reply::Status(rest.to_owned()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Integer(number()?),
        '$' => match length(MAX_STRING)? {
            None => Reply::Nil,
            Some(length) => Reply::Bulk(read_string(from, length)?),
        },
        '*' => match length(MAX_ITEMS)? {
            None => Reply::Nil,
            Some(_) if depth == MAX_DEPTH => return Err(malformed("arrays in too many arrays")),
            Some(count) => {
                let items = (0..count).map(|_| read_at(from, depth + 1));
                Reply::Array(items.collect::<io::Result<_>>()?)
            }
        },
        _ => return Err(malformed(format!("{line:?}"))),
    })
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| malformed("a line without its end"))?;
    Ok(String::from_utf8_lossy(line).into_owned())
}

fn read_string(from: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref().take(length + 2).read_to_end(&mut bytes)?;
    let whole = bytes.len() as u64 == length + 2;
    if whole && bytes.ends_with(b"\r\n") {
        bytes.truncate(bytes.len() - 2);
        return Ok(bytes);
    }
    Err(if whole {
        malformed("a string without its end")
    } else {
        io::ErrorKind::UnexpectedEof.into()
    })
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("an answer that is no RESP2: {}", what.into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> io::Result<Reply> {
        read(&mut io::BufReader::with_capacity(3, bytes))
    }

    #[test]
    fn every_kind_of_answer_is_read() {
        let bytes =
            b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*2\r\n$1\r\nn\r\n$2\r\n12\r\n";
        let reply = parse(bytes).unwrap();
        let [status, error, number, bulk, nil, pair] = reply.items() else { panic!("{reply:?}") };
        assert_eq!(status, &Reply::Status("OK".into()));
        assert_eq!(error, &Reply::Error("ERR no".into()));
        assert_eq!(number.integer(), Some(-7));
        assert_eq!(bulk.text(), Some("a\r\nb"));
        assert_eq!((nil, nil.text(), nil.items()), (&Reply::Nil, None, &[][..]));
        assert_eq!(pair.field("n").and_then(Reply::integer), Some(12));
        assert_eq!(pair.field("m"), None);
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
        let broken: [&[u8]; 8] =
            [b"", b"+OK", b"$4\r\nab", b"$1\r\nabc", b"$-2\r\n", b":x\r\n", b"%1\r\n", &deep];
        for bytes in broken {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(parse(b"$999999999999\r\n").unwrap_err().to_string().contains("the limit"));
    }

    #[test]
    fn commands_carry_the_length_of_each_word() {
        assert_eq!(encode(&["SET", "é", ""]), b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$0\r\n\r\n");
    }
}
