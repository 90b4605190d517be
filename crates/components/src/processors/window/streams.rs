//! How far the times of the inputs have come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An input that has sent nothing for so long holds no window open any more.
const IDLE: Duration = Duration::from_secs(30);

/// The newest time that each input has sent.
///
/// A window is over when every input is beyond it: inputs that run side by side need not be
/// equally fast.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<(Arc<str>, u32), Stream>);

struct Stream {
    /// None before its first row.
    newest: Option<i64>,
    has_ended: bool,
    /// When it last sent something.
    heard: Duration,
}

impl Streams {
    /// A stream that will send, or has sent rows as new as `newest`.
    pub(super) fn heard(
        &mut self,
        from: &Arc<str>,
        instance: u32,
        newest: Option<i64>,
        now: Duration,
    ) {
        let stream = self.0.entry((Arc::clone(from), instance)).or_insert(Stream {
            newest: None,
            has_ended: false,
            heard: now,
        });
        stream.heard = now;
        stream.newest = stream.newest.max(newest);
    }

    pub(super) fn ended(&mut self, from: &Arc<str>, instance: u32) {
        if let Some(stream) = self.0.get_mut(&(Arc::clone(from), instance)) {
            stream.has_ended = true;
        }
    }

    /// The time that all of them have reached; none where nobody knows.
    pub(super) fn reached(&self, now: Duration) -> Option<i64> {
        let is_awake =
            |stream: &&Stream| !stream.has_ended && now.saturating_sub(stream.heard) < IDLE;
        let awake = self.0.values().filter(is_awake).map(|stream| stream.newest).min();
        // One that is awake and has sent no row holds all back.
        awake.unwrap_or_else(|| self.0.values().filter_map(|stream| stream.newest).max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_input_counts_until_it_ends_or_falls_asleep() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let at = Duration::from_secs;
        let mut streams = Streams::default();
        assert_eq!(streams.reached(at(0)), None);
        streams.heard(&a, 0, None, at(0));
        streams.heard(&b, 0, None, at(0));
        streams.heard(&a, 0, Some(50), at(1));
        assert_eq!(streams.reached(at(1)), None);
        streams.heard(&b, 0, Some(20), at(2));
        streams.heard(&b, 0, Some(10), at(2));
        assert_eq!(streams.reached(at(2)), Some(20));
        streams.heard(&a, 0, Some(60), at(20));
        // `b` has slept for 30 s at 32 s.
        assert_eq!((streams.reached(at(31)), streams.reached(at(32))), (Some(20), Some(60)));
        streams.heard(&b, 0, Some(30), at(33));
        assert_eq!(streams.reached(at(33)), Some(30));
        streams.ended(&b, 0);
        assert_eq!(streams.reached(at(34)), Some(60));
    }
}
