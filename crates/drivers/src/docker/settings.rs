//! How the driver finds the engine, and what components run in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sheaf_retry::SharedClock;

use crate::IMAGE;

/// How the driver finds the engine, and what components run in.
#[derive(Clone)]
pub struct Settings {
    /// The engine: `unix:///PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`.
    pub engine: String,
    /// The image of built-in components.
    pub component_image: String,
    /// The folder of this machine that built-in components find as their working directory,
    /// so that relative paths of a file mean what they mean here; what they keep is in their
    /// `stateDir` here too then. The engine has to see the same file system. Without it, both
    /// are in a volume of the place.
    pub folder: Option<PathBuf>,
    /// Who runs pipelines here, such as the folder where they are kept. One engine has room for
    /// one pipeline of a name: that of another owner is never touched.
    pub owner: String,
    /// Whether what `stdout` sinks write goes to the standard output of this process.
    pub prints: bool,
    /// The variables that references of files may name.
    pub variables: BTreeMap<String, String>,
    /// The clock.
    pub clock: SharedClock,
}

impl Settings {
    /// The engine of this machine, and the image of this version.
    pub fn new(clock: SharedClock) -> Self {
        Settings {
            engine: "unix:///var/run/docker.sock".to_owned(),
            component_image: IMAGE.to_owned(),
            folder: None,
            owner: String::new(),
            prints: false,
            variables: BTreeMap::new(),
            clock,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables may be secrets.
        let Settings { engine, component_image, folder, owner, prints, .. } = self;
        f.debug_struct("Settings")
            .field("engine", engine)
            .field("component_image", component_image)
            .field("folder", folder)
            .field("owner", owner)
            .field("prints", prints)
            .finish_non_exhaustive()
    }
}
