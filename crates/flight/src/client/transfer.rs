//! What all connections of a pool share to move data.

use sheaf_retry::SharedClock;

use crate::metrics::BothWays;
use crate::wire::Memory;

/// Memory for what is received, and counters of what was copied.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) memory: Memory,
    pub(crate) copies: BothWays,
}

impl Transfer {
    pub(super) fn new(clock: SharedClock) -> Self {
        Transfer { memory: Memory::of_client(clock), copies: BothWays::default() }
    }
}
