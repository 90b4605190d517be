//! Calls on their way through the driver.

use std::time::Duration;

use sheaf_coordinator::{ClaimRequest, Error};
use tokio::sync::oneshot;

use super::command::{Answer, Call};
use super::twice::{Key, UnderWay};

/// Why a call was not answered.
#[derive(Debug)]
pub(super) enum Failed {
    /// Not here, or not known: to be sent again to whoever leads.
    Elsewhere(String),
    /// For good.
    Error(Error),
}

/// A claim that waits for work.
pub(super) struct Waiting {
    pub(super) request: ClaimRequest,
    /// By the monotonic clock.
    pub(super) until: Duration,
}

/// What is lent by a call: that of a claim, or of a settle with one.
pub(super) struct Lends {
    pub(super) key: Key,
    pub(super) lease: Duration,
    /// From when the driver has it.
    pub(super) under_way: Option<UnderWay>,
}

impl From<&ClaimRequest> for Lends {
    fn from(request: &ClaimRequest) -> Self {
        Lends { key: Key::from(request), lease: request.lease, under_way: None }
    }
}

/// What a call is answered with.
pub(super) type Reply = Result<Answer, Failed>;

/// A call on its way.
pub(super) struct Item {
    /// Encoded; none asks only for what is due.
    pub(super) call: Option<Vec<u8>>,
    pub(super) lends: Option<Lends>,
    pub(super) waiting: Option<Waiting>,
    /// None where it is the driver's own.
    reply: Option<oneshot::Sender<Reply>>,
}

impl Item {
    pub(super) fn new(
        call: Option<&Call>,
        waiting: Option<Waiting>,
        reply: oneshot::Sender<Reply>,
    ) -> Self {
        let lends = match call {
            Some(Call::Claim(request)) => Some(request),
            Some(Call::Settle(request)) => request.claim.as_ref(),
            _ => None,
        };
        Item {
            call: call.map(Call::encode),
            lends: lends.map(Lends::from),
            waiting,
            reply: Some(reply),
        }
    }

    /// A call that nobody waits for, by which what another one lent is given back.
    pub(super) fn giving_back(lends: Lends, call: &Call) -> Self {
        Item { call: Some(call.encode()), lends: Some(lends), waiting: None, reply: None }
    }

    /// The caller gave up.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// A caller that no longer listens has dropped its call; what was done stays done.
    pub(super) fn answer(self, reply: Reply) {
        drop(self.tell(reply));
    }

    /// Gives the answer back where the caller no longer listens.
    pub(super) fn tell(self, reply: Reply) -> Result<(), Reply> {
        self.reply.map_or(Ok(()), |caller| caller.send(reply))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.call.as_deref().unwrap_or_default()
    }
}
