//! What stands between a client and a server, and fails on command.

mod background;
mod calls;
mod link;
mod pump;
mod rule;

pub use calls::CallProxy;
pub use link::{Fault, FaultProxy};
pub use rule::{Call, CallFault, Loss};
