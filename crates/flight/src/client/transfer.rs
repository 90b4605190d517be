//! What all connections of a pool share to move data.

use crate::metrics::BothWays;
use crate::wire::Memory;

/// Memory for what is received, and counters of what was copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfer {
    pub(crate) memory: Memory,
    pub(crate) copies: BothWays,
}
