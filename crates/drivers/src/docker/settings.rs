//! How the driver finds the engine, and what components run in.

use std::fmt;
use std::sync::Arc;

use sheaf_flight::Secret;
use sheaf_pipeline::spec::Reference;
use sheaf_retry::SharedClock;

/// Looks up what a reference means on this machine, or says why it cannot.
pub type LookUp = Arc<dyn Fn(&Reference) -> Result<Secret, String> + Send + Sync>;

/// How the driver finds the engine, and what components run in.
#[derive(Clone)]
pub struct Settings {
    /// The engine: `unix:///PATH` or `http://HOST:PORT`.
    pub engine: String,
    /// The image of built-in components.
    pub component_image: String,
    /// Looks up what configurations refer to; components find it in files.
    pub look_up: LookUp,
    /// The clock.
    pub clock: SharedClock,
}

impl Settings {
    /// The engine of this machine, and the image of this version.
    pub fn new(look_up: LookUp, clock: SharedClock) -> Self {
        Settings {
            engine: "unix:///var/run/docker.sock".to_owned(),
            component_image: format!("sheaf-component:{}", env!("CARGO_PKG_VERSION")),
            look_up,
            clock,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("engine", &self.engine)
            .field("component_image", &self.component_image)
            .finish_non_exhaustive()
    }
}
