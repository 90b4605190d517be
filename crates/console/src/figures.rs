//! How components and edges fare: rates, lag, backpressure, memory.
//!
//! A [`Reading`] is what all components told at one time; [`Rows`] are two of them, one after
//! the other, as people are shown it. `sheafctl top` and the console read alike.

mod rates;
mod reading;
mod row;
mod stats;
mod told;

pub use rates::Rows;
pub use reading::{Instance, Reader, Reading};
pub use row::{BROKEN, ComponentRow, ENDED, EdgeRow, FLOWS, WAITS};
pub use stats::{Input, Output, Stats, Stream};
