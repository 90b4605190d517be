//! The pipeline and its components, as the file describes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::edge::Input;
use super::forms::{IDENTIFIER, VARIABLE};
use super::supervision::{Health, Resources, Restart};
use super::test::Test;
use super::units::Duration;
use super::value::Text;
use super::{processor::ProcessorConfig, sink::SinkConfig, source::SourceConfig};

/// A pipeline: sources, processors and sinks, and who reads whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the file is.
    pub kind: DocumentKind,
    /// What the pipeline is called.
    pub metadata: Metadata,
    /// How often a row may arrive. By default `at-least-once`, but for edges
    /// that say `drop-oldest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Whether edges go through the store, where they do not say themselves.
    #[serde(default)]
    pub durable: bool,
    /// Where rows come from.
    #[schemars(length(min = 1), extend("x-role" = "source"))]
    pub sources: Vec<Component>,
    /// What happens to them.
    #[serde(default)]
    #[schemars(extend("x-role" = "processor"))]
    pub processors: Vec<Component>,
    /// Where they go.
    #[schemars(length(min = 1), extend("x-role" = "sink"))]
    pub sinks: Vec<Component>,
    /// Rows in and the rows that are to come out, for `sheafctl test`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
}

impl Pipeline {
    /// Every component with its role: sources, processors, sinks, each in the
    /// order of the file.
    pub fn components(&self) -> impl Iterator<Item = (Role, &Component)> {
        let lists = [
            (Role::Source, &self.sources),
            (Role::Processor, &self.processors),
            (Role::Sink, &self.sinks),
        ];
        lists.into_iter().flat_map(|(role, list)| list.iter().map(move |one| (role, one)))
    }
}

/// The version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ApiVersion {
    /// The first one.
    #[serde(rename = "sheaf.dev/v1")]
    V1,
}

/// What a file describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DocumentKind {
    /// A pipeline.
    Pipeline,
}

/// Names of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct Metadata {
    /// The name: lower-case letters, digits and hyphens.
    #[schemars(length(max = 63), regex(pattern = IDENTIFIER))]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels, for people and for drivers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// How often a row may arrive at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Delivery {
    /// Once, or more often after a crash.
    AtLeastOnce,
    /// Once: all edges are durable, and the sinks commit in transactions.
    ExactlyOnce,
}

/// What a component is to a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Rows come from it.
    Source,
    /// Rows pass through it.
    Processor,
    /// Rows end in it.
    Sink,
}

impl Role {
    /// Every role, in the order of the flow.
    pub const ALL: [Role; 3] = [Role::Source, Role::Processor, Role::Sink];

    /// The word for one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Processor => "processor",
            Role::Sink => "sink",
        }
    }

    /// The list of the file that holds them.
    pub const fn section(self) -> &'static str {
        match self {
            Role::Source => "sources",
            Role::Processor => "processors",
            Role::Sink => "sinks",
        }
    }

    /// The built-in kinds, in the order of the documentation.
    pub const fn kinds(self) -> &'static [&'static str] {
        match self {
            Role::Source => &["kafka", "file", "flight", "http", "adbc", "generate"],
            Role::Processor => {
                &["filter", "project", "aggregate", "enrich", "exec", "merge", "sql"]
            }
            Role::Sink => &["file", "adbc", "kafka", "flight", "http", "stdout"],
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One component: a built-in `kind`, or a program of one's own by `command`
/// (processes) and `image` (containers).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// The identifier: lower-case letters, digits and hyphens.
    #[schemars(length(max = 63), regex(pattern = IDENTIFIER))]
    pub id: String,
    /// A built-in component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The container image of a component of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub image: Option<String>,
    /// The program of a component of one's own, and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub command: Vec<String>,
    /// What the component is to do: the fields that its kind has, or anything
    /// for a component of one's own.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The components that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1_000))]
    pub inputs: Vec<Input>,
    /// Variables of its environment: texts or references.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"pattern": VARIABLE}))]
    pub environment: BTreeMap<String, Text>,
    /// How many instances run.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000))]
    pub replicas: u32,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// What one instance may use.
    #[serde(default)]
    pub resources: Resources,
    /// How its health is seen.
    #[serde(default)]
    pub health: Health,
    /// The port that it serves on; instance N has this port plus N; 0 takes a free one.
    #[serde(default)]
    pub port: u16,
    /// How long it may take to finish what it has when it is stopped.
    #[serde(default = "drain")]
    pub drain: Duration,
    /// Says of a sink of one's own that it commits each batch once, by the
    /// identifier and fencing token that come with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transactional: bool,
    /// Says of a component of one's own that it knows durable edges, as those do that are made
    /// with the Rust SDK.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub durable_edges: bool,
}

fn one() -> u32 {
    1
}

fn drain() -> Duration {
    Duration::from_secs(30)
}

impl Component {
    /// What a built-in source is to do; `None` for a component of one's own.
    ///
    /// # Errors
    /// When the configuration is not of the form that the kind asks for, which
    /// a checked specification does not have.
    pub fn source(&self) -> Result<Option<SourceConfig>, serde_json::Error> {
        self.built_in()
    }

    /// What a built-in processor is to do; `None` for a component of one's own.
    ///
    /// # Errors
    /// As [`Component::source`].
    pub fn processor(&self) -> Result<Option<ProcessorConfig>, serde_json::Error> {
        self.built_in()
    }

    /// What a built-in sink is to do; `None` for a component of one's own.
    ///
    /// # Errors
    /// As [`Component::source`].
    pub fn sink(&self) -> Result<Option<SinkConfig>, serde_json::Error> {
        self.built_in()
    }

    fn built_in<C: serde::de::DeserializeOwned>(&self) -> Result<Option<C>, serde_json::Error> {
        let Some(kind) = &self.kind else { return Ok(None) };
        let tagged = serde_json::json!({ "kind": kind, "config": self.config });
        serde_json::from_value(tagged).map(Some)
    }
}
