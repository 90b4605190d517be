//! The tokens of a pipeline's places, for a cluster.

use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::Token;

use super::scale;
use crate::{Tokens, planned};

impl Tokens {
    /// Random ones for each place of a plan, and for as many as `max_replicas` lets there be.
    /// `unix_ms` is the time, and no part of what is secret.
    pub fn generate(plan: &Plan, max_replicas: Option<u32>, unix_ms: u64) -> Self {
        let places = plan.components.iter().flat_map(|component| {
            let planned = u32::try_from(component.instances.len()).unwrap_or(u32::MAX);
            let count = scale::max_replicas(max_replicas, plan, component).unwrap_or(planned);
            let instance = |index| planned::instance(&component.id, index);
            let place = |instance: String| planned::place(&plan.pipeline, &instance);
            (0..count).map(instance).map(place)
        });
        let places = places.map(|place| (place, Token::generate(unix_ms)));
        Tokens { places: places.collect(), data: Token::generate(unix_ms) }
    }
}
