//! The built-in sources.

mod adbc;
mod file;
mod flight;
mod generate;
mod http;
#[cfg(feature = "kafka")]
mod kafka;

use sheaf_dataflow::{ComponentError, Source, Start};
use sheaf_pipeline::spec::SourceConfig;

use crate::failure::refused;
use crate::host::Host;

/// Makes a source.
pub(crate) async fn build(
    config: &SourceConfig,
    start: &Start,
    host: &Host,
) -> Result<Box<dyn Source>, ComponentError> {
    let alone = match config {
        SourceConfig::Flight(_) => Some("flight"),
        SourceConfig::Http(_) => Some("http"),
        SourceConfig::Adbc(_) => Some("adbc"),
        SourceConfig::File(_) | SourceConfig::Generate(_) | SourceConfig::Kafka(_) => None,
    };
    if let (Some(kind), 2..) = (alone, start.replicas) {
        return Err(refused(format!(
            "{}: a source of kind {kind} cannot have {} instances: each would read everything",
            start.component, start.replicas
        )));
    }
    Ok(match config {
        SourceConfig::Generate(config) => Box::new(generate::Generate::open(config, start, host)?),
        SourceConfig::File(config) => Box::new(file::Files::open(config, start, host).await?),
        SourceConfig::Flight(config) => Box::new(flight::Stream::open(config, start, host).await?),
        SourceConfig::Http(config) => Box::new(http::Poll::open(config, start, host).await?),
        SourceConfig::Adbc(config) => Box::new(adbc::Query::open(config, start, host).await?),
        #[cfg(feature = "kafka")]
        SourceConfig::Kafka(config) => Box::new(kafka::Topics::open(config, start, host).await?),
        #[cfg(not(feature = "kafka"))]
        SourceConfig::Kafka(_) => return Err(crate::build::missing("source", start)),
    })
}
