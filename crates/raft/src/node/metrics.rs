//! What a node shows of itself as metrics: read when they are asked for.

use std::fmt;

use openraft::AsyncRuntime;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Driver, RaftNode, Role, Status};

/// The status of a node, for a registry.
struct View<F> {
    status: F,
}

impl<F> fmt::Debug for View<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Names, what they are of, and their values.
fn gauges(status: &Status, log_bytes: u64) -> [(&'static str, &'static str, i64); 8] {
    let index = |index: Option<u64>| whole(index.unwrap_or(0));
    [
        ("sheaf_raft_term", "Term that the node knows of", whole(status.term)),
        ("sheaf_raft_is_leader", "Whether it leads", i64::from(status.role == Role::Leader)),
        ("sheaf_raft_has_leader", "Whether it knows who leads", i64::from(status.leader.is_some())),
        ("sheaf_raft_last_log_index", "Last entry of its log", index(status.last_log)),
        ("sheaf_raft_committed_index", "Last entry that is committed", index(status.committed)),
        ("sheaf_raft_applied_index", "Last entry that its state has", index(status.applied)),
        ("sheaf_raft_snapshot_index", "Last entry of its snapshot", index(status.snapshot)),
        ("sheaf_raft_log_bytes", "Bytes of its log on disk", whole(log_bytes)),
    ]
}

impl<F> Collector for View<F>
where
    F: Fn() -> (Status, u64) + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (status, log_bytes) = (self.status)();
        for (name, help, value) in gauges(&status, log_bytes) {
            let metric = ConstGauge::new(value);
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        let help = "Entries that a member lacks, as its leader knows";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut lags = encoder.encode_descriptor("sheaf_raft_member_lag", help, None, kind)?;
        for member in status.members {
            let Some(lag) = member.lag else { continue };
            let label = [("node", member.id.to_string())];
            ConstGauge::new(whole(lag)).encode(lags.encode_family(&label)?)?;
        }
        Ok(())
    }
}

impl<M, R, S> RaftNode<M, R, S>
where
    M: Send + 'static,
    R: AsyncRuntime,
    S: Driver<M, R>,
{
    /// Adds the metrics `sheaf_raft_*` to a registry: term, who leads, how far log, state and
    /// snapshot are, how large the log is, and on the leader what each member lacks.
    pub fn register_metrics(
        &self,
        registry: &mut Registry,
        log_bytes: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let node = self.clone();
        registry
            .register_collector(Box::new(View { status: move || (node.status(), log_bytes()) }));
    }
}
