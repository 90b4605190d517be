//! Why a run cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use sheaf_pipeline::diagnostics::Report;
use sheaf_pipeline::registry;
use sheaf_retry::{Code, Retryable};

use crate::driver::DriverError;

/// An error of a [`Runner`](super::Runner).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be run.
    #[error("{0}")]
    Spec(Report),
    /// There is no store for durable edges.
    #[error("edge {edge} is durable and needs a store: {why}")]
    Durable {
        /// Which.
        edge: String,
        /// Why there is none, and what to do.
        why: String,
    },
    /// A store that is somebody else's cannot be emptied.
    #[error(
        "--fresh forgets what waits on durable edges, and the store {address} is not of this run: run without --fresh, or cancel the batches of {pipeline} there and forget them"
    )]
    FreshElsewhere {
        /// The pipeline.
        pipeline: String,
        /// The store.
        address: String,
    },
    /// The pipeline runs already.
    #[error(
        "pipeline {pipeline} runs already; bring it to the file with sheafctl reload, or stop it first: sheafctl stop {pipeline}"
    )]
    Runs {
        /// Its name.
        pipeline: String,
    },
    /// Another process has the folder of the pipeline.
    #[error(
        "pipeline {pipeline} is run by another process with the folder {}; stop that one, or use another --data-dir", folder.display()
    )]
    Held {
        /// Its name.
        pipeline: String,
        /// The folder of all pipelines.
        folder: PathBuf,
    },
    /// Nothing of that name runs.
    #[error("no pipeline {pipeline} runs here; sheafctl ps shows what does")]
    NotRunning {
        /// Its name.
        pipeline: String,
    },
    /// The pipeline has no such component.
    #[error("pipeline {pipeline} has no component {component}; it has {}", known.join(", "))]
    NoComponent {
        /// The pipeline.
        pipeline: String,
        /// What was asked for.
        component: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The file cannot take the place of the one that runs while that goes on.
    #[error("pipeline {pipeline} goes on as it was: {why}")]
    Reload {
        /// The pipeline.
        pipeline: String,
        /// Why, and what to do.
        why: String,
    },
    /// The new plan runs, and one of its components does not.
    #[error(
        "pipeline {pipeline} was brought to generation {generation}, and not all of it runs: {why}"
    )]
    Unproved {
        /// The pipeline.
        pipeline: String,
        /// What runs.
        generation: u32,
        /// Which component, and why.
        why: String,
    },
    /// So many changes wait that no further one is taken.
    #[error("{waiting} changes of pipeline {pipeline} wait already; try again when they are done")]
    Busy {
        /// The pipeline.
        pipeline: String,
        /// How many.
        waiting: usize,
    },
    /// What a run needs to go on is gone.
    #[error(
        "the tokens of the run of {pipeline} are gone: its folder is another one, or was removed"
    )]
    NoSecrets {
        /// The pipeline.
        pipeline: String,
    },
    /// Tokens that were given have not all places of the plan.
    #[error("there is no token for {}; the tokens are of another file than that of {pipeline}: render both anew", missing.join(", "))]
    Tokens {
        /// The pipeline.
        pipeline: String,
        /// The places.
        missing: Vec<String>,
    },
    /// Others start and stop the components of the pipeline.
    #[error(
        "the components of {pipeline} are started by others, such as a cluster: stop and restart them there"
    )]
    Overseen {
        /// The pipeline.
        pipeline: String,
    },
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The driver refuses.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The folder cannot be used.
    #[error("the folder {} cannot be used", folder.display())]
    Folder {
        /// The folder of all pipelines.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) fn folder(folder: &Path, source: io::Error) -> Self {
        Error::Folder { folder: folder.to_owned(), source }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Spec(_) | Error::Tokens { .. } => Code::InvalidArgument,
            Error::Runs { .. } | Error::Held { .. } => Code::AlreadyExists,
            Error::NotRunning { .. } | Error::NoComponent { .. } => Code::NotFound,
            Error::NoSecrets { .. }
            | Error::Overseen { .. }
            | Error::Driver(_)
            | Error::Durable { .. }
            | Error::FreshElsewhere { .. }
            | Error::Reload { .. }
            | Error::Unproved { .. } => Code::FailedPrecondition,
            Error::Busy { .. } => Code::Overloaded,
            Error::Registry(error) => error.code(),
            Error::Folder { source, .. } => source.code(),
        }
    }
}
