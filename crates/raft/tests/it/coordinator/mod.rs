//! The replicated coordinator: on one node without a network, and on three.

mod alone;
mod calls;
pub(crate) mod local;
mod migration;
