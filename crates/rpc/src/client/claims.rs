//! Claims that come as credits are granted.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{Claim, ClaimRequest, Error};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::Code;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Inner, failed};
use crate::call::malformed;
use crate::restore::restore;

/// Grants that are on their way; one that finds no room waits.
const GRANTS: usize = 16;

/// Work as credits are granted: [`RpcCoordinator::claim_stream`](crate::RpcCoordinator::claim_stream).
///
/// Dropping it ends the stream on the server; leases that were on their way
/// return when they end, or are given again to the same `request_id`.
#[derive(Debug)]
pub struct ClaimStream {
    address: String,
    grants: Option<mpsc::Sender<proto::ClaimCredit>>,
    claims: Streaming<proto::ClaimResponse>,
}

pub(super) async fn open(
    inner: &Arc<Inner>,
    request: ClaimRequest,
    credits: u32,
) -> Result<ClaimStream, Error> {
    let first = proto::ClaimCredit { request: Some((&request).into()), credits };
    let call = |_deadline: Duration| {
        let first = first.clone();
        async move {
            let (grants, received) = mpsc::channel(GRANTS);
            // The channel is new: there is room.
            grants.send(first).await.map_err(|_| closed())?;
            // No deadline in the request: the stream stands as long as it is wanted.
            let mut client = inner.client()?;
            let answer = client.claim_stream(ReceiverStream::new(received)).await;
            Ok((grants, answer.map_err(failed)?.into_inner()))
        }
    };
    let (grants, claims) = inner.caller.call("claim_stream", Duration::ZERO, call).await?;
    Ok(ClaimStream { address: inner.target().to_string(), grants: Some(grants), claims })
}

impl ClaimStream {
    /// Asks for so many more batches; waits while 16 grants are on their way.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the stream is broken: [`ClaimStream::next`] says why.
    pub async fn grant(&self, credits: u32) -> Result<(), Error> {
        let credit = proto::ClaimCredit { request: None, credits };
        let sent = match &self.grants {
            Some(grants) => grants.send(credit).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { Err(restore(self.operation(), closed())) }
    }

    /// Grants no more: the stream ends once the credits are used up.
    pub fn finish(&mut self) {
        self.grants = None;
    }

    /// The next claim, with at least one lease; `None` after
    /// [`ClaimStream::finish`], when everything granted has come.
    ///
    /// Cancel-safe: nothing is lost when it is dropped while it waits.
    ///
    /// # Errors
    /// The stream is broken; open another with the same `request_id`.
    pub async fn next(&mut self) -> Result<Option<Claim>, Error> {
        let message = self.claims.message().await;
        let message = message.map_err(|status| restore(self.operation(), failed(status)))?;
        let claim = message.map(Claim::try_from).transpose();
        claim.map_err(|error| restore(self.operation(), malformed(&error)))
    }

    fn operation(&self) -> String {
        format!("claim_stream at {}", self.address)
    }
}

fn closed() -> sheaf_flight::Error {
    sheaf_flight::Error::new(Code::Unavailable, "the stream is closed")
}
