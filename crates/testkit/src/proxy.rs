//! What stands between a client and a server, and fails on command.

mod calls;
mod frames;
mod holds;
mod link;
mod noise;
mod pump;
mod replies;
mod rule;

pub use calls::CallProxy;
pub use holds::RequestHold;
pub use link::{Fault, FaultProxy, Noise};
pub use replies::{ReplyFault, ReplyLoss};
pub use rule::{Call, CallFault, Loss};
