//! Nodes over real sockets of this machine.

mod calls;
mod faults;
mod health;
mod logs;
mod raw;
mod security;
mod streams;
mod support;
