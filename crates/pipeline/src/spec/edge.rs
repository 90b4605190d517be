//! What goes between two components: policy, partitioning, credits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Size;

/// Credits of an edge that does not say: batches on the way per stream.
pub const DEFAULT_CREDITS: u32 = 32;
/// Room on disk of a spilling edge that does not say.
pub const DEFAULT_SPILL_LIMIT: Size = Size(1_000_000_000);

/// What a component reads: one edge of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The component that sends.
    pub from: String,
    /// What happens when the receiver is slower than the sender.
    pub policy: Policy,
    /// Which instance of the receiver gets a row; `None` leaves it to the plan:
    /// `forward` between equally many instances, else `round-robin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
    /// Batches that may be on their way, per stream, before one is acknowledged.
    pub credits: u32,
    /// Whether batches go through the store; `None` as the pipeline says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// What a spilling edge may hold on disk; [`DEFAULT_SPILL_LIMIT`] where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill_limit: Option<Size>,
}

/// An input as it is written: a name, or a name with more.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Input")]
enum Written {
    /// The identifier of the component that is read.
    Name(String),
    /// The component that is read, and how.
    Edge(WrittenEdge),
}

/// The long form of an input.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
struct WrittenEdge {
    /// The identifier of the component that is read.
    from: String,
    /// What happens when this component is slower than the one that it reads.
    #[serde(default)]
    policy: Policy,
    /// Which instance gets a row; by default `forward` between equally many
    /// instances, else `round-robin`.
    #[serde(default)]
    partitioning: Option<Partitioning>,
    /// Batches that may be on their way before one is acknowledged.
    #[serde(default = "default_credits")]
    #[schemars(range(min = 1, max = 65_536))]
    credits: u32,
    /// Through the store: no batch is lost, whatever crashes.
    #[serde(default)]
    durable: Option<bool>,
    /// The most that waits on disk where the policy is `spill`; 1 GB by default.
    #[serde(default)]
    spill_limit: Option<Size>,
}

fn default_credits() -> u32 {
    DEFAULT_CREDITS
}

impl From<Written> for Input {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(from) => Input {
                from,
                policy: Policy::default(),
                partitioning: None,
                credits: DEFAULT_CREDITS,
                durable: None,
                spill_limit: None,
            },
            Written::Edge(edge) => Input {
                from: edge.from,
                policy: edge.policy,
                partitioning: edge.partitioning,
                credits: edge.credits,
                durable: edge.durable,
                spill_limit: edge.spill_limit,
            },
        }
    }
}

/// What happens when the receiver of an edge is slower than its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Policy {
    /// The sender waits. Nothing is lost.
    #[default]
    Block,
    /// The oldest batch that waits is dropped, and counted.
    DropOldest,
    /// Batches wait on the sender's disk, up to `spillLimit`; then it waits.
    Spill,
}

impl Policy {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Policy::Block => "block",
            Policy::DropOldest => "drop-oldest",
            Policy::Spill => "spill",
        }
    }
}

/// Which instance of the receiver gets a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Partitioning {
    /// Instance N sends to instance N: needs equally many of both.
    Forward,
    /// Every instance gets every row.
    Broadcast,
    /// Batches go to the instances in turn.
    RoundRobin,
    /// Rows with equal values in these columns go to the same instance.
    Hash(#[schemars(length(min = 1, max = 64), inner(length(min = 1)))] Vec<String>),
}

impl std::fmt::Display for Partitioning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Partitioning::Forward => f.write_str("forward"),
            Partitioning::Broadcast => f.write_str("broadcast"),
            Partitioning::RoundRobin => f.write_str("round-robin"),
            Partitioning::Hash(columns) => write!(f, "hash({})", columns.join(", ")),
        }
    }
}
