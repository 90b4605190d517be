//! What the control plane tells a component that it starts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_pipeline::plan::Edge;
use sheaf_pipeline::spec::{Component, Role};
use sheaf_retry::{Code, Retryable as _};

use crate::durable::MAX_STREAMS;
use crate::error::ComponentError;

/// The variable that names the file of the assignment.
pub const ASSIGNMENT_VARIABLE: &str = "SHEAF_ASSIGNMENT";

/// The longest file of an assignment.
const MAX_BYTES: u64 = 64 << 20;

/// Which place of a pipeline a component takes: a JSON file that only its owner may read.
/// The component finds its path in the environment variable `SHEAF_ASSIGNMENT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// The pipeline.
    pub pipeline: String,
    /// The run of the pipeline, from 1.
    pub run: u64,
    /// Which pass over the data this is: another number whenever it begins anew. A run that goes
    /// on where the one before was broken off has the number of that, so that what has come to
    /// its end stays there.
    pub pass: u64,
    /// Which components, instances and streams the pipeline has: another number where they are
    /// others. What was done among other ones need not be done among these.
    #[serde(default)]
    pub graph: u64,
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
    /// What it serves and calls with under TLS; without it nothing is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsAssignment>,
    /// Whom it reads, in the order of `inputs` in the file.
    #[serde(default)]
    pub inputs: Vec<InputAssignment>,
    /// Who reads it.
    #[serde(default)]
    pub outputs: Vec<OutputAssignment>,
    /// Where batches of durable edges wait; there where an edge of it is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<DurableAssignment>,
}

/// The store and the coordinator of durable edges.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DurableAssignment {
    /// The store: `grpc://HOST:PORT`.
    pub store: String,
    /// The coordinator: `grpc://HOST:PORT`.
    pub coordinator: String,
    /// The token for both, where they ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whether the token may go to another machine unencrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// How long batches are kept after they were completed.
    #[serde(default = "default_retention")]
    pub retention_ms: u64,
}

fn default_retention() -> u64 {
    60_000
}

impl std::fmt::Debug for DurableAssignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableAssignment")
            .field("store", &self.store)
            .field("coordinator", &self.coordinator)
            .field("has_token", &self.token.is_some())
            .field("retention_ms", &self.retention_ms)
            .finish_non_exhaustive()
    }
}

/// Certificates in PEM, by their paths. They are for [`CERTIFICATE_HOST`], and by a name of
/// their own each for one place in one run, for the control plane or for an operator.
///
/// [`CERTIFICATE_HOST`]: sheaf_pipeline::registry::CERTIFICATE_HOST
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsAssignment {
    /// The CA that has signed those of all others.
    pub ca: PathBuf,
    /// Its own.
    pub certificate: PathBuf,
    /// The key of that, which only its owner may read.
    pub key: PathBuf,
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

impl Assignment {
    /// Reads the file that the environment variable `SHEAF_ASSIGNMENT` names.
    ///
    /// # Errors
    /// `invalid_argument` where it is not set; those of [`Assignment::read`].
    #[allow(clippy::disallowed_methods, reason = "how every component process is told its place")]
    pub fn from_environment() -> Result<Self, ComponentError> {
        match std::env::var_os(ASSIGNMENT_VARIABLE) {
            Some(path) if !path.is_empty() => Assignment::read(Path::new(&path)),
            _ => Err(ComponentError::new(
                Code::InvalidArgument,
                format!(
                    "{ASSIGNMENT_VARIABLE} is not set: it names the file that says which place \
                     of a pipeline this component takes; `sheafctl run` sets it"
                ),
            )),
        }
    }

    /// Reads the file of an assignment.
    ///
    /// # Errors
    /// `invalid_argument` where it is no assignment or one that cannot be fulfilled, and what
    /// reading fails with.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let failed = |error: std::io::Error| {
            let text = format!("cannot read the assignment {}", path.display());
            ComponentError::new(error.code(), text).because(error)
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_BYTES {
            let text = format!("{} has {size} bytes, at most {MAX_BYTES} are read", path.display());
            return Err(ComponentError::new(Code::LimitExceeded, text));
        }
        let text = std::fs::read(path).map_err(failed)?;
        let assignment: Assignment = serde_json::from_slice(&text).map_err(|error| {
            let text = format!("{} is no assignment: {error}", path.display());
            ComponentError::new(Code::InvalidArgument, text)
        })?;
        assignment.check()?;
        Ok(assignment)
    }

    /// Finds what cannot be fulfilled, all at once.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn check(&self) -> Result<(), ComponentError> {
        let mut wrong = Vec::new();
        let place = &self.place;
        match self.role {
            Role::Source if !self.inputs.is_empty() => wrong.push("a source with inputs"),
            Role::Sink if !self.outputs.is_empty() => wrong.push("a sink that somebody reads"),
            Role::Sink | Role::Processor if self.inputs.is_empty() => {
                wrong.push("no inputs, so nothing to do");
            }
            _ => {}
        }
        if self.index >= self.replicas {
            wrong.push("an index that is not less than the number of replicas");
        }
        if self.durable.is_none() && self.has_durable() {
            wrong.push("a durable edge, and no `durable` with the address of the store");
        }
        let durable = self.outputs.iter().filter(|output| output.edge.durable);
        if durable.map(|output| output.to.len()).sum::<usize>() > MAX_STREAMS {
            wrong.push("more than 500 durable streams that lead out");
        }
        if self.data_token.is_empty() {
            wrong.push("no data token, so that anybody could read its streams");
        }
        if self.tls.is_some() != self.control.starts_with("grpc+tls://") {
            wrong.push("TLS for itself and not for the control plane, or the other way round");
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let text = format!("the assignment of {place} has {}", wrong.join("; "));
        Err(ComponentError::new(Code::InvalidArgument, text))
    }
}

impl Assignment {
    /// Every edge that leads in or out.
    fn edges(&self) -> impl Iterator<Item = &Edge> {
        let inputs = self.inputs.iter().map(|input| &input.edge);
        inputs.chain(self.outputs.iter().map(|output| &output.edge))
    }

    /// Whether an edge of it is durable.
    pub(crate) fn has_durable(&self) -> bool {
        self.edges().any(|edge| edge.durable)
    }

    /// Whether all that it sends is registered in the step that completes what it reads: all
    /// its edges are durable, and somebody reads it.
    pub(crate) fn is_transactional(&self) -> bool {
        !self.outputs.is_empty() && self.edges().all(|edge| edge.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_assignment_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assignment.json");
        let error = Assignment::read(&path).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        std::fs::write(&path, "{\n  \"pipeline\": 7}").unwrap();
        let error = Assignment::read(&path).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        for part in ["assignment.json", "line 2"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(error.exit_code(), 2);
    }
}
