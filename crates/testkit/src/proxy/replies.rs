//! Replies that get lost, told by bytes of their requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::frames::Framer;
use super::holds::{Hold, Holds};

/// Faults in force at a time.
const MAX_RULES: usize = 64;
/// So much of one request is searched.
const MAX_SEARCHED: usize = 16 << 20;

/// What becomes of a connection on which a reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyLoss {
    /// It breaks, once the server has given the reply in full.
    Cut,
    /// It stays open; nothing that the server says comes through any more.
    Silence,
}

#[derive(Debug)]
struct Rule {
    bytes: Vec<u8>,
    loss: ReplyLoss,
    /// How many more requests it takes.
    left: AtomicU64,
    hits: AtomicU64,
    ended: AtomicBool,
}

impl Rule {
    /// Takes a request, if it is meant and the rule is not used up.
    fn take(&self, request: &[u8]) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        !self.ended.load(Ordering::SeqCst)
            && contains(request, &self.bytes)
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}

pub(super) fn contains(request: &[u8], bytes: &[u8]) -> bool {
    bytes.is_empty() || request.windows(bytes.len()).any(|window| window == bytes)
}

/// A fault of [`FaultProxy::lose_replies`](crate::FaultProxy::lose_replies), in
/// force until it is used up, ended or dropped.
#[derive(Debug)]
pub struct ReplyFault(Arc<Rule>);

impl ReplyFault {
    /// How many replies it has lost, each after the server gave it in full.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Ends it for requests that are still to come.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Drop for ReplyFault {
    fn drop(&mut self) {
        self.end();
    }
}

/// The faults of a proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(Arc<Mutex<Vec<Arc<Rule>>>>);

impl Losses {
    pub(super) fn add(&self, bytes: Vec<u8>, loss: ReplyLoss, times: u64) -> ReplyFault {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| {
            !rule.ended.load(Ordering::SeqCst) && rule.left.load(Ordering::SeqCst) > 0
        });
        assert!(rules.len() < MAX_RULES, "more than {MAX_RULES} faults at a time: end some");
        let (left, hits) = (AtomicU64::new(times), AtomicU64::new(0));
        let rule = Arc::new(Rule { bytes, loss, left, hits, ended: AtomicBool::new(false) });
        rules.push(Arc::clone(&rule));
        ReplyFault(rule)
    }

    /// The two directions of one connection.
    pub(super) fn connection(&self, holds: &Holds) -> (Requests, Answers) {
        let marks = Marks::default();
        let requests = Requests {
            losses: self.clone(),
            holds: holds.clone(),
            marks: Arc::clone(&marks),
            framer: Some(Framer::default()),
            request: Vec::new(),
            number: 0,
        };
        let framer = Some(Framer::default());
        (requests, Answers { marks, framer, number: 0, losing: None, silent: false })
    }

    fn take(&self, request: &[u8]) -> Option<Arc<Rule>> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().find(|rule| rule.take(request)).cloned()
    }
}

/// Numbers of the requests of a connection whose replies are to be lost.
type Marks = Arc<Mutex<VecDeque<(u64, Arc<Rule>)>>>;

/// Reads along what the client sends.
#[derive(Debug)]
pub(super) struct Requests {
    losses: Losses,
    holds: Holds,
    marks: Marks,
    /// `None` once it is clear that the client speaks something else.
    framer: Option<Framer>,
    request: Vec<u8>,
    number: u64,
}

impl Requests {
    /// Takes off what is to be sent next; from some place on it is to be sent
    /// only when the hold there has ended. To be called before the server gets
    /// the bytes: its reply may be quick.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> (Bytes, Option<(usize, Arc<Hold>)>) {
        let (mut at, mut start) = (0, 0);
        while at < bytes.len() {
            let Some(framer) = self.framer.as_mut() else { break };
            let Some((used, done)) = framer.advance(&bytes[at..]) else {
                self.framer = None;
                self.request = Vec::new();
                break;
            };
            let room = MAX_SEARCHED.saturating_sub(self.request.len());
            self.request.extend(&bytes[at..at + used.min(room)]);
            at += used;
            if done {
                if let Some(rule) = self.losses.take(&self.request) {
                    let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                    marks.push_back((self.number, rule));
                }
                self.number += 1;
                let hold = self.holds.meet(&self.request);
                self.request.clear();
                if let Some(hold) = hold {
                    return (bytes.split_to(at), Some((start, hold)));
                }
                start = at;
            }
        }
        (std::mem::take(bytes), None)
    }
}

/// Holds back what is to be lost of what the server sends.
#[derive(Debug)]
pub(super) struct Answers {
    marks: Marks,
    framer: Option<Framer>,
    number: u64,
    /// Whose reply is being lost.
    losing: Option<Arc<Rule>>,
    silent: bool,
}

