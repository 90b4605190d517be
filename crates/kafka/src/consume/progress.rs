//! Partitions of which nothing comes although there is more and more.

use std::collections::HashMap;
use std::time::Duration;

use crate::tracker::TopicPartition;

/// How long a partition that grows may give nothing before it is taken up anew.
const STUCK: Duration = Duration::from_secs(60);

/// librdkafka has been seen to wait for ever for what was there: a seek to where
/// a partition is has it fetch again, and does no harm where nothing was wrong.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ends: HashMap<TopicPartition, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    end: i64,
    since: Duration,
    /// How far it reached in Kafka when it was looked at first since then.
    reached: Option<i64>,
}

impl Progress {
    /// Messages came, up to the offset `end` without it.
    pub(super) fn came(&mut self, partition: &TopicPartition, end: i64, now: Duration) {
        self.ends.insert(partition.clone(), Place { end, since: now, reached: None });
    }

    /// Partitions that came or went begin anew.
    pub(super) fn forget(&mut self, is_kept: impl Fn(&TopicPartition) -> bool) {
        self.ends.retain(|partition, _| is_kept(partition));
    }

    /// Those that grew since something came of them last, and gave nothing for too
    /// long, and where they are; the time of each runs anew. What lies between its
    /// last message and its end need not be one: markers of transactions are none.
    pub(super) fn stuck(
        &mut self,
        reaches: &HashMap<TopicPartition, i64>,
        is_held: impl Fn(&TopicPartition) -> bool,
        now: Duration,
    ) -> Vec<(TopicPartition, i64)> {
        let mut stuck = Vec::new();
        for (partition, place) in &mut self.ends {
            let Some(reach) = reaches.get(partition) else { continue };
            let reached = *place.reached.get_or_insert(*reach);
            if *reach <= reached || is_held(partition) {
                place.since = now;
            } else if now.saturating_sub(place.since) >= STUCK {
                place.since = now;
                stuck.push((partition.clone(), place.end));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_grows_and_gives_nothing_is_stuck() {
        let of = |partition| TopicPartition { topic: "logs".into(), partition };
        let mut progress = Progress::default();
        for partition in 0..4 {
            progress.came(&of(partition), 7, Duration::ZERO);
        }
        let mut reaches: HashMap<_, _> = (0..4).map(|partition| (of(partition), 8)).collect();
        let is_held = |one: &TopicPartition| one.partition == 2;
        assert!(progress.stuck(&reaches, is_held, Duration::ZERO).is_empty());
        for partition in [0, 2, 3] {
            reaches.insert(of(partition), 9);
        }
        progress.came(&of(3), 9, STUCK / 2);
        assert_eq!(progress.stuck(&reaches, is_held, STUCK), [(of(0), 7)]);
        assert!(progress.stuck(&reaches, is_held, STUCK).is_empty(), "once a minute");
        progress.forget(|one| one.partition != 0);
        assert_eq!(progress.stuck(&reaches, |_| false, 3 * STUCK), [(of(2), 7)]);
    }
}
