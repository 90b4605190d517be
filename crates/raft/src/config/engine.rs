//! The same for the consensus engine, in its own terms.

use std::sync::Arc;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use super::{Problem, Problems, RaftClusterConfig};

/// Most entries of one append; their bytes are capped by the log's reader.
const MAX_PAYLOAD_ENTRIES: u64 = 4_096;

/// Commands that the engine writes with one call of the log.
const MAX_APPEND_ENTRIES: u64 = 4_096;

/// How long a follower stays unasked after it could not be reached.
const BACKOFF: &str = "50ms 100ms ...2s";

impl RaftClusterConfig {
    /// As the engine reads it.
    ///
    /// The engine waits for its lease, which is its greatest timeout, and then for a random one
    /// of them: with two thirds and one third of ours, an election starts after one to four
    /// thirds, when the lease of the leader has run out on every voter.
    pub(crate) fn engine(&self) -> Result<Arc<Config>, Problems> {
        let longest = self.election_timeout_ms.saturating_mul(2) / 3;
        // The older of the two snapshots that are kept needs the entries behind it; more than a
        // distance, as the next one is begun late where much is written.
        let kept = self.kept_entries.max(self.snapshot_distance.saturating_mul(2));
        let config = Config {
            cluster_name: self.cluster_id.clone(),
            election_timeout_min: self.election_timeout_ms / 3,
            election_timeout_max: longest,
            heartbeat_interval: self.heartbeat_interval_ms,
            // Of one call of ours, which sends a whole snapshot and watches its progress itself.
            install_snapshot_timeout: self.election_timeout_ms.saturating_mul(20),
            max_payload_entries: MAX_PAYLOAD_ENTRIES,
            max_append_entries: Some(MAX_APPEND_ENTRIES),
            // Nearer than this it is cheaper to send entries than a snapshot.
            replication_lag_threshold: self.snapshot_distance.max(self.kept_entries),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_distance),
            max_in_snapshot_log_to_keep: kept,
            purge_batch_size: 256,
            enable_pre_vote: Some(self.enable_pre_vote),
            removed_leader_step_down: StepDownPolicy::After(self.heartbeat_interval_ms),
            // A node that lost its log must not be taken for one that is new.
            allow_log_reversion: Some(false),
            // A leader that comes back to its old term would answer reads from the last entry
            // that it knows to be committed, and it may have forgotten later ones.
            enable_leader_restore: Some(false),
            backoff: BACKOFF.to_owned(),
            ..Config::default()
        };
        let refused = |error: openraft::ConfigError| {
            Problems(vec![Problem { field: "election_timeout_ms", message: error.to_string() }])
        };
        config.validate().map(Arc::new).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_takes_the_defaults() {
        let engine = RaftClusterConfig::new("a", 1).node(1, "a:1").engine().unwrap();
        assert_eq!((engine.election_timeout_min, engine.election_timeout_max), (500, 1_000));
        assert_eq!(engine.heartbeat_interval, 300);
        assert_eq!(engine.snapshot_policy, SnapshotPolicy::LogsSinceLast(10_000));
        assert_eq!(engine.max_in_snapshot_log_to_keep, 20_000);
        assert_eq!(engine.enable_pre_vote, Some(true));
        assert_eq!(engine.allow_log_reversion, Some(false));
        assert_eq!(engine.enable_leader_restore, Some(false));
    }
}
