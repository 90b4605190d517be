//! Launches for tests.

use serde_json::{Value, json};
use sheaf_drivers::{Launch, LaunchId};
use sheaf_flight::Secret;

/// A launch of a component of one's own, that is told `control`.
pub(crate) fn launch(pipeline: &str, attempt: u64, image: &str, control: &str) -> Launch {
    let place = format!("{pipeline}:one");
    let assignment = json!({
        "pipeline": pipeline, "run": 1, "pass": 1, "place": place, "role": "source", "instance": "one",
        "index": 0, "replicas": 1, "definition": definition(image), "listen": "127.0.0.1:0",
        "healthListen": "127.0.0.1:0", "control": control, "token": "token-of-the-place",
        "dataToken": "token-of-the-run", "stateDir": "/nowhere",
    });
    let assignment = serde_json::from_value(assignment).expect("it is of the right form");
    Launch { id: LaunchId { place, attempt }, assignment, environment: Vec::new() }
}

fn definition(image: &str) -> Value {
    json!({ "id": "one", "image": image, "config": {"password": {"env": "PASSWORD"}} })
}

impl With for Launch {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), Secret::new(value)));
        self
    }
}

/// More of a launch.
pub(crate) trait With {
    /// With one more variable in its environment.
    fn with(self, name: &str, value: &str) -> Self;
}
