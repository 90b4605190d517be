//! A worker that dies in the middle.

use clap::ValueEnum;

use super::protocol::Event;

/// What a worker is when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// It has sent a part of its rows.
    Sender,
    /// It has sent all of its rows, and takes those of others.
    Receiver,
}

/// Who is killed, and when.
#[derive(Debug)]
pub(crate) struct Kill {
    role: Role,
    pub(crate) victim: u32,
    /// The part of a share, in thousandths, that is sent by then.
    part: u64,
}

impl Kill {
    /// The same seed is the same moment.
    pub(crate) fn new(role: Role, seed: u64, workers: u32) -> Self {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let victim = u32::try_from((mixed >> 32) % u64::from(workers)).unwrap_or(0);
        Kill { role, victim, part: mixed % 1_000 }
    }

    /// Whether a worker has to wait with its last input: a receiver has sent its
    /// own before others send to it.
    pub(crate) fn holds_back(&self, slot: u32, victim_has_sent: bool) -> bool {
        self.role == Role::Receiver && slot != self.victim && !victim_has_sent
    }

    /// Whether now is the time, by what a worker says of its last input.
    pub(crate) fn is_due(&self, slot: u32, event: &Event, victim_has_sent: bool) -> bool {
        let Event::Sending { rows, of } = event else { return false };
        let is_part_sent = rows * 1_000 >= of * self.part;
        is_part_sent
            && match self.role {
                Role::Sender => slot == self.victim,
                Role::Receiver => slot != self.victim && victim_has_sent,
            }
    }
}
