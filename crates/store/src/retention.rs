//! Who decides how long a payload is kept.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
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
    /// It was registered with an owner that has since lost what it knew: keep
    /// it until it is registered again.
    Lost,
}

impl Standing {
    /// It must be kept, however old it is.
    pub(crate) fn is_needed(self) -> bool {
        matches!(self, Standing::Live | Standing::Lost)
    }
}

/// A payload, as its owner is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub id: BatchId,
    /// Of its mark, where it was registered and nobody said since that the
    /// work is over.
    pub place: Option<Place>,
}

/// Where a registration stands in what an owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Names a run of the owner, from one opening of its state to the next; not 0.
    pub run: u64,
    /// Its place in the order of registration.
    pub sequence: u64,
}

impl Place {
    /// That of a registration of which only is known that there was one: no owner
    /// can have forgotten it on purpose.
    pub const UNKNOWN: Place = Place { run: u64::MAX, sequence: u64::MAX };
}

/// That a payload was registered, kept beside it until the work is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where. An owner that has seen the registration and does not know the
    /// payload has forgotten it on purpose; another one may have lost it.
    pub place: Place,
    /// How to register it again, in the owner's own form.
    pub spec: Bytes,
    /// Its work waits for others, as `spec` says: who learns that it no longer
    /// does marks it anew.
    pub waits: bool,
}

/// The store's view of the coordinator: what must still happen to a payload.
///
/// 1. `standings` answers in the order asked, one per payload. An error means
///    that it cannot be known now; the store then keeps every one asked about.
/// 2. `register` is idempotent; an `Ok` means that the batch is registered
///    durably. The mark is what the store keeps; there is none where no work
///    is to come.
/// 3. A payload with a mark, which the owner does not know and of which it has not
///    seen the registration, is [`Standing::Lost`], never `Unregistered`.
#[async_trait]
pub trait PayloadOwner: Send + Sync + 'static {
    /// What still needs these payloads.
    async fn standings(&self, payloads: &[Asked]) -> Result<Vec<Standing>, Error>;

    /// Registers a payload that was put with the header `sheaf-register: true`.
    async fn register(&self, payload: &PayloadInfo) -> Result<Option<Mark>, Error>;

    /// The checksum of the content with which a batch of this name is
    /// registered, wherever its payload is; `None` where it is not, or without
    /// content. By default nothing is known of other places.
    async fn checksum(&self, _id: &BatchId) -> Result<Option<String>, Error> {
        Ok(None)
    }
}

/// A store by itself: nothing is ever registered, and what was once registered
/// with a coordinator is kept for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unowned;

#[async_trait]
impl PayloadOwner for Unowned {
    async fn standings(&self, payloads: &[Asked]) -> Result<Vec<Standing>, Error> {
        let standing = |asked: &Asked| match asked.place {
            Some(_) => Standing::Lost,
            None => Standing::Unregistered,
        };
        Ok(payloads.iter().map(standing).collect())
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<Option<Mark>, Error> {
        Err(Error::new(
            sheaf_retry::Code::FailedPrecondition,
            format!("payload {} cannot be registered: this server has no coordinator", payload.id),
        ))
    }
}
