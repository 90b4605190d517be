//! Nodes over real sockets of this machine.

mod calls;
mod streams;
mod support;
