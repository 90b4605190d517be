//! Claims again and again, as the caller grants credits.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use sheaf_coordinator::limits::MAX_CLAIM;
use sheaf_coordinator::{Claim, ClaimRequest, Coordinator, Error};
use sheaf_proto::coordinator::v1 as proto;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::status;
use crate::waits::{Waits, closing};

/// Most credits that may be outstanding.
const MAX_CREDITS: u32 = 65_536;

/// How long one claim waits when the caller does not say.
const WAIT: Duration = Duration::from_secs(30);

/// Between two claims that found nothing: a coordinator that does not wait
/// (it is about to close, say) is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(5);

/// What comes in; ends when the caller grants no more.
type Credits = BoxStream<'static, Result<proto::ClaimCredit, Status>>;

/// Answers a `ClaimStream`.
///
/// One credit is one batch. Every response carries at least one lease and at
/// most as many as there are credits, within the request's own bounds. The
/// claims of a stream are numbered (`REQUEST_ID.N`, from 0): opened again with
/// the same `request_id`, it first gives again the leases of the broken one
/// that still stand, and the fencing tokens tell which are known already.
///
/// A caller that closes its side gets what its credits are worth, then the end.
pub(super) fn open<S>(
    coordinator: Arc<dyn Coordinator>,
    credits: S,
    waits: Waits,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, Result<proto::ClaimResponse, Status>>
where
    S: Stream<Item = Result<proto::ClaimCredit, Status>> + Send + 'static,
{
    let state = Claims {
        coordinator,
        waits,
        incoming: Some(credits.boxed()),
        request: None,
        credits: 0,
        number: 0,
        _permit: permit,
    };
    stream::unfold(Some(state), |state| async {
        let mut state = state?;
        let waits = state.waits.clone();
        let next = tokio::select! {
            biased;
            next = state.next() => next,
            () = waits.ended() => Err(status(closing())),
        };
        match next {
            Ok(Some(claim)) => Some((Ok((&claim).into()), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Claims {
    coordinator: Arc<dyn Coordinator>,
    waits: Waits,
    /// `None` once the caller grants no more.
    incoming: Option<Credits>,
    request: Option<ClaimRequest>,
    credits: u32,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Claims {
    /// The next claim that found something.
    async fn next(&mut self) -> Result<Option<Claim>, Status> {
        loop {
            while self.credits == 0 {
                let Some(credit) = receive(&mut self.incoming).await? else {
                    return Ok(None);
                };
                self.grant(credit)?;
            }
            let Some(request) = self.numbered() else { return Ok(None) };
            let claim = self.claim(request).await?;
            if claim.leases.is_empty() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let given = u32::try_from(claim.leases.len()).unwrap_or(u32::MAX);
            self.credits = self.credits.saturating_sub(given);
            self.number += 1;
            return Ok(Some(claim));
        }
    }

    /// Claims, and meanwhile takes note of new credits.
    async fn claim(&mut self, request: ClaimRequest) -> Result<Claim, Status> {
        let coordinator = Arc::clone(&self.coordinator);
        let mut claim = std::pin::pin!(coordinator.claim(request));
        loop {
            tokio::select! {
                biased;
                claim = &mut claim => return claim.map_err(status),
                credit = receive(&mut self.incoming), if self.incoming.is_some() => {
                    if let Some(credit) = credit? {
                        self.grant(credit)?;
                    }
                }
            }
        }
    }

    /// The request of the next claim.
    fn numbered(&self) -> Option<ClaimRequest> {
        let request = self.request.clone()?;
        Some(ClaimRequest {
            request_id: format!("{}.{}", request.request_id, self.number),
            max: request.max.min(self.credits).min(MAX_CLAIM),
            wait: if request.wait.is_zero() { WAIT } else { request.wait },
            ..request
        })
    }

    fn grant(&mut self, credit: proto::ClaimCredit) -> Result<(), Status> {
        let wrong = |field, problem: &str| {
            Err(status(Error::Invalid { field, problem: problem.to_owned() }))
        };
        match (credit.request, &self.request) {
            (Some(request), None) => {
                let request = ClaimRequest::try_from(request).map_err(status)?;
                if request.max == 0 {
                    return wrong("max", "0 would never claim anything; it is at least 1");
                }
                if request.request_id.is_empty() {
                    return wrong("request_id", "is missing; it is unique for each stream");
                }
                if !request.ids.is_empty() {
                    return wrong("ids", "a stream claims by queue; use Claim for these batches");
                }
                self.request = Some(request);
            }
            (None, Some(_)) => {}
            (None, None) => return wrong("claim", "the first message has to bring the request"),
            (Some(_), Some(_)) => {
                return wrong("claim", "the request cannot be changed; open another stream");
            }
        }
        self.credits = self.credits.saturating_add(credit.credits);
        if self.credits > MAX_CREDITS {
            let (actual, limit) = (self.credits.into(), MAX_CREDITS.into());
            return Err(status(Error::Limit { field: "credits", actual, limit }));
        }
        Ok(())
    }
}

/// The next message of the caller; `None` when it grants no more.
///
/// Cancel-safe: dropped while it waits, it has taken nothing.
async fn receive(incoming: &mut Option<Credits>) -> Result<Option<proto::ClaimCredit>, Status> {
    let Some(stream) = incoming else { return Ok(None) };
    match stream.next().await {
        Some(Ok(credit)) => Ok(Some(credit)),
        Some(Err(error)) => Err(error),
        None => {
            *incoming = None;
            Ok(None)
        }
    }
}
