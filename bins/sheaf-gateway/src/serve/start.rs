//! What reading needs besides Kafka, and its start.

use std::sync::Arc;

use sheaf_connectors::AdbcDatabase;
use sheaf_flight::Budget;
use sheaf_kafka::{Gateway, Metrics, Registry, TableSink};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use super::settings::Settings;

/// Whether a build with OpenSSL would have done it.
fn lacks_ssl(error: &dyn std::error::Error) -> bool {
    let cause = error.source().map(|cause| cause.to_string().to_lowercase());
    cfg!(not(feature = "ssl")) && cause.is_some_and(|cause| cause.contains("openssl"))
}

/// Reads Kafka once it, and the database, have answered.
pub(super) async fn start(
    settings: &Settings,
    memory: &Arc<Budget>,
    metrics: Metrics,
    clock: &SharedClock,
) -> Result<Gateway, Failure> {
    let mut options = settings.gateway.clone();
    if let Some(database) = &settings.persist {
        let opened = AdbcDatabase::open(database, &settings.drivers).await;
        let database = opened.map_err(|error| {
            let failure = Failure::from_error(&error);
            match failure.code() {
                Code::NotFound => failure.help("name its path with --libduckdb FILE"),
                _ => failure,
            }
        })?;
        let tables = TableSink::open(&database, &options.consumer.group).await;
        options.sink = Some(Arc::new(tables.map_err(|error| Failure::from_error(&error))?));
    }
    let group = options.consumer.group.clone();
    if let Some(batches) = settings.register.open(&group, settings.security.insecure, clock)? {
        options.sink = Some(batches);
    }
    if let Some(registry) = &settings.registry {
        let opened = Registry::open(registry.clone(), Arc::clone(clock)).await;
        let opened = opened.map_err(|error| Failure::from_error(&error))?;
        options.registry = Some(Arc::new(opened));
    }
    let started = Gateway::start(options, Arc::clone(memory), metrics, Arc::clone(clock)).await;
    started.map_err(|error| {
        let failure = Failure::from_error(&error);
        match failure.code() {
            Code::NotFound => failure.help("create the topic, or correct --topics"),
            Code::Unavailable => failure.help("check --brokers, and whether Kafka runs there"),
            Code::InvalidArgument if lacks_ssl(&error) => failure
                .help("build sheaf-gateway with --features ssl, or ssl-vendored without OpenSSL's headers"),
            Code::Unauthenticated => failure.help("check the sasl.* and ssl.* of --kafka-option"),
            _ => failure,
        }
    })
}
