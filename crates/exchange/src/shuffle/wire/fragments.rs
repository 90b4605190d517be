//! Chunks that fit no message of the namespace, in pieces that do.

use serde::{Deserialize, Serialize};
use sheaf_flight::Message;

use super::{Error, MAX_MESSAGE_BYTES};

/// Room in a message for what it says about itself.
pub(in super::super) const METADATA_BYTES: usize = 256;

/// Bytes of the body of each fragment.
const FRAGMENT_BYTES: usize = 16 << 20;

/// Largest chunk, in bytes: it is read as one message.
pub(in super::super) const MAX_CHUNK_BYTES: usize =
    sheaf_flight::MAX_MESSAGE_BYTES - METADATA_BYTES;

/// Most fragments of a chunk.
const MAX_FRAGMENTS: u32 = 1_024;

/// Which part of a chunk a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Part {
    /// From 0; the first has the header, all of them some of the body.
    pub(in super::super) fragment: u32,
    pub(in super::super) of: u32,
    /// Header and body of the chunk.
    pub(in super::super) bytes: u64,
}

/// The messages of a chunk: itself, where it fits.
pub(in super::super) fn cut(message: &Message) -> Vec<(Option<Part>, Message)> {
    if message.len() <= MAX_MESSAGE_BYTES - METADATA_BYTES {
        return vec![(None, message.clone())];
    }
    let mut messages = vec![Message { header: message.header.clone(), ..Message::default() }];
    let mut room = FRAGMENT_BYTES;
    for piece in &message.body {
        let mut piece = piece.clone();
        while !piece.is_empty() {
            if room == 0 {
                messages.push(Message::default());
                room = FRAGMENT_BYTES;
            }
            let head = piece.split_to(piece.len().min(room));
            room -= head.len();
            if let Some(last) = messages.last_mut() {
                last.body.push(head);
            }
        }
    }
    let (of, bytes) = (u32::try_from(messages.len()).unwrap_or(u32::MAX), message.len() as u64);
    let part = |fragment| Some(Part { fragment, of, bytes });
    (0..).map(part).zip(messages).collect()
}

/// Puts fragments together, which follow each other. Nothing is copied.
#[derive(Debug, Default)]
pub(in super::super) struct Gathering {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    partition: u32,
    sequence: u64,
    next: Part,
    found: u64,
    message: Message,
}

impl Gathering {
    /// Whether a chunk has come in part.
    pub(in super::super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes a message; the chunk, once it is whole.
    ///
    /// What it holds is for the caller to bound: the size is in the first part.
    pub(in super::super) fn add(
        &mut self,
        (partition, sequence): (u32, u64),
        part: Option<Part>,
        message: Message,
    ) -> Result<Option<Message>, Error> {
        let wrong = |what: String| {
            let text = format!("chunk {sequence} of partition {partition}: {what}");
            Err(Error::Protocol(text))
        };
        let Some(part) = part else {
            return match self.open.take() {
                None => Ok(Some(message)),
                Some(open) => wrong(format!("chunk {} lacks fragments", open.sequence)),
            };
        };
        let Part { fragment, of, bytes } = part;
        let is_possible = (2..=MAX_FRAGMENTS).contains(&of) && fragment < of;
        if !is_possible || bytes > MAX_CHUNK_BYTES as u64 {
            return wrong(format!(
                "fragment {fragment} of {of} with {bytes} bytes in all; there may be 2 to \
                 {MAX_FRAGMENTS} with {MAX_CHUNK_BYTES} bytes"
            ));
        }
        let more = (message.header.len() + message.body_len()) as u64;
        let mut open = match self.open.take() {
            None if fragment == 0 => {
                Open { partition, sequence, next: part, found: 0, message: Message::default() }
            }
            Some(open)
                if (open.partition, open.sequence, open.next) == (partition, sequence, part) =>
            {
                open
            }
            None => return wrong(format!("fragment {fragment} comes without the first")),
            Some(open) => {
                let (next, chunk) = (open.next.fragment, open.sequence);
                return wrong(format!(
                    "fragment {fragment} comes, {next} of chunk {chunk} is next"
                ));
            }
        };
        open.found += more;
        let is_last = fragment + 1 == of;
        if open.found > bytes || (is_last && open.found != bytes) {
            return wrong(format!("its fragments have {} bytes, not {bytes}", open.found));
        }
        if (fragment == 0) == message.header.is_empty() {
            return wrong("its first fragment has the header, and no other has one".to_owned());
        }
        if fragment == 0 {
            open.message = message;
        } else {
            open.message.body.extend(message.body);
        }
        open.next.fragment += 1;
        if is_last {
            return Ok(Some(open.message));
        }
        self.open = Some(open);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn large() -> Message {
        let body = vec![Bytes::from(vec![1; 20 << 20]), Bytes::from(vec![2; 13 << 20])];
        Message { header: Bytes::from_static(b"header"), app_metadata: Bytes::new(), body }
    }

    #[test]
    fn a_chunk_is_cut_and_put_together_without_a_copy() {
        let large = large();
        let parts = cut(&large);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|(_, one)| one.len() <= FRAGMENT_BYTES + 6));
        let mut gathering = Gathering::default();
        let mut whole = None;
        for (part, message) in parts {
            assert!(whole.is_none());
            whole = gathering.add((3, 7), part, message).unwrap();
        }
        let whole = whole.unwrap();
        assert_eq!(whole.header, large.header);
        assert!(whole.contiguous_body() == large.contiguous_body());
        assert_eq!(whole.body[0].as_ptr(), large.body[0].as_ptr());
        let small = Message::new(Bytes::from_static(b"h"), Bytes::from_static(b"b"));
        assert_eq!(cut(&small), [(None, small)]);
    }

    #[test]
    fn fragments_that_do_not_follow_each_other_are_refused() {
        let parts = cut(&large());
        let part = |at: usize| parts[at].0;
        let sized = |bytes| part(0).map(|part| Part { bytes, ..part });
        let many = part(0).map(|part| Part { of: 2_000, ..part });
        for (given, says) in [
            (vec![(7, part(1), 1)], "without the first"),
            (vec![(7, part(0), 0), (7, part(2), 2)], "1 of chunk 7 is next"),
            (vec![(7, part(0), 0), (8, part(1), 1)], "1 of chunk 7 is next"),
            (vec![(7, part(0), 0), (8, None, 1)], "lacks fragments"),
            (vec![(7, part(0), 1)], "has the header"),
            (vec![(7, sized(100), 0)], "bytes, not 100"),
            (vec![(7, sized(u64::MAX), 0)], "2 to 1024"),
            (vec![(7, many, 0)], "2 to 1024"),
            (vec![(7, part(0), 0), (7, part(1), 1), (7, part(2), 1)], "bytes, not"),
        ] {
            let mut gathering = Gathering::default();
            let add = |(sequence, part, at): (u64, Option<Part>, usize)| {
                gathering.add((0, sequence), part, parts[at].1.clone())
            };
            let result: Result<Vec<_>, _> = given.into_iter().map(add).collect();
            let error = result.unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
