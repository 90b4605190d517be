//! What several targets need.

use std::future::Future;

use sheaf_retry::{Code, Retryable};
use tokio::runtime::{Builder, Runtime};

/// An error is an answer, unless it says that we have a bug.
pub(crate) fn refused(error: &(impl Retryable + std::fmt::Display)) -> Code {
    let code = error.code();
    assert_ne!(code, Code::Internal, "a bug of ours, says {error}");
    code
}

/// A runtime on this thread, for what needs one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Runs a call to its end. Calls are large; the stack of a debug build is not.
pub(crate) fn wait<T>(runtime: &Runtime, call: impl Future<Output = T>) -> T {
    runtime.block_on(Box::pin(call))
}

/// Reads an input in parts.
///
/// Lengths that ask for more than there is get what there is, so that every
/// input means something and a mutation in front leaves what is behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of it.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Input { rest: data }
    }

    /// The next byte, 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number of two bytes.
    pub(crate) fn short(&mut self) -> usize {
        usize::from(self.byte()) | (usize::from(self.byte()) << 8)
    }

    /// The next bytes after their length of two bytes.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let length = self.short();
        self.take(length)
    }

    /// What has not been read.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether all of it was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// Appends bytes as [`Input::chunk`] reads them.
pub(crate) fn push_chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a seed has short parts");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}
