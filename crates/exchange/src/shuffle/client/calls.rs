//! How calls are made, tried again and counted: over Flight and gRPC the same.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sheaf_retry::{Code, RetryPolicy, SharedClock};

use super::metrics::Metrics;
use super::parked::Parked;
use super::progress::Progress;
use super::retries::{Again, with_retries};
use crate::shuffle::error::{Error, FetchFailed, SendFailed};
use crate::shuffle::key::PartitionKey;

/// What calls of a client have in common.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) clock: SharedClock,
    pub(crate) seed: u64,
    pub(crate) retry: RetryPolicy,
    pub(crate) room: RetryPolicy,
    pub(crate) call_deadline: Duration,
    pub(crate) page_bytes: u64,
}

/// The calls of a client and its clones.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) manner: Arc<Manner>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Progress,
    pub(crate) parked: Arc<Parked>,
}

impl Calls {
    pub(crate) fn new(manner: Manner) -> Self {
        let (metrics, progress, parked) = Default::default();
        Calls { manner: Arc::new(manner), metrics, progress, parked }
    }

    /// The same calls, made in another manner.
    pub(crate) fn with_manner(&self, manner: Manner) -> Self {
        Calls { manner: Arc::new(manner), ..self.clone() }
    }

    /// As [`with_retries`], as the client does it.
    pub(crate) async fn with_retries<'a, T: Send>(
        &'a self,
        peer: &'a str,
        call: impl Fn() -> BoxFuture<'a, Result<T, Error>> + Send + Sync + 'a,
    ) -> Result<T, Error> {
        let Manner { clock, seed, retry, room, .. } = &*self.manner;
        let told = |again: Again| match again {
            Again::Attempt => self.retried(peer),
            Again::Room => drop(self.metrics.memory_refusals.inc()),
        };
        with_retries(clock, *seed, retry, room, &told, call).await
    }

    /// An answer, within its time.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.manner.clock.sleep(limit) => {
                let text = format!("no answer within {} ms", limit.as_millis());
                Err(sheaf_flight::Error::new(Code::DeadlineExceeded, text).into())
            }
        }
    }

    /// Chunks go out.
    pub(crate) fn sent(&self, peer: &str, chunks: usize, bytes: usize) {
        self.metrics.sent(peer, chunks, bytes);
        self.progress.sent(peer, bytes);
    }

    /// A call is made again.
    pub(crate) fn retried(&self, peer: &str) {
        self.metrics.retried(peer);
        self.progress.retried(peer);
    }

    pub(crate) fn fetch_failed(&self, peer: &str, key: &PartitionKey, cause: Error) -> Error {
        self.metrics.fetch_failed(peer, &cause);
        let (peer, partition, cause) = (peer.to_owned(), key.clone(), Box::new(cause));
        Error::Fetch(Box::new(FetchFailed { peer, partition, cause }))
    }

    pub(crate) fn send_failed(&self, peer: &str, key: &PartitionKey, cause: Error) -> Error {
        self.metrics.send_failed(peer, &cause);
        let (peer, partition, cause) = (peer.to_owned(), key.clone(), Box::new(cause));
        Error::Send(Box::new(SendFailed { peer, partition, cause }))
    }
}
