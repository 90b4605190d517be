//! What let a call in, what it may do, and until when.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_retry::{Code, SharedClock};

use super::rights::{Allowed, Need, Right};
use super::tokens::{Entry, Shared, expired, refused};
use crate::error::Error;

/// Rights that are watched while a call goes on: it needs one as a rule, and
/// as many as there are namespaces for ListFlights.
const MAX_USED: usize = 256;

/// What let a call in, and whether it still does.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// `None` where no token was needed.
    opened: Option<Arc<Opened>>,
}

#[derive(Debug)]
struct Opened {
    entry: Arc<Entry>,
    clock: SharedClock,
    /// What the call was found to have a right to.
    used: Mutex<BTreeSet<(String, Right)>>,
}

impl Grant {
    pub(super) fn new(entry: Arc<Entry>, clock: SharedClock) -> Self {
        Grant { opened: Some(Arc::new(Opened { entry, clock, used: Mutex::default() })) }
    }

    /// The name of the token, or its `line N`; `None` where none was needed.
    pub fn name(&self) -> Option<&str> {
        self.opened.as_ref().map(|opened| opened.entry.name.as_str())
    }

    /// The name of a token that has one: what it has put is counted by it.
    pub fn owner(&self) -> Option<&str> {
        let opened = self.opened.as_ref().filter(|opened| opened.entry.is_named)?;
        Some(&opened.entry.name)
    }

    /// Bytes of payloads that may be stored of what this token has put.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.opened.as_ref()?.entry.shared.limits.borrow().quota_bytes
    }

    /// Whether the call may do this; should that change while it goes on, it ends.
    ///
    /// # Errors
    /// `permission_denied`, naming token, namespace and right.
    pub fn require(&self, namespace: &str, right: Right) -> Result<(), Error> {
        self.check(namespace, right)?;
        if let Some(opened) = &self.opened {
            let mut used = opened.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.len() < MAX_USED {
                used.insert((namespace.to_owned(), right));
            }
        }
        Ok(())
    }

    /// Whether it may do this, now.
    pub(crate) fn check(&self, namespace: &str, right: Right) -> Result<(), Error> {
        let Some(opened) = &self.opened else { return Ok(()) };
        if opened.entry.shared.over.is_cancelled() {
            return Err(opened.ended());
        }
        let limits = opened.entry.shared.limits.borrow();
        match limits.allowed.has(namespace, right) {
            true => Ok(()),
            false => Err(denied(&opened.entry.name, namespace, right, &limits.allowed)),
        }
    }

    /// As [`Grant::require`], of whatever a call needs.
    pub(crate) fn require_all(&self, need: Need) -> Result<(), Error> {
        match need {
            Need::Nothing => Ok(()),
            Need::One(namespace, right) => self.require(namespace, right),
            Need::Everything => [Right::Read, Right::Write, Right::Change]
                .into_iter()
                .try_for_each(|right| self.require("*", right)),
        }
    }

    /// Counts a call, for as long as the answer lives; the limit where there
    /// are as many already.
    pub(crate) fn begin(&self) -> Result<CallSlot, usize> {
        let Some(opened) = &self.opened else { return Ok(CallSlot(None)) };
        let shared = &opened.entry.shared;
        let limit = shared.limits.borrow().calls.unwrap_or(usize::MAX);
        let more = |calls: usize| (calls < limit).then(|| calls + 1);
        let counted = shared.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map(|_| CallSlot(Some(Arc::clone(shared)))).map_err(|_| limit)
    }

    /// Why the call ends, once it has to: its token expired or was taken out,
    /// or lost a right that the call needed.
    pub(crate) async fn lost(self) -> Error {
        let Some(opened) = self.opened else { return std::future::pending().await };
        let shared = &opened.entry.shared;
        let mut limits = shared.limits.subscribe();
        loop {
            if let Some(error) = opened.lost_right() {
                return error;
            }
            tokio::select! {
                biased;
                () = shared.over.cancelled() => return opened.ended(),
                () = opened.expiry() => return opened.ended(),
                changed = limits.changed() => if changed.is_err() {
                    // Cannot be: what sends is held above.
                    return opened.ended();
                },
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.entry.shared.over.is_cancelled())
    }
}

impl Opened {
    /// Resolves when the token has expired.
    async fn expiry(&self) {
        let Some(at) = self.entry.expires else { return std::future::pending().await };
        while !self.entry.expired(self.clock.now()) {
            self.clock.sleep(at.since(self.clock.now())).await;
        }
    }

    /// Why the call ends that the token had let in.
    fn ended(&self) -> Error {
        let entry = &self.entry;
        match entry.expired(self.clock.now()) {
            true => expired(entry),
            false => {
                refused(format!("the token {:?} was taken back while the call ran", entry.name))
            }
        }
    }

    fn lost_right(&self) -> Option<Error> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = self.entry.shared.limits.borrow();
        let mut lost = used.iter().filter(|(name, right)| !limits.allowed.has(name, *right));
        let (namespace, right) = lost.next()?;
        Some(denied(&self.entry.name, namespace, *right, &limits.allowed))
    }
}

fn denied(token: &str, namespace: &str, right: Right, allowed: &Allowed) -> Error {
    let lacking = right.letter();
    let namespace: String = namespace.chars().take(64).collect();
    let text = format!(
        "the token {token:?} lacks {lacking} ({}) in namespace {namespace:?}: its line in the \
         token file has allow={}; use another token, or have {lacking} added there",
        right.calls(),
        shortened(allowed),
    );
    Error::new(Code::PermissionDenied, text)
}

/// A long list says no more than its beginning.
fn shortened(allowed: &Allowed) -> String {
    const LENGTH: usize = 200;
    let mut text = allowed.to_string();
    if text.len() > LENGTH {
        // ASCII by its form.
        text.truncate(LENGTH);
        text.push('…');
    }
    text
}

/// A call that counts; until it is dropped.
#[derive(Debug)]
pub(crate) struct CallSlot(Option<Arc<Shared>>);

impl Drop for CallSlot {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
