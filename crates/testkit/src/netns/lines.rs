//! What packets suffer on the way between a node and the bridge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sheaf_retry::{SharedClock, SystemClock};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::tap;
use crate::Error;
use crate::background::Worker;
use crate::random::Random;

/// Longer than any frame of these interfaces: 1,500 bytes and a head.
const MAX_FRAME: usize = 2_048;
/// Frames under way in one direction; one more is lost.
const MAX_FRAMES: usize = 16_384;
/// Sending all that waits takes a slow line no longer; what comes then is lost.
const MAX_QUEUE: Duration = Duration::from_millis(250);

/// What the line of a node does to each packet, in each direction by itself. Between two
/// nodes are two lines, between a node and the test one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// How long a packet is under way.
    pub delay: Duration,
    /// Up to so much longer, each packet by itself: they overtake each other.
    pub jitter: Duration,
    /// So many of 100 packets arrive twice.
    pub repeated_percent: u8,
    /// No more than this passes. What is more waits for a quarter of a second at the most,
    /// or is lost.
    pub bytes_per_second: Option<u64>,
}

/// Carries the packets of lines on a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lines {
    plans: Vec<watch::Sender<Line>>,
    _worker: Worker,
}

impl Lines {
    /// Of each line both ends, the node's and the bridge's.
    pub(super) fn start(ends: Vec<(OwnedFd, OwnedFd)>) -> Result<Self, Error> {
        let plans: Vec<_> = ends.iter().map(|_| watch::Sender::new(Line::default())).collect();
        let all: Vec<_> = plans.iter().map(watch::Sender::subscribe).collect();
        let worker = Worker::start("lines", move || {
            let ends = ends.into_iter().map(|(node, bridge)| {
                Ok((Arc::new(tap::watch(node)?), Arc::new(tap::watch(bridge)?)))
            });
            let ends: io::Result<Vec<_>> = ends.collect();
            let ends = ends.map_err(Error::io("watch an interface"))?;
            Ok(move || carry_all(ends, all))
        })?;
        Ok(Lines { plans, _worker: worker })
    }

    pub(super) fn set(&self, node: usize, line: Line) {
        self.plans[node].send_replace(line);
    }
}

type End = Arc<AsyncFd<OwnedFd>>;

async fn carry_all(ends: Vec<(End, End)>, plans: Vec<watch::Receiver<Line>>) {
    let clock = SystemClock::shared();
    let mut carrying = Vec::new();
    for (seed, ((node, bridge), plan)) in (0..).zip(ends.into_iter().zip(plans)) {
        let there = (Arc::clone(&node), Arc::clone(&bridge), 2 * seed);
        for (from, to, seed) in [there, (bridge, node, 2 * seed + 1)] {
            carrying.push(carry(from, to, plan.clone(), UnderWay::new(seed), clock.clone()));
        }
    }
    futures::future::join_all(carrying).await;
}

