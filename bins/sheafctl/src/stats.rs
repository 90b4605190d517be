//! What components say of themselves at `/stats`.

mod rows;

use serde_json::Value;
use sheaf_console::figures::Reader;
use sheaf_flight::TlsFiles;
use sheaf_pipeline::registry::{Component, PortSchema};
use sheaf_retry::SharedClock;
use sheaf_terminal::Console;

pub(crate) use rows::Rows;

/// Says of batches that an instance could not take what is to be done.
pub(crate) fn put_aside(console: &mut Console, instance: &str, rows: Option<Rows>) {
    let batches = match rows.map_or(0, |rows| rows.failed) {
        0 => return,
        1 => "1 batch".to_owned(),
        many => format!("{many} batches"),
    };
    console.note(&format!(
        "{instance}: {batches} failed again and again and were put aside; look at them with \
         `sheaf batches list --state failed` at the store that run.json names, and try them again \
         with `sheaf batches requeue`"
    ));
}

/// Asks components.
#[derive(Debug)]
pub(crate) struct Look(Reader);

impl Look {
    pub(crate) fn new(tls: Option<TlsFiles>, clock: &SharedClock) -> Self {
        Look(Reader::new(clock.clone()).with_tls(tls))
    }

    /// What went through a place in this run: what those have said that have left it, and what
    /// the one says that holds it. `None` where nothing is said.
    pub(crate) async fn at(&self, component: &Component) -> Option<Rows> {
        let left = Rows::left(component);
        if !component.status.is_held() {
            return left;
        }
        let now = Rows::of(&self.0.stats(component).await?.ok()?)?;
        Some(left.map_or(now, |left| left.plus(now)))
    }
}

/// An instance, as the plan calls it.
pub(crate) fn instance(component: &Component) -> &str {
    component.id.split_once(':').map_or(&component.id, |(_, instance)| instance)
}

/// What batches look like, by edge.
pub(crate) fn ports(ports: &[PortSchema]) -> Value {
    let ports = ports.iter().map(|one| (one.port.clone(), Value::from(one.text.as_str())));
    Value::Object(ports.collect())
}
