//! Where the batches of a pipeline are.

use std::fmt;
use std::sync::Arc;

use sheaf_coordinator::Coordinator;

type Find = dyn Fn(&str) -> Option<Arc<dyn Coordinator>> + Send + Sync;

/// Which coordinator has the batches of the durable edges of a pipeline.
#[derive(Clone)]
pub struct Coordinators(Arc<Find>);

impl Coordinators {
    /// No pipeline has one.
    pub fn none() -> Self {
        Coordinators::by(|_| None)
    }

    /// All pipelines have the same.
    pub fn one(coordinator: Arc<dyn Coordinator>) -> Self {
        Coordinators::by(move |_| Some(Arc::clone(&coordinator)))
    }

    /// Asked by the name of a pipeline, each time.
    pub fn by(find: impl Fn(&str) -> Option<Arc<dyn Coordinator>> + Send + Sync + 'static) -> Self {
        Coordinators(Arc::new(find))
    }

    pub(crate) fn of(&self, pipeline: &str) -> Option<Arc<dyn Coordinator>> {
        (self.0)(pipeline)
    }
}

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coordinators")
    }
}
