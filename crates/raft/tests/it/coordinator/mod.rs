//! The replicated coordinator: on one node without a network, and on three.

mod alone;
mod calls;
mod cluster;
mod down;
pub(crate) mod local;
mod migration;
mod three;
mod unheard;
