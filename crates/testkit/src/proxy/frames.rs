//! Where requests and replies of Valkey and Redis end, RESP2 and RESP3.

/// The longest line; what has a longer one is something else.
const MAX_LINE: usize = 64 << 10;

/// Finds the ends of frames in bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// Values that the frame still needs; of arrays, each item.
    left: u64,
    /// Bytes of a string that are still to come, with its line end.
    skip: u64,
    line: Vec<u8>,
}

impl Framer {
    /// Whether the next byte begins a frame.
    pub(super) fn at_start(&self) -> bool {
        self.left == 0 && self.skip == 0 && self.line.is_empty()
    }

    /// Goes on to the end of the frame, or of the bytes: how many were used and
    /// whether that was the end of the frame. `None` when this is not RESP.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        if self.at_start() {
            self.left = 1;
        }
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                self.skip -= skipped as u64;
                used += skipped;
            } else {
                let end = rest.iter().position(|byte| *byte == b'\n');
                let part = &rest[..end.map_or(rest.len(), |end| end + 1)];
                self.line.extend(part);
                used += part.len();
                if self.line.len() > MAX_LINE {
                    return None;
                }
                if end.is_some() {
                    self.header()?;
                    self.line.clear();
                }
            }
            if self.left == 0 && self.skip == 0 && self.line.is_empty() {
                return Some((used, true));
            }
        }
        Some((used, false))
    }

    /// Counts what the line announces.
    fn header(&mut self) -> Option<()> {
        let line = std::str::from_utf8(&self.line).ok()?;
        let (kind, rest) = (*self.line.first()?, line.get(1..)?.strip_suffix("\r\n")?);
        // -1 is nothing at all in place of a string or an array.
        let count = || match rest {
            "-1" => Some(None),
            rest => rest.parse::<u64>().ok().map(Some),
        };
        let items = match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => 0,
            b'$' | b'=' | b'!' => {
                self.skip = count()?.map_or(Some(0), |length| length.checked_add(2))?;
                0
            }
            b'*' | b'~' | b'>' => count()?.unwrap_or(0),
            b'%' => count()?.unwrap_or(0).checked_mul(2)?,
            // Attributes go before a value and are none.
            b'|' => count()?.unwrap_or(0).checked_mul(2)?.checked_add(1)?,
            _ => return None,
        };
        self.left = self.left.checked_sub(1)?.checked_add(items)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the frames, whatever pieces the bytes come in.
    fn lengths(bytes: &[u8], piece: usize) -> Option<Vec<usize>> {
        let (mut framer, mut lengths, mut length) = (Framer::default(), Vec::new(), 0);
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                assert_eq!(framer.at_start(), length == 0);
                let (used, done) = framer.advance(piece)?;
                length += used;
                piece = &piece[used..];
                if done {
                    lengths.push(std::mem::take(&mut length));
                }
            }
        }
        assert_eq!(length, 0, "the last frame is whole");
        Some(lengths)
    }

    #[test]
    fn frames_end_where_they_end_in_any_pieces() {
        let frames: [&[u8]; 12] = [
            b"+OK\r\n",
            b"-ERR \xc3\xa4\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\n$1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n+x\r\n",
            b"%1\r\n+k\r\n*1\r\n#t\r\n",
            b"|1\r\n+ttl\r\n:3\r\n$2\r\nab\r\n",
            b">2\r\n+push\r\n_\r\n",
        ];
        let wanted: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
        for piece in 1..40 {
            assert_eq!(lengths(&frames.concat(), piece).as_ref(), Some(&wanted), "{piece}");
        }
    }

    #[test]
    fn other_protocols_are_not_taken_for_it() {
        let http = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for other in [&http[..], b"PING\r\n", b"*x\r\n", b"$-2\r\n", b"\r\n", b"+OK\n"] {
            assert_eq!(lengths(other, 7), None, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(lengths(&vec![b'+'; MAX_LINE + 1], 1_000), None);
    }
}
