//! The built-in processors.

mod aggregate;
mod each;
mod expression;
mod failure;
mod filter;
mod merge;
mod project;
mod window;

use sheaf_connectors::DriverPaths;
use sheaf_dataflow::{ComponentError, Processor, Start};
use sheaf_pipeline::spec::ProcessorConfig;
use sheaf_retry::{SharedClock, SystemClock};

use aggregate::Aggregation;
use each::EachBatch;
use window::Windowed;

/// What processors find around them: nothing in here reads the environment.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The time, for windows by arrival, timeouts and what is read again.
    pub clock: SharedClock,
    /// Where the drivers of databases are.
    pub drivers: DriverPaths,
}

impl Default for Surroundings {
    /// The machine's clock, and drivers in the usual places.
    fn default() -> Self {
        Surroundings { clock: SystemClock::shared(), drivers: DriverPaths::default() }
    }
}

/// The processor that a configuration describes, in the default surroundings.
///
/// # Errors
/// As of [`build_in`].
pub fn build(
    config: &ProcessorConfig,
    start: &Start,
) -> Result<Box<dyn Processor>, ComponentError> {
    build_in(config, start, &Surroundings::default())
}

/// The processor that a configuration describes.
///
/// # Errors
/// `invalid_argument` with what is wrong with the configuration. What depends on the rows,
/// such as a column that is not there, is told when the first of them come.
pub fn build_in(
    config: &ProcessorConfig,
    start: &Start,
    surroundings: &Surroundings,
) -> Result<Box<dyn Processor>, ComponentError> {
    let clock = &surroundings.clock;
    Ok(match config {
        ProcessorConfig::Filter(filter) => {
            Box::new(EachBatch::new(filter::Filter::new(&filter.condition)))
        }
        ProcessorConfig::Project(project) => {
            Box::new(EachBatch::new(project::Project::new(project)?))
        }
        ProcessorConfig::Merge(merge) => merge::build(merge),
        ProcessorConfig::Aggregate(aggregate) => {
            Box::new(Windowed::new(Aggregation::new(aggregate)?, &aggregate.window, clock)?)
        }
        _ => {
            let text = format!("processor {}: its kind is not built in here", start.component);
            return Err(failure::configuration(text));
        }
    })
}
