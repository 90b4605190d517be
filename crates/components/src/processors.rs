//! The built-in processors.

mod aggregate;
mod each;
mod enrich;
mod exec;
mod expression;
mod failure;
mod filter;
mod merge;
mod project;
mod sql;
mod window;

use sheaf_dataflow::{ComponentError, Processor, Start};
use sheaf_pipeline::spec::ProcessorConfig;

use crate::host::Host;
use aggregate::Aggregation;
use each::EachBatch;
use window::Windowed;

/// The processor that a configuration describes.
///
/// # Errors
/// `invalid_argument` with what is wrong with the configuration. What depends on the rows,
/// such as a column that is not there, is told when the first of them come.
pub fn build(
    config: &ProcessorConfig,
    start: &Start,
    host: &Host,
) -> Result<Box<dyn Processor>, ComponentError> {
    let clock = &host.clock;
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
        ProcessorConfig::Enrich(enrich) => Box::new(enrich::Enrich::new(enrich, start, host)),
        ProcessorConfig::Exec(exec) => Box::new(exec::Exec::new(exec, start, clock)?),
        ProcessorConfig::Sql(sql) => {
            Box::new(Windowed::new(sql::Query::new(sql, &host.drivers), &sql.window, clock)?)
        }
    })
}
