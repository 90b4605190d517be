//! What a process prints: all of it in a file, the end of it in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Error;

/// Lines kept in memory for each stream; older ones are in the file.
const KEPT_LINES: usize = 10_000;

/// Longest line kept whole; what goes beyond becomes a line of its own, so
/// that output without line ends takes no unlimited memory.
const LINE_LIMIT: u64 = 64 * 1024;

/// One captured stream. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines that fell out at the front.
    dropped: usize,
    ended: bool,
}

impl Output {
    /// Copies `stream` to `file` and into memory until it ends, on a thread.
    pub(crate) fn capture(
        stream: impl Read + Send + 'static,
        path: &Path,
    ) -> Result<Output, Error> {
        let file = File::create(path).map_err(Error::io(format!("create {}", path.display())))?;
        let output = Output::default();
        let copy = output.clone();
        std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                // The stream breaks when the process is killed: the end, too.
                let _end = copy.copy(stream, file);
                copy.lines().ended = true;
                copy.shared.grown.notify_all();
            })
            .map_err(Error::io("start a thread"))?;
        Ok(output)
    }

    fn copy(&self, stream: impl Read, mut file: File) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut stream).take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            file.write_all(&line)?;
            let text = String::from_utf8_lossy(&line);
            self.push(text.trim_end_matches(['\n', '\r']).to_owned());
        }
    }

    fn push(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == KEPT_LINES {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(line);
        drop(lines);
        self.shared.grown.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the stream was closed: no line will follow.
    pub(crate) fn ended(&self) -> bool {
        self.lines().ended
    }

    /// The kept lines as one text.
    pub(crate) fn text(&self) -> String {
        self.tail(KEPT_LINES)
    }

    /// The last `count` lines as one text.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let skip = lines.kept.len().saturating_sub(count);
        lines.kept.iter().skip(skip).fold(String::new(), |text, line| text + line + "\n")
    }

    /// Shows `find` every line from number `from` on that is still kept, and
    /// moves `from` behind what it has seen.
    pub(crate) fn scan<T>(
        &self,
        from: &mut usize,
        find: &mut impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let lines = self.lines();
        let skip = from.saturating_sub(lines.dropped);
        *from = lines.dropped + lines.kept.len();
        lines.kept.iter().skip(skip).find_map(|line| find(line))
    }

    /// Waits for a line beyond number `from`, or the end, or `pause`.
    pub(crate) fn wait_for_more(&self, from: usize, pause: Duration) {
        let lines = self.lines();
        let news = |lines: &mut Lines| lines.dropped + lines.kept.len() <= from && !lines.ended;
        drop(self.shared.grown.wait_timeout_while(lines, pause, news));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(bytes: Vec<u8>) -> (Output, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let output = Output::capture(io::Cursor::new(bytes), &path).unwrap();
        crate::wait_until(Duration::from_secs(30), "the end", || output.ended()).unwrap();
        (output, std::fs::read(path).unwrap())
    }

    #[test]
    fn memory_is_bounded_and_the_file_is_complete() {
        let bytes: Vec<u8> =
            (0..KEPT_LINES + 5).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let (output, file) = captured(bytes.clone());
        assert_eq!(file, bytes);
        assert_eq!(output.text().lines().count(), KEPT_LINES);
        assert!(output.text().starts_with("5\n"));
        let mut from = 3;
        assert_eq!(output.scan(&mut from, &mut |line| Some(line.to_owned())).unwrap(), "5");
        assert_eq!(from, KEPT_LINES + 5);
        assert_eq!(output.scan(&mut from, &mut |_| Some(())), None);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (output, file) = captured(vec![b'x'; 200_000]);
        assert_eq!(file.len(), 200_000);
        assert_eq!(output.text().lines().count(), 4);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_in_the_file() {
        let (output, file) = captured(b"a\xff\r\nb".to_vec());
        assert_eq!(file, b"a\xff\r\nb");
        assert_eq!(output.text(), "a\u{fffd}\nb\n");
        assert_eq!(output.tail(1), "b\n");
    }
}
