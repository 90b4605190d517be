//! What the control plane tells a component that it starts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_pipeline::plan::Edge;
use sheaf_pipeline::spec::{Component, Role};

/// Which place of a pipeline a component takes: a JSON file that only its owner may read.
/// The component finds its path in the environment variable `SHEAF_ASSIGNMENT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// The pipeline.
    pub pipeline: String,
    /// The run of the pipeline, from 1.
    pub run: u64,
    /// The place in the registry: `PIPELINE:INSTANCE`.
    pub place: String,
    /// What it is to the pipeline.
    pub role: Role,
    /// The instance, as the plan calls it: `ID` or `ID.N`.
    pub instance: String,
    /// Which instance, from 0.
    pub index: u32,
    /// How many instances there are.
    pub replicas: u32,
    /// What it is to do.
    pub definition: Component,
    /// Where to serve Flight: `HOST:PORT`, port 0 for a free one.
    pub listen: String,
    /// The host under which others reach it, where that is not the one of `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_host: Option<String>,
    /// Where to answer `GET /health`, `/metrics` and `/stats`: `HOST:PORT`.
    pub health_listen: String,
    /// The control plane: `grpc://HOST:PORT`.
    pub control: String,
    /// The token of the place.
    pub token: String,
    /// The token that components of this run show each other.
    pub data_token: String,
    /// A directory of its own, which outlives its process.
    pub state_dir: PathBuf,
    /// Whom it reads, in the order of `inputs` in the file.
    #[serde(default)]
    pub inputs: Vec<InputAssignment>,
    /// Who reads it.
    #[serde(default)]
    pub outputs: Vec<OutputAssignment>,
}

/// An edge that leads in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputAssignment {
    /// The edge.
    pub edge: Edge,
    /// The instances that send to this one.
    pub from: Vec<Peer>,
}

/// An edge that leads out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputAssignment {
    /// The edge.
    pub edge: Edge,
    /// The instances that this one sends to.
    pub to: Vec<Peer>,
}

/// The other end of a stream. Where it is, the registry knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Its place in the registry.
    pub place: String,
    /// Which instance of its component it is, from 0.
    pub index: u32,
}
