//! The built-in processors.

mod each;
mod expression;
mod failure;
mod filter;
mod merge;
mod project;

use sheaf_dataflow::{ComponentError, Processor, Start};
use sheaf_pipeline::spec::ProcessorConfig;

use each::EachBatch;

/// The processor that a configuration describes.
///
/// # Errors
/// `invalid_argument` with what is wrong with the configuration. What depends on the rows,
/// such as a column that is not there, is told when the first of them come.
pub fn build(
    config: &ProcessorConfig,
    start: &Start,
) -> Result<Box<dyn Processor>, ComponentError> {
    Ok(match config {
        ProcessorConfig::Filter(filter) => {
            Box::new(EachBatch::new(filter::Filter::new(&filter.condition)))
        }
        ProcessorConfig::Project(project) => {
            Box::new(EachBatch::new(project::Project::new(project)?))
        }
        ProcessorConfig::Merge(merge) => merge::build(merge),
        _ => {
            let text = format!("processor {}: its kind is not built in here", start.component);
            return Err(failure::configuration(text));
        }
    })
}
