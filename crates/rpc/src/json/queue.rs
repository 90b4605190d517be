//! Limits of queues, and lineage, in JSON.

use serde::{Deserialize, Serialize};
use sheaf_coordinator::{
    DEFAULT_QUEUE, Direction, History, Lineage, LineageLink, LineageNode, LineageQuery,
    QueuePolicy, RateLimit, State,
};
use sheaf_proto::BatchId;

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

/// What `CoordinatorInfo` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoOutput {
    /// Names the unbroken history of the coordinator's state, 16 hexadecimal
    /// digits: another one where something that was acknowledged may be missing.
    #[serde(with = "hex")]
    pub history: u64,
}

impl From<History> for InfoOutput {
    fn from(history: History) -> Self {
        InfoOutput { history: history.0 }
    }
}

impl From<InfoOutput> for History {
    fn from(output: InfoOutput) -> Self {
        History(output.history)
    }
}

/// Numbers past 2^53, as text.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(de::Error::custom)
    }
}
