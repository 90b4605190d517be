//! What a run shows of itself while it runs.

mod asked;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sheaf_flight::TlsFiles;
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::registry::Component;
use sheaf_retry::SharedClock;
use sheaf_terminal::{Console, compact};

use self::asked::Answers;
use crate::stats::{Look, Rows};

/// How often components are asked.
const EVERY: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct Progress {
    pipeline: String,
    plane: ControlPlane,
    look: Arc<Look>,
    /// What is being asked.
    asking: Option<BoxFuture<'static, Option<Answers>>>,
    clock: SharedClock,
    began: Duration,
    quiet: bool,
    ticks: u32,
    /// When to ask again.
    next: Duration,
    last: String,
    /// By instance, as seen last.
    rows: BTreeMap<String, Rows>,
    seen: BTreeMap<String, Arc<Component>>,
}

impl Progress {
    pub(crate) fn new(
        pipeline: &str,
        plane: ControlPlane,
        health: Option<TlsFiles>,
        clock: &SharedClock,
        quiet: bool,
    ) -> Self {
        Progress {
            pipeline: pipeline.to_owned(),
            plane,
            look: Arc::new(Look::new(health, clock)),
            asking: None,
            clock: clock.clone(),
            began: clock.elapsed(),
            quiet,
            ticks: 0,
            next: clock.elapsed() + EVERY,
            last: String::new(),
            rows: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// A line for people.
    pub(crate) fn note(&self, console: &mut Console, text: &str) {
        if !self.quiet {
            let time = compact(self.clock.elapsed().saturating_sub(self.began));
            console.note(&format!("{time:>6}  {text}"));
        }
    }
}
