//! A message that is being put together, and why it may not be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_retry::Code;
use tokio::sync::Notify;

use super::receivers::Receiver;
use crate::budget::Charge;
use crate::error::Error;

/// When somebody who found no memory may come back.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What is counted of a message that is being put together.
pub(crate) struct Coming {
    /// `None` once it is whole.
    charge: Option<Charge>,
    receiver: Arc<Receiver>,
    freed: Arc<Notify>,
}

impl Coming {
    pub(super) fn new(charge: Charge, receiver: Arc<Receiver>, freed: &Arc<Notify>) -> Self {
        receiver.counted.fetch_add(charge.bytes(), Ordering::Relaxed);
        Coming { charge: Some(charge), receiver, freed: Arc::clone(freed) }
    }

    /// Bytes counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.charge.as_ref().map_or(0, Charge::bytes)
    }

    /// Counts so many more, where there is room.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.charge.as_mut().is_some_and(|charge| charge.grow(bytes));
        if grown {
            self.receiver.counted.fetch_add(bytes, Ordering::Relaxed);
        }
        grown
    }

    /// So many bytes have come.
    pub(crate) fn fill(&self, bytes: usize) {
        self.receiver.fill(bytes);
    }

    /// It is whole: its charge is not the stream's any more.
    pub(crate) fn whole(mut self) -> Option<Charge> {
        let charge = self.charge.take();
        let bytes = charge.as_ref().map_or(0, Charge::bytes);
        self.receiver.counted.fetch_sub(bytes, Ordering::Relaxed);
        charge
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(charge) = self.charge.take() {
            self.receiver.counted.fetch_sub(charge.bytes(), Ordering::Relaxed);
            drop(charge);
            self.freed.notify_waiters();
        }
    }
}

/// Why a stream ends for which there is no memory.
pub(crate) fn no_room(bytes: u64) -> Error {
    let text =
        format!("no memory for {bytes} more bytes of a message that is being received; try again");
    Error::new(Code::MemoryFull, text).with_retry_after(FULL_RETRY)
}

/// Why a stream ends that held memory which others needed.
pub(crate) fn too_slow() -> Error {
    let text = "memory is short, and of the messages that are being received this one came \
                slowest; send it again";
    Error::new(Code::MemoryFull, text).with_retry_after(FULL_RETRY)
}
