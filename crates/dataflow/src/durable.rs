//! Durable edges: batches wait in a store, and a coordinator knows what is still to be done.
//!
//! Each stream of a durable edge has a queue. Who sends puts a batch into the store and
//! registers it in the queue; who reads takes it under a lease, and completes it when it is
//! done with it.
//!
//! # What holds
//! 1. A batch counts as sent when its payload is on disk and it is registered.
//! 2. A source whose readers all read over durable edges has its offset in a batch of its
//!    own, the [journal], which it holds under a lease. One step completes
//!    that batch, registers what the source made, and registers the next offset. So batches
//!    and offset cannot come apart, and a process that was replaced registers nothing more.
//! 3. A processor whose edges are all durable completes what it read and registers what came
//!    of it in one step.
//! 4. A sink completes a batch after it has written it. It is given the identifier of the
//!    batch and the fence of the lease, so that a sink that commits by them writes it once.
//! 5. Who has lost a lease ends, and settles nothing more.
//! 6. The end of a stream is a batch in its queue too. A reader has come to the end when it
//!    has that of every sender and nothing before it is left; it notes in its journal that
//!    it is done, in the step that completes the ends.
//! 7. A queue has one reader. A reader that is started again first gives back what its
//!    process before held, and so gets everything in the order in which it was registered.
//!
//! Where only a part of the edges of a component is durable, a batch is registered before it
//! counts as taken, and may be registered twice after a crash.

mod commits;
mod fate;
mod forward;
mod journal;
mod leases;
mod link;
mod names;
mod queue;
mod reader;
mod replay;
mod settler;

pub(crate) use commits::{Commits, Output, Staged, Step};
pub(crate) use forward::forward;
pub(crate) use journal::{Journal, is_done};
pub(crate) use leases::beat;
pub(crate) use link::Link;
pub(crate) use names::queue as queue_name;
pub(crate) use queue::{Counts, Queue, follow};
pub(crate) use reader::QueueReader;
pub use replay::{ReplayFrom, Replayed, replay};
pub(crate) use settler::Settler;

/// Durable streams that may lead out of one instance: a batch for each of them and the end of
/// each are registered in one step.
pub(crate) const MAX_STREAMS: usize = 500;
