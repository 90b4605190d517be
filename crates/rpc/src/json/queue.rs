//! Limits of queues, and lineage, in JSON.

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{
    DEFAULT_QUEUE, Direction, History, Lineage, LineageLink, LineageNode, LineageQuery,
    QueuePolicy, RateLimit, Run, State,
};
use sheaf_proto::BatchId;

use super::scalar::Hex;

/// What `ConfigureQueue` takes: all limits of a queue; what is left out has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigureInput {
    /// Which; default `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// Most batches under lease at once.
    #[serde(default)]
    pub max_leased: Option<u32>,
    /// Most batches under lease at once of one tenant.
    #[serde(default)]
    pub max_leased_per_tenant: Option<u32>,
    /// `{"per_second", "burst"}`: how fast batches are given out.
    #[serde(default)]
    pub rate: Option<RateLimit>,
    /// Most payload bytes of batches that are not terminal.
    #[serde(default)]
    pub max_live_bytes: Option<u64>,
}

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

impl ConfigureInput {
    /// The limits of this queue.
    pub fn new(queue: String, policy: QueuePolicy) -> Self {
        let QueuePolicy { max_leased, max_leased_per_tenant, rate, max_live_bytes } = policy;
        ConfigureInput { queue, max_leased, max_leased_per_tenant, rate, max_live_bytes }
    }

    /// The queue, and its limits.
    pub fn into_parts(self) -> (String, QueuePolicy) {
        let ConfigureInput { queue, max_leased, max_leased_per_tenant, rate, max_live_bytes } =
            self;
        (queue, QueuePolicy { max_leased, max_leased_per_tenant, rate, max_live_bytes })
    }
}

/// What `Lineage` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineageInput {
    /// Where to begin; it need not be registered.
    pub batch_id: BatchId,
    /// `ancestors` (what it was made from) or `descendants`.
    #[serde(default)]
    pub direction: Direction,
    /// Most steps from it; 0 is any number.
    #[serde(default)]
    pub depth: u32,
    /// Most batches, 1 to 1,000; 0 means 100.
    #[serde(default)]
    pub limit: u32,
}

impl From<LineageInput> for LineageQuery {
    fn from(input: LineageInput) -> Self {
        let LineageInput { batch_id: id, direction, depth, limit } = input;
        LineageQuery { id, direction, depth, limit }
    }
}

impl From<LineageQuery> for LineageInput {
    fn from(query: LineageQuery) -> Self {
        let LineageQuery { id: batch_id, direction, depth, limit } = query;
        LineageInput { batch_id, direction, depth, limit }
    }
}

/// A batch of a lineage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineageRecord {
    /// Which.
    pub batch_id: BatchId,
    /// Steps from the batch that was asked for.
    pub depth: u32,
    /// `null` where it is only named by others.
    pub state: Option<State>,
    /// `null` where it is only named by others.
    pub queue: Option<String>,
}

/// That a batch was made from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The other.
    pub parent: BatchId,
    /// The one that was made from it.
    pub child: BatchId,
}

/// What `Lineage` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineageOutput {
    /// Each once, nearest first, without the one that was asked for.
    pub batches: Vec<LineageRecord>,
    /// What was made from what.
    pub links: Vec<LinkRecord>,
    /// There is more, beyond the depth or the limits.
    pub truncated: bool,
}

impl From<Lineage> for LineageOutput {
    fn from(lineage: Lineage) -> Self {
        let node = |node: LineageNode| LineageRecord {
            batch_id: node.id,
            depth: node.depth,
            state: node.state,
            queue: node.queue,
        };
        let link = |link: LineageLink| LinkRecord { parent: link.parent, child: link.child };
        LineageOutput {
            batches: lineage.nodes.into_iter().map(node).collect(),
            links: lineage.links.into_iter().map(link).collect(),
            truncated: lineage.truncated,
        }
    }
}

impl From<LineageOutput> for Lineage {
    fn from(output: LineageOutput) -> Self {
        let node = |record: LineageRecord| LineageNode {
            id: record.batch_id,
            depth: record.depth,
            state: record.state,
            queue: record.queue,
        };
        let link = |record: LinkRecord| LineageLink { parent: record.parent, child: record.child };
        Lineage {
            nodes: output.batches.into_iter().map(node).collect(),
            links: output.links.into_iter().map(link).collect(),
            truncated: output.truncated,
        }
    }
}
/// The request of `CoordinatorInfo`: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoInput {}

/// What `CoordinatorInfo` answers: which registrations the coordinator has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoOutput {
    /// The newest 64 openings of its state, the present one last. A registration
    /// stands in one of them, before its end, or was lost.
    pub runs: Vec<RunRecord>,
}

/// From one opening of a coordinator's state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Names it: 16 hexadecimal digits.
    pub run: Hex,
    /// Registrations before this one are known.
    pub end: u64,
}

/// Where a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRecord {
    /// A run in which the batch was known: 16 hexadecimal digits.
    pub run: Hex,
    /// Its place in the order of registration.
    pub sequence: u64,
}

impl From<History> for InfoOutput {
    fn from(history: History) -> Self {
        let record = |run: Run| RunRecord { run: Hex(run.id), end: run.end };
        InfoOutput { runs: history.runs.into_iter().map(record).collect() }
    }
}

impl From<InfoOutput> for History {
    fn from(output: InfoOutput) -> Self {
        let run = |record: RunRecord| Run { id: record.run.0, end: record.end };
        History { runs: output.runs.into_iter().map(run).collect() }
    }
}
