//! The raw messages of one partition, side by side in one buffer.

/// Messages of one topic partition, in the order of their offsets.
///
/// All bytes lie in one buffer, so a consumer copies each message once and
/// gives its own memory back at once. [`clear`](Messages::clear) keeps the
/// room for the next batch.
///
/// ```
/// use sheaf_kafka::Messages;
///
/// let mut messages = Messages::default();
/// messages.push(41, Some(1_795_219_200_000), Some(b"k"), Some(b"{}"), [("trace", None)]);
/// messages.push(42, None, Some(b"k"), None, []); // a tombstone
///
/// assert_eq!((messages.first_offset(), messages.last_offset()), (Some(41), Some(42)));
/// assert_eq!(messages.get(0).unwrap().headers().next(), Some(("trace", None)));
/// assert!(messages.get(1).unwrap().is_tombstone());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<Header>,
    tombstones: usize,
}

/// Where the parts of one message end in the buffer; it begins where the one
/// before it ends.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
    end: usize,
}

/// The lengths of one header, which lies after the value of its message.
#[derive(Clone, Copy, Debug)]
struct Header {
    name: usize,
    value: Option<usize>,
}

impl Messages {
    /// Appends a message. Without a value it is a tombstone.
    pub fn push<'a>(
        &mut self,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        for (name, value) in headers {
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.extend_from_slice(value.unwrap_or_default());
            self.headers.push(Header { name: name.len(), value: value.map(<[u8]>::len) });
        }
        self.tombstones += usize::from(value.is_none());
        self.entries.push(Entry {
            offset,
            timestamp_ms,
            key: key.map(<[u8]>::len),
            value: value.map(<[u8]>::len),
            headers: self.headers.len(),
            end: self.bytes.len(),
        });
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes that the messages occupy here.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
            + self.entries.len() * size_of::<Entry>()
            + self.headers.len() * size_of::<Header>()
    }

    /// The bytes that it has room for.
    pub(crate) fn room_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.headers.capacity() * size_of::<Header>()
    }

    /// The bytes of keys, values and headers alone.
    pub(crate) fn content_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether one of them is a tombstone.
    pub(crate) fn has_tombstones(&self) -> bool {
        self.tombstones > 0
    }

    /// Whether one of them has headers.
    pub(crate) fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// The message at a position, from 0.
    pub fn get(&self, index: usize) -> Option<MessageRef<'_>> {
        let entry = *self.entries.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.entries.get(before));
        let (start, first) = before.map_or((0, 0), |before| (before.end, before.headers));
        Some(MessageRef {
            bytes: &self.bytes[start..entry.end],
            headers: &self.headers[first..entry.headers],
            entry,
        })
    }

    /// All messages in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MessageRef<'_>> {
        let mut start = 0;
        let mut first = 0;
        self.entries.iter().map(move |entry| {
            let message = MessageRef {
                bytes: &self.bytes[start..entry.end],
                headers: &self.headers[first..entry.headers],
                entry: *entry,
            };
            (start, first) = (entry.end, entry.headers);
            message
        })
    }

    /// The offset of the first message.
    pub fn first_offset(&self) -> Option<i64> {
        self.entries.first().map(|entry| entry.offset)
    }

    /// The offset of the last message.
    pub fn last_offset(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.offset)
    }

    /// Forgets the messages and keeps the room they had.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.headers.clear();
        self.tombstones = 0;
    }
}

/// One message of [`Messages`].
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    bytes: &'a [u8],
    headers: &'a [Header],
    entry: Entry,
}

impl<'a> MessageRef<'a> {
    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.entry.offset
    }

    /// Its time in milliseconds since 1970, where it has one.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.entry.timestamp_ms
    }

    /// Its key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.entry.key.map(|length| &self.bytes[..length])
    }

    /// Its value; none for a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        let start = self.entry.key.unwrap_or_default();
        self.entry.value.map(|length| &self.bytes[start..start + length])
    }

    /// Whether it says that its key is gone.
    pub fn is_tombstone(&self) -> bool {
        self.entry.value.is_none()
    }

    /// The bytes that are repeated for each row that it has.
    pub(crate) fn repeated_bytes(&self) -> usize {
        self.bytes.len() - self.entry.value.unwrap_or_default()
    }

    /// How many headers it has.
    pub fn header_count(&self) -> usize {
        self.headers.len()
    }

    /// Its headers in order; a name may come more than once.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut at = self.entry.key.unwrap_or_default() + self.entry.value.unwrap_or_default();
        let bytes = self.bytes;
        self.headers.iter().map(move |header| {
            let name = &bytes[at..at + header.name];
            at += header.name;
            let value = header.value.map(|length| &bytes[at..at + length]);
            at += header.value.unwrap_or_default();
            // It was a text when it was pushed.
            (std::str::from_utf8(name).unwrap_or_default(), value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_pushed() {
        let mut messages = Messages::default();
        for _ in 0..2 {
            messages.push(7, Some(-1), None, Some(b"v"), []);
            messages.push(9, None, Some(b""), None, [("a", Some(&b"1"[..])), ("a", None)]);
            messages.push(10, None, Some(b"key"), Some(b""), [("", Some(&b""[..]))]);

            let parts: Vec<_> = messages.iter().map(|m| (m.offset(), m.key(), m.value())).collect();
            assert_eq!(
                parts,
                [
                    (7, None, Some(&b"v"[..])),
                    (9, Some(&b""[..]), None),
                    (10, Some(&b"key"[..]), Some(&b""[..])),
                ]
            );
            let headers: Vec<_> = messages.get(1).unwrap().headers().collect();
            assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None)]);
            assert_eq!(messages.get(2).unwrap().headers().next(), Some(("", Some(&b""[..]))));
            assert_eq!(messages.get(0).unwrap().timestamp_ms(), Some(-1));
            assert!(messages.get(3).is_none());
            assert_eq!((messages.len(), messages.last_offset()), (3, Some(10)));
            messages.clear();
            assert!(messages.is_empty() && messages.first_offset().is_none());
        }
    }
}
