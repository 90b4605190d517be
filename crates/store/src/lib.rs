//! The Arrow Flight store.

mod payload;
mod retention;

pub use payload::{Durability, PayloadInfo};
pub use retention::{PayloadOwner, Standing, Unowned};
