//! How far the window is open: a pure function of what was taken and answered.
//!
//! It begins small. Whenever a window full of requests was answered, and someone
//! had to wait for room meanwhile, it is looked at how long answers take: while
//! that is near the least that was seen, the window is doubled, since the path
//! takes more; when it is many times that, requests only wait for each other, and
//! the window gets smaller by a quarter.

use std::time::Duration;

use crate::WindowConfig;

/// Answers may take so much longer than the least, and twice as long: what a
/// machine does otherwise makes as much of a difference.
const SLACK: Duration = Duration::from_micros(250);
/// So many times the least with its slack is too long.
const TOO_LONG: u32 = 4;
/// The least is of the last two spans of this length: the path may change.
const SPAN: Duration = Duration::from_secs(10);
/// One answer counts for one of so many parts in the smoothed time.
const SMOOTH: u32 = 8;

/// The window of one lane to one peer.
#[derive(Debug)]
pub(super) struct State {
    config: WindowConfig,
    requests_limit: usize,
    bytes_limit: usize,
    requests: usize,
    bytes: usize,
    least: Least,
    /// `None` before the first answer.
    smoothed: Option<Duration>,
    /// Somebody had to wait since the window was looked at last.
    was_full: bool,
    /// Answers since then.
    answers: usize,
}

impl State {
    pub(super) fn new(config: WindowConfig) -> Self {
        State {
            config,
            requests_limit: config.requests,
            bytes_limit: config.bytes,
            requests: 0,
            bytes: 0,
            least: Least::default(),
            smoothed: None,
            was_full: false,
            answers: 0,
        }
    }

    /// Takes room for a request of so many bytes, if there is any.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if !self.has_room(bytes) {
            self.was_full = true;
            return false;
        }
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }

    /// One that is larger than the whole window goes alone.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.requests == 0
            || (self.requests < self.requests_limit
                && self.bytes.saturating_add(bytes) <= self.bytes_limit)
    }

    /// Gives back what a request took that will not be answered.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The same of one that was answered at `now`, and took so long.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration, now: Duration) {
        self.give_back(bytes);
        let least = self.least.with(took, now);
        let before = self.smoothed.unwrap_or(took);
        let smoothed = (before * (SMOOTH - 1) + took) / SMOOTH;
        self.smoothed = Some(smoothed);
        self.answers += 1;
        if self.answers >= self.requests_limit {
            self.look(smoothed, least);
        }
    }

    fn look(&mut self, smoothed: Duration, least: Duration) {
        self.answers = 0;
        let WindowConfig { requests, bytes, max_requests, max_bytes } = self.config;
        if smoothed > (least + SLACK).saturating_mul(TOO_LONG) {
            self.requests_limit = (self.requests_limit / 4 * 3).max(requests);
            self.bytes_limit = (self.bytes_limit / 4 * 3).max(bytes);
        } else if self.was_full && smoothed <= least * 2 + SLACK {
            self.requests_limit = self.requests_limit.saturating_mul(2).min(max_requests);
            self.bytes_limit = self.bytes_limit.saturating_mul(2).min(max_bytes);
        }
        self.was_full = false;
    }

    /// Requests and bytes under way.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.requests, self.bytes)
    }

    /// Requests and bytes that may be.
    pub(super) fn limits(&self) -> (usize, usize) {
        (self.requests_limit, self.bytes_limit)
    }
}

/// The least of the last one to two spans.
#[derive(Debug, Default)]
struct Least {
    began: Duration,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Least {
    fn with(&mut self, took: Duration, now: Duration) -> Duration {
        if now.saturating_sub(self.began) >= SPAN {
            (self.began, self.before) = (now, self.now.take());
        }
        let least = self.now.map_or(took, |least| least.min(took));
        self.now = Some(least);
        self.before.map_or(least, |before| before.min(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn state() -> State {
        State::new(WindowConfig { requests: 2, bytes: 100, max_requests: 64, max_bytes: 400 })
    }

    /// Rounds of as many requests as there is room for, each answered after `took`.
    fn rounds(state: &mut State, count: u64, took: Duration) {
        for _ in 0..count {
            while state.take(1) {}
            for _ in 0..state.taken().0 {
                state.answered(1, took, NOW);
            }
        }
    }

    #[test]
    fn what_answers_took_long_ago_is_forgotten() {
        let (mut least, at) = (Least::default(), Duration::from_secs);
        let quick = Duration::from_millis(1);
        assert_eq!(least.with(quick, at(1)), quick);
        assert_eq!(least.with(quick * 5, at(9)), quick);
        assert_eq!(least.with(quick * 5, at(11)), quick);
        assert_eq!(least.with(quick * 5, at(21)), quick * 5);
    }

    #[test]
    fn a_window_that_is_full_takes_nothing() {
        let mut state = state();
        assert!(state.take(60) && !state.take(60), "120 bytes are too many");
        assert!(state.take(40) && !state.take(0), "three requests are too many");
        state.give_back(60);
        assert!(state.take(60));
    }

    #[test]
    fn one_that_is_larger_than_the_window_goes_alone() {
        let mut state = state();
        assert!(state.take(1_000) && !state.take(1));
        state.give_back(1_000);
        assert_eq!(state.taken(), (0, 0));
    }

    #[test]
    fn it_grows_while_answers_take_no_longer_and_no_further_than_is_allowed() {
        let mut state = state();
        rounds(&mut state, 20, Duration::from_millis(1));
        assert_eq!(state.limits(), (64, 400));
        // Nobody waited: nothing says that more would do any good.
        let mut idle = self::state();
        for _ in 0..100 {
            assert!(idle.take(1));
            idle.answered(1, Duration::from_millis(1), NOW);
        }
        assert_eq!(idle.limits(), (2, 100));
    }

    #[test]
    fn it_stays_where_answers_take_longer_and_shrinks_where_they_take_too_long() {
        let mut state = state();
        rounds(&mut state, 3, Duration::from_millis(1));
        let grown = state.limits();
        assert!(grown.0 > 2);
        rounds(&mut state, 3, Duration::from_millis(5));
        assert!(state.limits().0 <= grown.0 * 2);
        rounds(&mut state, 20, Duration::from_millis(100));
        assert_eq!(state.limits(), (2, 100));
    }
}
