//! How much may be under way, and not answered yet.

mod gate;
mod state;

pub(crate) use gate::{Gate, Place};
