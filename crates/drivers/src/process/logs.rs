//! The log of an instance: what it wrote to standard output and error, bounded.
//!
//! A line of the file is `MILLISECONDS INSTANCE STREAM TEXT`, with the time since 1970 and
//! `out` or `err` for the stream.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_retry::{SharedClock, Timestamp};

use crate::driver::LogLine;

/// Bytes of a line; longer ones become several.
pub(super) const MAX_LINE: usize = 16 << 10;
/// Lines that are given out of what there is already.
pub(crate) const MAX_TAIL: usize = 10_000;
/// Bytes that are taken in one go by who follows.
const PIECE: u64 = 1 << 20;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one file.
    pub bytes: u64,
    /// Files, the one that is written included.
    pub files: u32,
}

impl Default for LogLimits {
    /// Three files of 8 MiB.
    fn default() -> Self {
        LogLimits { bytes: 8 << 20, files: 3 }
    }
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct LogWriter {
    path: PathBuf,
    instance: String,
    limits: LogLimits,
    clock: SharedClock,
    file: Option<File>,
    written: u64,
    buffer: Vec<u8>,
    /// Lines that could not be written.
    lost: u64,
    /// The last that was said on standard error.
    last_error: String,
}

/// How our programs begin the line under an error that says what to do.
const ADVICE: &str = "help: ";
/// And those that say what it came of.
const CAUSE: &str = "cause: ";
/// Bytes of an error with its causes, after which no more of them are taken.
const MAX_ERROR: usize = 1_000;

impl LogWriter {
    pub(super) fn open(
        path: PathBuf,
        instance: String,
        limits: LogLimits,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let file = append(&path)?;
        let written = file.metadata()?.len();
        Ok(LogWriter {
            path,
            instance,
            limits,
            clock,
            file: Some(file),
            written,
            buffer: Vec::new(),
            lost: 0,
            last_error: String::new(),
        })
    }

    /// Takes a line, which may be of any bytes.
    pub(super) fn line(&mut self, is_error: bool, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\r');
        let (time, stream) = (self.clock.now().as_millis(), if is_error { "err" } else { "out" });
        let instance = &self.instance;
        let line = format!("{time} {instance} {stream} {text}\n");
        self.buffer.extend_from_slice(line.as_bytes());
        // The advice under an error is not what went wrong.
        let is_advice = text.starts_with(ADVICE) && !self.last_error.is_empty();
        if is_error && !is_advice && !text.trim().is_empty() {
            match text.strip_prefix(CAUSE) {
                // What it came of says little without what went wrong.
                Some(cause) if !self.last_error.is_empty() => {
                    if self.last_error.len() < MAX_ERROR {
                        self.last_error = format!("{}: {}", self.last_error, cause.trim());
                    }
                }
                _ => self.last_error = text.trim().to_owned(),
            }
        }
    }

    /// The last that was said on standard error.
    pub(super) fn last_error(&self) -> &str {
        &self.last_error
    }

    /// Writes what was taken. A disk that is full costs lines, and nothing else.
    pub(super) fn flush(&mut self) {
        let lines = self.buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines == 0 {
            return;
        }
        match self.write() {
            Ok(()) if self.lost > 0 => {
                let text = format!("{} lines were lost: the log could not be written", self.lost);
                self.lost = 0;
                self.buffer.clear();
                self.line(true, text.as_bytes());
                drop(self.write());
            }
            Ok(()) => {}
            Err(_) => self.lost = self.lost.saturating_add(lines),
        }
        self.buffer.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if self.written > 0 && self.written + self.buffer.len() as u64 > self.limits.bytes {
            self.rotate()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => append(&self.path)?,
        };
        file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for index in (1..self.limits.files).rev() {
            let from = older(&self.path, index - 1);
            match fs::rename(&from, older(&self.path, index)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files <= 1 {
            fs::remove_file(&self.path)?;
        }
        self.written = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The file before so many others; the one that is written for 0.
fn older(path: &Path, index: u32) -> PathBuf {
    match index {
        0 => path.to_owned(),
        _ => path.with_extension(index.to_string()),
    }
}

/// A log that is read: first what there is, then what comes.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    file: Option<File>,
    /// What was read of a line that has no end yet.
    rest: Vec<u8>,
}

impl LogReader {
    /// The last `most` lines of all files, and a reader of what comes then.
    pub(crate) fn tail(path: PathBuf, most: usize) -> io::Result<(Vec<LogLine>, Self)> {
        let most = most.min(MAX_TAIL);
        // Opened first: what is written from here on is read later, rotated or not.
        let mut current = open(&path)?;
        let mut lines: VecDeque<LogLine> = VecDeque::new();
        let mut files = Vec::new();
        let mut index = 1;
        while let Some(file) = open(&older(&path, index))? {
            files.push(file);
            index += 1;
        }
        let mut rest = Vec::new();
        for file in files.iter_mut().rev().chain(&mut current) {
            rest = read_lines(file, |line| {
                lines.push_back(line);
                if lines.len() > most {
                    lines.pop_front();
                }
            })?;
        }
        Ok((lines.into(), LogReader { path, file: current, rest }))
    }

    /// What has come since, a piece of it at most; empty where nothing has.
    pub(crate) fn more(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        if let Some(file) = &mut self.file {
            // Asked before it is read: nothing more comes to a file that was rotated away.
            let is_current = is_same(file, &self.path)?;
            let mut bytes = std::mem::take(&mut self.rest);
            let before = bytes.len();
            file.take(PIECE).read_to_end(&mut bytes)?;
            let is_end = bytes.len() == before;
            self.rest = split(bytes, |line| lines.push(line));
            if is_current || !is_end {
                return Ok(lines);
            }
        }
        // It was rotated away, and all of it was read.
        self.rest.clear();
        self.file = open(&self.path)?;
        Ok(lines)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// All whole lines; answers what is left behind the last of them.
fn read_lines(file: &mut File, mut take: impl FnMut(LogLine)) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 || line.last() != Some(&b'\n') {
            return Ok(line);
        }
        line.pop();
        take_line(&line, &mut take);
    }
}

fn split(bytes: Vec<u8>, mut take: impl FnMut(LogLine)) -> Vec<u8> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        take_line(&bytes[from..from + at], &mut take);
        from += at + 1;
    }
    bytes[from..].to_vec()
}

fn take_line(line: &[u8], take: &mut impl FnMut(LogLine)) {
    let text = String::from_utf8_lossy(line);
    // A line that was cut by a crash of the machine is left out.
    if let Some(line) = parse(&text) {
        take(line);
    }
}

fn parse(text: &str) -> Option<LogLine> {
    let mut parts = text.splitn(4, ' ');
    let millis: u64 = parts.next()?.parse().ok()?;
    let (instance, stream, text) = (parts.next()?, parts.next()?, parts.next()?);
    let is_error = match stream {
        "out" => false,
        "err" => true,
        _ => return None,
    };
    let (instance, text) = (instance.to_owned(), text.to_owned());
    Some(LogLine { at: Timestamp::from_millis(millis), instance, is_error, text })
}

#[cfg(test)]
mod tests {
    use sheaf_retry::SystemClock;

