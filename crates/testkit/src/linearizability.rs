//! Whether what clients of a replicated system saw can have happened in one
//! order, one operation after the other.
//!
//! A history is linearizable when each operation can be given one point between
//! its invocation and its return so that a sequential [`Model`], taken through the
//! operations in the order of these points, gives what the clients saw. Whoever
//! invoked and learned nothing (a crash, a timeout) leaves an operation with an
//! [`Outcome::Unknown`]: its point is anywhere after the invocation, or nowhere.
//! What certainly did not happen does not belong into a history.
//!
//! ```
//! use sheaf_testkit::linearizability::{
//!     Register, RegisterOp, RegisterRet, Operation, Verdict, WORK, check,
//! };
//!
//! let write = Operation::returned(1, RegisterOp::Write(7), RegisterRet::Done, 0, 10);
//! let read = |value, at| {
//!     Operation::returned(2, RegisterOp::Read, RegisterRet::Value(value), at, at + 1)
//! };
//! // While the write is under way, both the old and the new value are right …
//! let good = [write.clone(), read(0, 3), read(7, 5)];
//! assert!(check::<Register<u32>>(0, &good, WORK).is_linearizable());
//! // … but the old one not after the new one was seen.
//! let stale = [write, read(7, 3), read(0, 5)];
//! let Verdict::Violation(violation) = check::<Register<u32>>(0, &stale, WORK) else { panic!() };
//! assert_eq!(violation.culprit, 2);
//! ```
//!
//! The search may take exponential time in the number of operations that overlap,
//! and more in those with an unknown outcome. It ends at a number of steps of the
//! model that the caller gives, with [`Verdict::Undecided`]. A history of many keys
//! is checked key by key ([`check_by_key`]): each is a history of its own, and much
//! smaller.
//!
//! Times are numbers of the caller's, of one clock: steps of a simulation,
//! nanoseconds of one process. Two operations of which one returns at the time at
//! which the other is invoked overlap.
//!
//! # Source
//! J. Wing, C. Gong: Testing and Verifying Concurrent Objects (1993). G. Lowe: Testing
//! for Linearizability (2017), for remembering configurations that were seen.

mod events;
mod keys;
mod register;
mod search;
mod set;
mod verdict;

use std::fmt::Debug;
use std::hash::Hash;

pub use keys::{KeyedVerdict, check_by_key, partition};
pub use register::{Register, RegisterOp, RegisterRet};
pub use verdict::{Verdict, Violation};

/// Steps of a model that suffice for any history that a test should make, and
/// take seconds.
pub const WORK: u64 = 2_000_000;

/// What a system should do, one operation at a time.
pub trait Model {
    /// What a client asks for.
    type Op: Debug;
    /// What a client is answered.
    type Ret: Debug;
    /// All that answers depend on.
    type State: Clone + Debug + Eq + Hash;

    /// The state after the operation, or `None` if it cannot have given this answer in
    /// this state. Without an answer, which is when nobody learned it, the state that
    /// the operation makes; `None` if it can make none.
    fn step(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// With an answer.
    Returned {
        /// When.
        at: u64,
        /// What.
        ret: R,
    },
    /// The client learned nothing: it may have happened, may still happen, or never.
    Unknown,
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// Who asked; only reports show it.
    pub client: u64,
    /// For what.
    pub op: O,
    /// When.
    pub invoked: u64,
    /// What came of it.
    pub outcome: Outcome<R>,
}

impl<O, R> Operation<O, R> {
    /// One that was answered. A return before the invocation counts as one at it.
    pub fn returned(client: u64, op: O, ret: R, invoked: u64, at: u64) -> Self {
        let outcome = Outcome::Returned { at: at.max(invoked), ret };
        Operation { client, op, invoked, outcome }
    }

    /// One of which the client learned nothing.
    pub fn unknown(client: u64, op: O, invoked: u64) -> Self {
        Operation { client, op, invoked, outcome: Outcome::Unknown }
    }

    /// The answer, where there was one.
    pub fn ret(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Returned { ret, .. } => Some(ret),
            Outcome::Unknown => None,
        }
    }

    /// When it returned, where it did.
    pub fn returned_at(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Returned { at, .. } => Some(at.max(self.invoked)),
            Outcome::Unknown => None,
        }
    }
}

/// Looks for an order of the operations that explains what the clients saw, with at
/// most `work` steps of the model. The history may be in any order.
///
/// Memory grows with the steps: each may leave a state and a few words behind.
pub fn check<M: Model>(
    initial: M::State,
    history: &[Operation<M::Op, M::Ret>],
    work: u64,
) -> Verdict {
    search::Search::<M>::new(initial, history, work).run()
}
