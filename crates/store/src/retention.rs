//! Who decides how long a payload is kept.

use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::Error;
use sheaf_proto::BatchId;

use crate::payload::PayloadInfo;

/// What the owner of a payload says about it.
///
/// [`Completed`](Standing::Completed) and [`Terminal`](Standing::Terminal) differ
/// only where payloads are deleted on completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Work on it is not over: keep it.
    Live,
    /// Its batch was completed this long ago.
    Completed {
        /// Time since then.
        since: Duration,
    },
    /// Its batch failed, expired or was cancelled this long ago, and may be
    /// started anew.
    Terminal {
        /// Time since then.
        since: Duration,
    },
    /// Nobody registered it: its time to live runs since it was last used.
    Unregistered,
}

/// The store's view of the coordinator: what must still happen to a payload.
///
/// 1. `standings` answers in the order asked, one per id. An error means that
///    it cannot be known now; the store then keeps every payload asked about.
/// 2. `register` is idempotent; an `Ok` means that the batch is registered durably.
#[async_trait]
pub trait PayloadOwner: Send + Sync + 'static {
    /// What still needs these payloads.
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error>;

    /// Registers a payload that was put with the header `sheaf-register: true`.
    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error>;
}

/// A store by itself: nothing is ever registered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unowned;

#[async_trait]
impl PayloadOwner for Unowned {
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error> {
        Ok(vec![Standing::Unregistered; ids.len()])
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error> {
        Err(Error::new(
            sheaf_retry::Code::FailedPrecondition,
            format!("payload {} cannot be registered: this server has no coordinator", payload.id),
        ))
    }
}
