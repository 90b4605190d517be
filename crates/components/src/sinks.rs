//! The built-in sinks.

mod adbc;
mod file;
mod flight;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod stdout;

use sheaf_dataflow::{ComponentError, Sink, Start};
use sheaf_pipeline::spec::SinkConfig;

use crate::host::Host;

/// Makes a sink.
pub(crate) async fn build(
    config: &SinkConfig,
    start: &Start,
    host: &Host,
) -> Result<Box<dyn Sink>, ComponentError> {
    Ok(match config {
        SinkConfig::File(config) => Box::new(file::Files::open(config, start, host).await?),
        SinkConfig::Stdout(config) => Box::new(stdout::Print::open(config, host)),
        SinkConfig::Flight(config) => Box::new(flight::Put::open(config, start, host).await?),
        SinkConfig::Http(config) => Box::new(http::Call::open(config, start, host).await?),
        SinkConfig::Adbc(config) => Box::new(adbc::Table::open(config, start, host).await?),
        #[cfg(feature = "kafka")]
        SinkConfig::Kafka(config) => Box::new(kafka::Topic::open(config, host).await?),
        #[cfg(not(feature = "kafka"))]
        SinkConfig::Kafka(_) => return Err(crate::build::missing("sink", start)),
    })
}