/// One direction of a line, until its interface is gone.
async fn carry(
    from: End,
    to: End,
    plan: watch::Receiver<Line>,
    mut under_way: UnderWay,
    clock: SharedClock,
) {
    let mut frame = vec![0; MAX_FRAME];
    loop {
        while let Some(frame) = under_way.arrived(clock.elapsed()) {
            // An interface that is down takes nothing, as a cable that is not plugged in.
            rustix::io::write(&*to, &frame).ok();
        }
        let next = under_way.next().map(|due| due.saturating_sub(clock.elapsed()));
        tokio::select! {
            taken = take(&from, &mut frame) => {
                let Ok(length) = taken else { return };
                let frame = Bytes::copy_from_slice(&frame[..length]);
                under_way.send(&plan.borrow(), clock.elapsed(), &frame);
            }
            () = clock.sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
}

/// The next frame that was sent.
async fn take(from: &AsyncFd<OwnedFd>, frame: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = from.readable().await?;
        let taken = ready.try_io(|from| Ok(rustix::io::read(from, &mut *frame)?));
        if let Ok(taken) = taken {
            return taken;
        }
    }
}

/// The frames of one direction, each with the time at which it arrives.
#[derive(Debug)]
struct UnderWay {
    frames: BinaryHeap<Reverse<(Duration, u64, Bytes)>>,
    /// Frames so far: those that arrive at the same time do in their order.
    sent: u64,
    /// When a slow line has sent what it has.
    free: Duration,
    random: Random,
}

impl UnderWay {
    fn new(seed: u64) -> Self {
        let (frames, free) = (BinaryHeap::new(), Duration::ZERO);
        UnderWay { frames, sent: 0, free, random: Random(seed) }
    }

    fn send(&mut self, line: &Line, now: Duration, frame: &Bytes) {
        let mut leaves = now;
        if let Some(rate) = line.bytes_per_second {
            let begins = self.free.max(now);
            if begins > now + MAX_QUEUE {
                return;
            }
            let nanos = frame.len() as u64 * 1_000_000_000 / rate.max(1);
            leaves = begins + Duration::from_nanos(nanos);
            self.free = leaves;
        }
        let is_repeated = self.random.below(100) < u64::from(line.repeated_percent);
        for _ in 0..=u8::from(is_repeated) {
            if self.frames.len() == MAX_FRAMES {
                return;
            }
            let jitter = u64::try_from(line.jitter.as_micros()).unwrap_or(u64::MAX - 1);
            let jitter = Duration::from_micros(self.random.below(jitter + 1));
            self.sent += 1;
            self.frames.push(Reverse((leaves + line.delay + jitter, self.sent, frame.clone())));
        }
    }

    /// When the next one arrives.
    fn next(&self) -> Option<Duration> {
        self.frames.peek().map(|Reverse((due, ..))| *due)
    }

    /// A frame that has arrived by now.
    fn arrived(&mut self, now: Duration) -> Option<Bytes> {
        self.next().filter(|due| *due <= now)?;
        self.frames.pop().map(|Reverse((.., frame))| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn frame(number: u8) -> Bytes {
        Bytes::from(vec![number; 1_000])
    }

    /// When which frames arrive, one of which is sent every millisecond.
    fn arrivals(line: Line, count: u8) -> Vec<(Duration, u8)> {
        let mut under_way = UnderWay::new(1);
        (0..count).for_each(|number| {
            under_way.send(&line, MILLI * u32::from(number), &frame(number));
        });
        let mut arrivals = Vec::new();
        while let Some(due) = under_way.next() {
            if let Some(before) = due.checked_sub(Duration::from_nanos(1)) {
                assert_eq!(under_way.arrived(before), None);
            }
            arrivals.push((due, under_way.arrived(due).unwrap()[0]));
        }
        arrivals
    }

    #[test]
    fn a_line_delays_what_it_carries_and_keeps_its_order() {
        for delay in [Duration::ZERO, MILLI * 30] {
            let expected = (0..3).map(|number| (MILLI * u32::from(number) + delay, number));
            let found = arrivals(Line { delay, ..Line::default() }, 3);
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn frames_overtake_each_other_where_their_delays_differ() {
        let line = Line { delay: MILLI * 10, jitter: MILLI * 20, ..Line::default() };
        let found = arrivals(line, 100);
        assert_eq!(found.len(), 100);
        assert!(found.windows(2).any(|two| two[0].1 > two[1].1));
        for (at, number) in found {
            let under_way = at - MILLI * u32::from(number);
            assert!((MILLI * 10..=MILLI * 30).contains(&under_way), "{under_way:?}");
        }
    }

    #[test]
    fn some_frames_arrive_twice() {
        let found = arrivals(Line { repeated_percent: 20, ..Line::default() }, 200);
        assert!((220..260).contains(&found.len()), "{}", found.len());
        assert_eq!(arrivals(Line { repeated_percent: 100, ..Line::default() }, 9).len(), 18);
    }

    #[test]
    fn a_slow_line_passes_so_much_and_loses_what_waits_too_long() {
        let line = Line { bytes_per_second: Some(100_000), ..Line::default() };
        // Ten times as much as it passes: 10 ms a frame, and a quarter of a second waits.
        let found = arrivals(line, 200);
        assert!(found.windows(2).all(|two| two[1].0 - two[0].0 == MILLI * 10), "{found:?}");
        assert!((44..=47).contains(&found.len()), "{}", found.len());
        let last = found[found.len() - 1].0;
        assert!(last <= MILLI * 200 + MAX_QUEUE + MILLI * 10, "{last:?}");
    }
}
