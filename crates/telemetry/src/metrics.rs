//! The registry that a whole process shares, and its text.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::Error;

/// Where the parts of a process register their metrics. Locked to register
/// and to scrape, never to count.
pub type SharedRegistry = Arc<Mutex<Registry>>;

/// The media type of [`exposition`].
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric in the OpenMetrics text format.
///
/// # Errors
/// [`Error::Exposition`] when a collector fails.
pub fn exposition(registry: &SharedRegistry) -> Result<String, Error> {
    let mut text = String::new();
    let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    encode(&mut text, &registry).map_err(Error::Exposition)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn text_has_the_counters_and_an_end() {
        let mut registry = Registry::with_prefix("sheaf");
        let puts: Counter = Counter::default();
        registry.register("puts", "Batches put", puts.clone());
        puts.inc_by(3);
        let text = exposition(&Arc::new(Mutex::new(registry))).unwrap();
        assert!(text.contains("\nsheaf_puts_total 3\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
