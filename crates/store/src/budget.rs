//! Memory, counted in real bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_flight::{Budget, Full, Message, Piece, Pieces};

use crate::kept::Kept;

/// The part of a budget that one namespace may use. What two namespaces hold
/// counts for each of them, and once for the budget.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    quota: u64,
    state: Mutex<Pieces>,
}

impl Account {
    pub(crate) fn new(budget: Arc<Budget>, quota: Option<u64>) -> Arc<Self> {
        let quota = quota.unwrap_or(u64::MAX).min(budget.limit());
        Arc::new(Account { budget, quota, state: Mutex::default() })
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    pub(crate) fn limit(&self) -> u64 {
        self.quota
    }

    /// What all namespaces share.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.budget)
    }

    /// Whether this much could ever fit.
    pub(crate) fn can_ever_hold(&self, bytes: u64) -> bool {
        bytes <= self.quota
    }

    fn state(&self) -> MutexGuard<'_, Pieces> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    account: Arc<Account>,
    pieces: Vec<Piece>,
    charged: u64,
    /// Bytes that belong to no piece.
    overhead: u64,
}

impl Held {
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Held { account: Arc::clone(account), pieces: Vec::new(), charged: 0, overhead: 0 }
    }

    /// Bytes counted for it when they were added.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Counts what the other does from now on.
    pub(crate) fn absorb(&mut self, mut other: Held) {
        self.pieces.append(&mut other.pieces);
        self.charged += std::mem::take(&mut other.charged);
        self.overhead += std::mem::take(&mut other.overhead);
    }

    /// Counts so many bytes more, or nothing where they do not fit.
    pub(crate) fn add_bytes(&mut self, bytes: u64) -> Result<(), Full> {
        self.add_pieces(Vec::new(), bytes)
    }

    /// Counts the memory of one more message, or nothing where it does not fit.
    pub(crate) fn add(&mut self, message: &Message) -> Result<(), Full> {
        self.add_with(message, 0)
    }

    /// As [`Held::add`], and so many bytes besides its own.
    pub(crate) fn add_with(&mut self, message: &Message, overhead: u64) -> Result<(), Full> {
        self.add_pieces(pieces_of(message), overhead)
    }

    fn add_pieces(&mut self, pieces: Vec<Piece>, overhead: u64) -> Result<(), Full> {
        let account = Arc::clone(&self.account);
        let mut own = account.state();
        let needed = own.needed(&pieces) + overhead;
        if own.used() + needed > account.quota {
            return Err(Full { needed, used: own.used(), limit: account.quota });
        }
        account.budget.hold(&pieces, overhead)?;
        for piece in &pieces {
            self.charged += own.hold(*piece);
        }
        own.take(overhead);
        self.overhead += overhead;
        self.charged += overhead;
        self.pieces.extend(pieces);
        Ok(())
    }

    /// Counts what is kept of a message in place of the message itself, which
    /// was counted and is larger, so that there is room.
    pub(crate) fn exchange(&mut self, message: &Message, kept: &Kept) {
        let account = Arc::clone(&self.account);
        let mut own = account.state();
        let mut gone = pieces_of(message);
        gone.retain(|piece| match self.pieces.iter().rposition(|held| held == piece) {
            Some(at) => {
                self.pieces.swap_remove(at);
                true
            }
            None => false,
        });
        let mut new = pieces_of(&kept.message);
        new.extend(piece_of(&kept.put_header));
        for piece in &gone {
            // Who gives a shared piece up last need not be who it was charged to.
            self.charged = self.charged.saturating_sub(own.release(*piece));
        }
        for piece in &new {
            self.charged += own.hold(*piece);
        }
        account.budget.exchange(&gone, &new);
        self.pieces.extend(new);
    }
}

/// Address and length of every piece of memory that a message has.
fn pieces_of(message: &Message) -> Vec<Piece> {
    let parts = [&message.header, &message.app_metadata];
    parts.into_iter().chain(&message.body).filter_map(piece_of).collect()
}

