//! The tokens of a pipeline's places, for a cluster.

use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::Token;

use crate::{Tokens, planned};

impl Tokens {
    /// Random ones for each place of a plan. `unix_ms` is the time, and no part of what is
    /// secret.
    pub fn generate(plan: &Plan, unix_ms: u64) -> Self {
        let instances = plan.components.iter().flat_map(|component| &component.instances);
        let places = instances.map(|instance| planned::place(&plan.pipeline, &instance.id));
        let places = places.map(|place| (place, Token::generate(unix_ms)));
        Tokens { places: places.collect(), data: Token::generate(unix_ms) }
    }
}
