//! What a program prints to standard error.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;

/// Bytes of a line in the log; longer ones are cut.
const MAX_LINE: usize = 8 << 10;
/// Bytes of its end that errors show.
const MAX_TAIL: usize = 2 << 10;

/// The end of what it has printed.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// What errors have of it: nothing, or the text after a colon.
    pub(super) fn tail(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        match text.trim() {
            "" => String::new(),
            text => format!(": {text}"),
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let over = tail.len().saturating_sub(MAX_TAIL);
        tail.drain(..over);
    }

    /// Reads to the end, and writes each line into the log.
    pub(super) async fn read(self, mut stderr: ChildStderr, component: Arc<str>) {
        let mut line: Vec<u8> = Vec::new();
        let mut chunk = vec![0; MAX_LINE];
        // An error ends it as its end does: what is printed is a help, not the result.
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            self.keep(&chunk[..read]);
            for &byte in &chunk[..read] {
                match byte {
                    b'\n' => log(&mut line, &component),
                    _ if line.len() == MAX_LINE => {}
                    _ => line.push(byte),
                }
            }
        }
        log(&mut line, &component);
    }
}

fn log(line: &mut Vec<u8>, component: &str) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if !text.is_empty() {
        tracing::info!(component, "{text}");
    }
    line.clear();
}