    use super::*;

    fn writer(path: &Path, limits: LogLimits) -> LogWriter {
        let clock = SystemClock::shared();
        LogWriter::open(path.to_owned(), "numbers.1".to_owned(), limits, clock).unwrap()
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn lines_keep_their_instance_stream_and_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = writer(&path, LogLimits::default());
        log.line(false, b"a b  c\r");
        log.line(true, b"\xff went wrong ");
        log.line(true, b"");
        log.line(true, b"help: try again");
        log.flush();
        assert_eq!(log.last_error(), "\u{fffd} went wrong");
        let (lines, _) = LogReader::tail(path, 10).unwrap();
        assert_eq!(texts(&lines), ["a b  c", "\u{fffd} went wrong ", "", "help: try again"]);
        assert_eq!((&*lines[0].instance, lines[0].is_error), ("numbers.1", false));
        assert!(lines[1].is_error && lines[0].at > Timestamp::EPOCH);
    }

    #[test]
    fn an_error_is_said_with_what_it_came_of() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = writer(&folder.path().join("log"), LogLimits::default());
        log.line(true, b"error: the database cannot be opened");
        log.line(true, b"cause: load: no such library");
        log.line(true, b"help: install it");
        let expected = "error: the database cannot be opened: load: no such library";
        assert_eq!(log.last_error(), expected);
        for _ in 0..1_000 {
            log.line(true, b"cause: and that of something else");
        }
        assert!(log.last_error().len() < 2 * MAX_ERROR);
    }

    #[test]
    fn files_are_bounded_and_the_newest_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = writer(&path, LogLimits { bytes: 1_000, files: 3 });
        for number in 0..1_000 {
            log.line(false, format!("line {number}").as_bytes());
            log.flush();
        }
        let sizes: Vec<u64> = (0..4)
            .filter_map(|index| fs::metadata(older(&path, index)).ok())
            .map(|found| found.len())
            .collect();
        assert_eq!(sizes.len(), 3, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 1_000), "{sizes:?}");
        let (lines, _) = LogReader::tail(path, 40).unwrap();
        let expected: Vec<String> = (960..1_000).map(|number| format!("line {number}")).collect();
        assert_eq!(texts(&lines), expected);
    }

    #[test]
    fn who_follows_misses_nothing_when_files_are_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = writer(&path, LogLimits { bytes: 1_000, files: 3 });
        log.line(false, b"first");
        log.flush();
        let (_, mut reader) = LogReader::tail(path, 0).unwrap();
        let mut seen = Vec::new();
        for number in 0..500 {
            log.line(false, number.to_string().as_bytes());
            log.flush();
            seen.extend(reader.more().unwrap());
            seen.extend(reader.more().unwrap());
        }
        let expected: Vec<String> = (0..500).map(|number: u32| number.to_string()).collect();
        assert_eq!(texts(&seen), expected);
    }

    #[test]
    fn a_reader_may_be_there_before_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (lines, mut reader) = LogReader::tail(path.clone(), 5).unwrap();
        assert!(lines.is_empty() && reader.more().unwrap().is_empty());
        let mut log = writer(&path, LogLimits::default());
        log.line(false, b"late");
        log.flush();
        // The first look finds the file, the second one reads it.
        let mut found = reader.more().unwrap();
        found.extend(reader.more().unwrap());
        assert_eq!(texts(&found), ["late"]);
    }
}
