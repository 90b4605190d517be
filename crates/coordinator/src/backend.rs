//! Parts that backends of the contract share: time, readers of events, metrics.

pub use crate::embedded::metrics::Metrics;
pub use crate::embedded::time::Time;
pub use crate::embedded::watchers::Watchers;
