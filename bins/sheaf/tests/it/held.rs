//! What stands between a worker and whom it asks, and holds what passes there.

use sheaf_testkit::{Call, CallFault, CallProxy, FaultProxy, ReplyFault, ReplyLoss, RequestHold};

/// In front of a server or in front of a Valkey.
pub(crate) enum Between {
    Server(CallProxy),
    Valkey(FaultProxy),
}

/// Something that is held for as long as this lives.
pub(crate) enum Held {
    Call(CallFault),
    Request(RequestHold),
    Reply(ReplyFault),
}

impl Held {
    /// How much has come so far.
    pub(crate) fn hits(&self) -> u64 {
        match self {
            Held::Call(fault) => fault.hits(),
            Held::Request(hold) => hold.hits(),
            Held::Reply(fault) => fault.hits(),
        }
    }
}

/// What is said between a worker and its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// "Is my lease good?", before the coordinator has it.
    ProofAsked,
    /// "It is", on its way back.
    ProofGiven,
    /// "It is done", before the coordinator has it.
    ResultSent,
    /// "I know", on its way back.
    ResultTaken,
}

impl Between {
    /// Where a worker asks.
    pub(crate) fn address(&self) -> String {
        match self {
            Between::Server(proxy) => proxy.uri(),
            Between::Valkey(proxy) => proxy.addr().to_string(),
        }
    }

    /// Holds all of this from now on.
    pub(crate) fn hold(&self, word: Word) -> Held {
        match self {
            Between::Server(proxy) => Held::Call(match word {
                Word::ProofAsked => proxy.hold_requests(Call::method("Extend")),
                Word::ProofGiven => proxy.hold_replies(Call::method("Extend")),
                Word::ResultSent => proxy.hold_requests(Call::method("Settle")),
                Word::ResultTaken => proxy.hold_replies(Call::method("Settle")),
            }),
            // By the functions that are called there. Results and claims are
            // one function: both are held. A reply that is lost comes again when
            // this has ended, for the worker asks again on another connection.
            Between::Valkey(proxy) => {
                let lose = |name| Held::Reply(proxy.lose_replies(name, u64::MAX, ReplyLoss::Cut));
                match word {
                    Word::ProofAsked => Held::Request(proxy.hold_requests("_extend")),
                    Word::ProofGiven => lose("_extend"),
                    Word::ResultSent => Held::Request(proxy.hold_requests("_work")),
                    Word::ResultTaken => lose("_work"),
                }
            }
        }
    }
}
