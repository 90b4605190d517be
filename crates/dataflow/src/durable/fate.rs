//! What ends a component from the outside of its loop.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::ComponentError;

/// The first error of the tasks beside the loop.
#[derive(Default)]
pub(crate) struct Fate {
    error: Mutex<Option<ComponentError>>,
    told: Notify,
}

impl Fate {
    /// It cannot go on.
    pub(crate) fn fail(&self, error: ComponentError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(error);
        }
        drop(first);
        self.told.notify_one();
    }

    /// Why it cannot, once it cannot.
    pub(crate) async fn failed(&self) -> ComponentError {
        loop {
            let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
            match error {
                Some(error) => return error,
                None => self.told.notified().await,
            }
        }
    }
}
