//! Streams kept by name, within a limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_flight::{Error, Message};
use sheaf_retry::Code;

/// Most bytes of all streams together, of those to come too.
const MAX_BYTES: usize = 256 << 20;

#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    streams: BTreeMap<Bytes, Vec<Message>>,
    bytes: usize,
}

/// A stream that is on its way; dropped before its end it leaves nothing.
pub(super) struct Incoming {
    streams: Streams,
    messages: Vec<Message>,
}

impl Streams {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &[u8]) -> Result<Vec<Message>, Error> {
        self.table().streams.get(name).cloned().ok_or_else(|| {
            let text = format!("no stream {:?} here: put it first", String::from_utf8_lossy(name));
            Error::new(Code::NotFound, text)
        })
    }

    pub(super) fn receive(&self) -> Incoming {
        Incoming { streams: self.clone(), messages: Vec::new() }
    }
}

fn size(messages: &[Message]) -> usize {
    messages.iter().map(Message::len).sum()
}

impl Incoming {
    pub(super) fn push(&mut self, message: Message) -> Result<(), Error> {
        let mut table = self.streams.table();
        if table.bytes + message.len() > MAX_BYTES {
            let text = format!("all streams together may have {MAX_BYTES} bytes");
            return Err(Error::new(Code::LimitExceeded, text));
        }
        table.bytes += message.len();
        drop(table);
        self.messages.push(message);
        Ok(())
    }

    /// Keeps the stream, in place of one of the same name.
    pub(super) fn keep(mut self, name: Bytes) {
        let messages = std::mem::take(&mut self.messages);
        let mut table = self.streams.table();
        if let Some(old) = table.streams.insert(name, messages) {
            table.bytes -= size(&old);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.streams.table().bytes -= size(&self.messages);
    }
}
