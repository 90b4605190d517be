//! The end of a store.

use super::Store;

impl Store {
    /// Takes no more calls, finishes what is under way, and lets go of the data
    /// directory. Streams that were opened before read on. A second call does
    /// nothing.
    pub async fn close(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
        inner.write_waiting().await;
        inner.sync_marks().await;
        if let Some(directory) = &inner.directory {
            directory.release();
        }
    }
}
