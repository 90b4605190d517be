//! From the pipes of an instance to its log.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::super::logs::{LogWriter, MAX_LINE};

/// How long the rest of the output may take after the end of the instance.
pub(super) const REST: Duration = Duration::from_secs(2);

/// Begins to read both streams, as far as they are pipes.
pub(super) fn start(
    child: &mut Child,
    log: &Arc<Mutex<LogWriter>>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let output = child.stdout.take().map(OwnedFd::from);
    let error = child.stderr.take().map(OwnedFd::from);
    let mut pumps = Vec::new();
    for (is_error, stream) in [(false, output), (true, error)] {
        let Some(stream) = stream else { continue };
        let stream = pipe::Receiver::from_owned_fd(stream)?;
        pumps.push(tokio::spawn(pump(stream, is_error, Arc::clone(log))));
    }
    Ok(pumps)
}

async fn pump(mut stream: impl AsyncRead + Unpin, is_error: bool, log: Arc<Mutex<LogWriter>>) {
    let mut lines = Lines::default();
    let mut piece = vec![0_u8; MAX_LINE];
    loop {
        let read = stream.read(&mut piece).await;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(0) | Err(_) => {
                lines.end(|line| log.line(is_error, line));
                log.flush();
                return;
            }
            Ok(count) => lines.take(&piece[..count], |line| log.line(is_error, line)),
        }
        log.flush();
    }
}

/// Bytes to lines, long ones in pieces.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add(&bytes[..at], &mut line);
            line(&std::mem::take(&mut self.0));
            bytes = &bytes[at + 1..];
        }
        self.add(bytes, &mut line);
    }

    fn add(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.0.len() + bytes.len() > MAX_LINE {
            let (head, tail) = bytes.split_at(MAX_LINE - self.0.len());
            self.0.extend_from_slice(head);
            line(&std::mem::take(&mut self.0));
            bytes = tail;
        }
        self.0.extend_from_slice(bytes);
    }

    fn end(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.0.is_empty() {
            line(&std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, |line| found.push(line.to_vec()));
        }
        lines.end(|line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn pieces_become_lines_and_the_last_needs_no_end() {
        assert_eq!(lines(&[b"a\nb", b"c\n\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_of_bounded_length() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        let lengths: Vec<usize> = lines(&[&long, b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 5]);
    }
}
