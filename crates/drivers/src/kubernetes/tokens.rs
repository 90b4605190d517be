//! The tokens of a pipeline's places.

use std::collections::BTreeMap;
use std::fmt;

use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::Token;

use crate::planned;

/// The tokens of a pipeline's places. Not shown by `Debug`.
#[derive(Clone)]
pub struct Tokens {
    places: BTreeMap<String, Token>,
    data: Token,
}

impl Tokens {
    /// Random ones for each place of a plan, and for `max_replicas` of each component.
    /// `unix_ms` is the time, and no part of what is secret.
    pub fn generate(plan: &Plan, max_replicas: Option<u32>, unix_ms: u64) -> Self {
        let places = plan.components.iter().flat_map(|component| {
            let planned = u32::try_from(component.instances.len()).unwrap_or(u32::MAX);
            let count = max_replicas.map_or(planned, |most| most.max(planned));
            let instance = |index| planned::instance(&component.id, index);
            (0..count).map(instance).map(|instance| planned::place(plan, &instance))
        });
        let places = places.map(|place| (place, Token::generate(unix_ms)));
        Tokens { places: places.collect(), data: Token::generate(unix_ms) }
    }

    /// The token of a place; empty where there is no such place.
    pub(crate) fn place(&self, place: &str) -> &str {
        self.places.get(place).map_or("", |token| token.secret().expose())
    }

    /// What the control plane is given: the token of each place, and that of the run.
    pub(crate) fn to_json(&self) -> String {
        let places: BTreeMap<&str, &str> =
            self.places.iter().map(|(place, token)| (&**place, token.secret().expose())).collect();
        let whole = serde_json::json!({ "dataToken": self.data(), "places": places });
        format!("{whole:#}\n")
    }

    /// What components show each other.
    pub(crate) fn data(&self) -> &str {
        self.data.secret().expose()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens of {} places", self.places.len())
    }
}
