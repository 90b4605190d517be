//! Which calls a test means, and what happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Buf as _;
use tokio::sync::watch;

/// The path of Flight's actions: all of them are this one call.
pub(super) const DO_ACTION: &str = "/arrow.flight.protocol.FlightService/DoAction";

/// The calls that a test means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Path(String),
    Method(String),
    Action(String),
}

impl Call {
    /// Calls of exactly this path, such as `/sheaf.coordinator.v1.Coordinator/Claim`.
    pub fn path(path: impl Into<String>) -> Self {
        Call(Kind::Path(path.into()))
    }

    /// Calls of this method of any service: `Claim`, `DoPut`.
    pub fn method(name: impl Into<String>) -> Self {
        Call(Kind::Method(name.into()))
    }

    /// Flight actions of this type: `Claim`, `RegisterBatch`.
    pub fn action(name: impl Into<String>) -> Self {
        Call(Kind::Action(name.into()))
    }

    fn is(&self, path: &str, action: Option<&str>) -> bool {
        match &self.0 {
            Kind::Path(wanted) => path == wanted,
            Kind::Method(wanted) => path.rsplit('/').next() == Some(wanted),
            Kind::Action(wanted) => action == Some(wanted),
        }
    }
}

/// How a reply gets lost. In each case the server has answered in full before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client's connection breaks, with every other call on it.
    Connection,
    /// Only this call is reset.
    Reset,
    /// Nothing comes, until the client gives up by its own deadline.
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Lose(Loss),
    HoldRequest,
    HoldReply,
}

/// What one fault does to whom, shared between the test and the proxy.
#[derive(Debug)]
pub(super) struct Rule {
    call: Call,
    pub(super) effect: Effect,
    /// How many more calls it takes.
    left: AtomicU64,
    hits: AtomicU64,
    ended: watch::Sender<bool>,
}

impl Rule {
    pub(super) fn new(call: Call, effect: Effect, times: u64) -> Arc<Self> {
        let (left, hits) = (AtomicU64::new(times), AtomicU64::new(0));
        Arc::new(Rule { call, effect, left, hits, ended: watch::Sender::new(false) })
    }

    /// Whether the call is meant, as long as the rule is not used up.
    pub(super) fn means(&self, path: &str, action: Option<&str>) -> bool {
        !self.is_ended() && self.left.load(Ordering::SeqCst) > 0 && self.call.is(path, action)
    }

    /// Takes one call of those that it means; `false` when others were faster.
    pub(super) fn take(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        !self.is_ended()
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    /// The server has answered a call that was taken, or it is held.
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    pub(super) async fn ended(&self) {
        // The sender is in `self`: it cannot be gone.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }
}

/// A fault of a [`CallProxy`](crate::CallProxy), in force until it is used up,
/// ended or dropped.
#[derive(Debug)]
pub struct CallFault(pub(super) Arc<Rule>);

impl CallFault {
    /// How many calls it has hit: replies that were lost, or calls that were
    /// held (those that went on since too).
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Ends it: what it holds goes on.
    pub fn end(&self) {
        self.0.ended.send_replace(true);
    }
}

impl Drop for CallFault {
    fn drop(&mut self) {
        self.end();
    }
}

/// The type of the action in the first gRPC message of a request: field 1 of
/// `arrow.flight.protocol.Action`.
pub(super) fn action_type(request: &[u8]) -> Option<&str> {
    let mut message = request.get(5..)?;
    while !message.is_empty() {
        let (tag, length) = (varint(&mut message)?, varint(&mut message)?);
        let length = usize::try_from(length).ok()?;
        let field = message.get(..length)?;
        match tag {
            0x0a => return std::str::from_utf8(field).ok(),
            // The body, or another field with a length.
            tag if tag & 7 == 2 => message = message.get(length..)?,
            _ => return None,
        }
    }
    None
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_path_method_and_action() {
        let path = "/sheaf.coordinator.v1.Coordinator/Claim";
        assert!(Call::path(path).is(path, None));
        assert!(Call::method("Claim").is(path, None));
        assert!(!Call::method("Coordinator").is(path, None));
        assert!(!Call::action("Claim").is(path, None));
        assert!(Call::action("Claim").is(DO_ACTION, Some("Claim")));
        assert!(!Call::action("Claim").is(DO_ACTION, Some("Settle")));
    }

    #[test]
    fn the_type_of_an_action_is_found_in_any_order() {
        let first = b"\0\0\0\0\x0b\x0a\x05Claim\x12\x02{}";
        let last = b"\0\0\0\0\x0b\x12\x02{}\x0a\x05Claim";
        assert_eq!(action_type(first), Some("Claim"));
        assert_eq!(action_type(last), Some("Claim"));
        for broken in [&b""[..], b"\0\0\0\0\0", b"\0\0\0\0\x02\x0a\x7fx", b"\0\0\0\0\x02\x08\x01"] {
            assert_eq!(action_type(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_rule_takes_so_many_calls_until_it_ends() {
        let rule = Rule::new(Call::method("Claim"), Effect::HoldReply, 2);
        let means = || rule.means("/s/Claim", None);
        assert!(!rule.means("/s/Settle", None));
        assert!(means() && rule.take() && means() && rule.take());
        assert!(!means() && !rule.take());
        let rule = Rule::new(Call::method("Claim"), Effect::HoldReply, 2);
        drop(CallFault(Arc::clone(&rule)));
        assert!(!rule.means("/s/Claim", None) && !rule.take());
    }
}
