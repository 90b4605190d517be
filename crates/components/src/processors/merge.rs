//! Brings several inputs together.

mod ordered;
mod union;

use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received};
use sheaf_pipeline::spec::MergeProcessor;

use ordered::Ordered;
use union::Union;

/// The merge that a configuration describes.
pub(super) fn build(config: &MergeProcessor) -> Box<dyn Processor> {
    match &config.order_by {
        Some(column) => Box::new(Ordered::new(column)),
        None => Box::new(AsTheyCome { union: Union::new(), given: 0 }),
    }
}

/// Hands batches on as they come.
struct AsTheyCome {
    union: Union,
    given: u64,
}

#[async_trait]
impl Processor for AsTheyCome {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        let batch = self.union.conform(&received.batch, &received.from)?;
        self.given += 1;
        let batches = if batch.num_rows() == 0 { Vec::new() } else { vec![batch] };
        Ok(Outcome { batches, done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }
}