impl Answers {
    /// What of the bytes may pass, and whether the connection breaks after that.
    pub(super) fn pass(&mut self, bytes: &Bytes) -> (Bytes, bool) {
        if self.silent {
            return (Bytes::new(), false);
        }
        let mut at = 0;
        let mut passing = if self.losing.is_some() { 0 } else { bytes.len() };
        while at < bytes.len() {
            let Some(framer) = self.framer.as_mut() else { break };
            // What a server says unasked is nobody's reply.
            let starts = framer.at_start();
            let push = starts && bytes[at] == b'>';
            if starts && !push {
                self.losing = self.marked();
                self.number += 1;
                if self.losing.is_some() {
                    passing = at;
                }
            }
            let Some((used, done)) = self.framer.as_mut().and_then(|f| f.advance(&bytes[at..]))
            else {
                self.framer = None;
                break;
            };
            at += used;
            if let Some(rule) = self.losing.take_if(|_| done) {
                rule.hits.fetch_add(1, Ordering::SeqCst);
                self.silent = true;
                return (bytes.slice(..passing), rule.loss == ReplyLoss::Cut);
            }
        }
        (bytes.slice(..passing), false)
    }

    fn marked(&self) -> Option<Arc<Rule>> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, _) = marks.front()?;
        (*number == self.number).then(|| marks.pop_front()).flatten().map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

    fn see(requests: &mut Requests, bytes: &[u8]) {
        let mut bytes = Bytes::copy_from_slice(bytes);
        while !bytes.is_empty() {
            drop(requests.next(&mut bytes));
        }
    }

    fn answered(answers: &mut Answers, replies: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut passed, mut cut) = (Vec::new(), false);
        for piece in replies.chunks(piece) {
            assert!(!cut, "nothing is asked for after the end");
            let (part, ends) = answers.pass(&Bytes::copy_from_slice(piece));
            passed.extend(part);
            cut = ends;
            if cut {
                break;
            }
        }
        (passed, cut)
    }

    #[test]
    fn just_the_reply_of_the_request_is_lost_in_any_pieces() {
        let replies = b"$1\r\na\r\n>2\r\n+invalidate\r\n+k\r\n*2\r\n+O\r\n+K\r\n$1\r\nb\r\n";
        for piece in 1..replies.len() {
            let losses = Losses::default();
            let fault = losses.add(b"SET".into(), ReplyLoss::Cut, 1);
            let (mut requests, mut answers) = losses.connection(&Holds::default());
            for part in [GET, SET, GET].concat().chunks(piece) {
                see(&mut requests, part);
            }
            let (passed, cut) = answered(&mut answers, replies, piece);
            assert_eq!(passed, b"$1\r\na\r\n>2\r\n+invalidate\r\n+k\r\n", "{piece}");
            assert!(cut);
            assert_eq!(fault.hits(), 1);
        }
    }

    #[test]
    fn a_request_is_held_and_what_comes_before_it_is_not() {
        for piece in 1..=[GET, SET, GET].concat().len() {
            let holds = Holds::default();
            let hold = holds.add(b"SET".into());
            let (mut requests, _) = Losses::default().connection(&holds);
            let mut passed = Vec::new();
            for part in [GET, SET, GET].concat().chunks(piece) {
                let (sent, held) = requests.next(&mut Bytes::copy_from_slice(part));
                let free = held.as_ref().map_or(sent.len(), |(from, _)| *from);
                passed.extend(&sent[..free]);
                if held.is_some() {
                    break;
                }
            }
            let whole = [GET, SET].concat();
            assert!(whole.starts_with(&passed) && passed.len() >= GET.len(), "{piece}");
            assert!(passed.len() < whole.len(), "the server has no whole request: {piece}");
            assert_eq!(hold.hits(), 1);
            drop(hold);
            let (mut requests, _) = Losses::default().connection(&holds);
            assert!(requests.next(&mut Bytes::from_static(SET)).1.is_none(), "it has ended");
        }
    }

    #[test]
    fn silence_lets_nothing_through_any_more() {
        let losses = Losses::default();
        let fault = losses.add(b"GET".into(), ReplyLoss::Silence, 2);
        let (mut requests, mut answers) = losses.connection(&Holds::default());
        see(&mut requests, &[SET, GET, SET].concat());
        let silent = (b"+OK\r\n".to_vec(), false);
        assert_eq!(answered(&mut answers, b"+OK\r\n$1\r\nv\r\n+OK\r\n", 3), silent);
        assert_eq!(fault.hits(), 1);
    }

    #[test]
    fn faults_end_by_number_by_hand_and_mean_nothing_to_others() {
        let losses = Losses::default();
        let once = losses.add(b"GET".into(), ReplyLoss::Cut, 1);
        let ended = losses.add(b"SET".into(), ReplyLoss::Cut, 9);
        ended.end();
        assert!(losses.take(SET).is_none());
        assert!(losses.take(GET).is_some() && losses.take(GET).is_none());
        assert_eq!(once.hits(), 0, "not before there was a reply");

        let all = losses.add(Vec::new(), ReplyLoss::Cut, 9);
        let (mut requests, mut answers) = losses.connection(&Holds::default());
        see(&mut requests, b"PRI * HTTP/2.0\r\n\r\n");
        let other = (b"\0\0\x12\x04".to_vec(), false);
        assert_eq!(answered(&mut answers, b"\0\0\x12\x04", 4), other);
        assert_eq!(all.hits(), 0);
    }
}