fn piece_of(bytes: &Bytes) -> Option<Piece> {
    (!bytes.is_empty()).then(|| (bytes.as_ptr().addr(), bytes.len()))
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut own = self.account.state();
        for piece in &self.pieces {
            own.release(*piece);
        }
        own.give(self.overhead);
        self.account.budget.release(&self.pieces, self.overhead);
    }
}

/// Small messages move into memory of exactly their size: what arrives from a
/// network is often a corner of a larger buffer, which it would keep alive.
/// Bodies in several pieces are put together, once and not for every reader.
pub(crate) fn compact(message: Message) -> Message {
    const SMALL: usize = 64 << 10;
    if message.len() > SMALL {
        let body = message.contiguous_body();
        let Message { header, app_metadata, .. } = message;
        return Message { app_metadata, ..Message::new(header, body) };
    }
    let mut all = Vec::with_capacity(message.len());
    all.extend_from_slice(&message.header);
    all.extend_from_slice(&message.app_metadata);
    let body_at = all.len();
    message.body.iter().for_each(|piece| all.extend_from_slice(piece));
    let all = Bytes::from(all);
    let header = all.slice(..message.header.len());
    let app_metadata = all.slice(message.header.len()..body_at);
    let body = all.slice(body_at..);
    Message { app_metadata, ..Message::new(header, body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &Bytes) -> Message {
        Message::new(Bytes::new(), bytes.clone())
    }

    #[test]
    fn shared_memory_counts_once_and_until_the_last_holder_is_gone() {
        let budget = Budget::new(100);
        let account = Account::new(Arc::clone(&budget), None);
        let bytes = Bytes::from(vec![0; 60]);
        let (mut one, mut two) = (Held::new(&account), Held::new(&account));
        one.add(&message(&bytes)).unwrap();
        two.add(&message(&bytes)).unwrap();
        assert_eq!((budget.used(), account.used()), (60, 60));
        drop(one);
        assert_eq!(budget.used(), 60);
        let other = Bytes::from(vec![0; 41]);
        assert_eq!(two.add(&message(&other)), Err(Full { needed: 41, used: 60, limit: 100 }));
        drop(two);
        assert_eq!((budget.used(), account.used()), (0, 0));
    }

    #[test]
    fn namespaces_that_share_memory_each_account_for_it() {
        let budget = Budget::new(100);
        let (one, two) =
            (Account::new(Arc::clone(&budget), None), Account::new(Arc::clone(&budget), None));
        let bytes = Bytes::from(vec![0; 60]);
        let (mut first, mut second) = (Held::new(&one), Held::new(&two));
        first.add(&message(&bytes)).unwrap();
        second.add(&message(&bytes)).unwrap();
        assert_eq!((budget.used(), one.used(), two.used()), (60, 60, 60));
        drop(first);
        assert_eq!((budget.used(), one.used(), two.used()), (60, 0, 60));
        drop(second);
        assert_eq!((budget.used(), one.used(), two.used()), (0, 0, 0));
    }

    #[test]
    fn a_quota_refuses_before_the_budget_does() {
        let budget = Budget::new(100);
        let account = Account::new(Arc::clone(&budget), Some(10));
        let mut held = Held::new(&account);
        let full = held.add(&message(&Bytes::from(vec![0; 11]))).unwrap_err();
        assert_eq!(full, Full { needed: 11, used: 0, limit: 10 });
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_compact_message_is_the_same_message() {
        let big = Bytes::from(vec![7; 1 << 20]);
        let mut small = Message::new(big.slice(..3), big.slice(8..20));
        small.app_metadata = big.slice(4..6);
        let packed = compact(small.clone());
        assert_eq!(packed, small);
        assert_ne!(packed.header.as_ptr(), small.header.as_ptr());
    }
}
