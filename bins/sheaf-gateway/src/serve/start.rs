//! What reading needs besides Kafka, and its start.

use std::sync::Arc;

use sheaf_flight::Budget;
use sheaf_kafka::{Error, Gateway, Metrics, Registry, SharedTracer};
use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::Failure;

use super::settings::Settings;

/// Whether a build with OpenSSL would have done it.
fn lacks_ssl(error: &dyn std::error::Error) -> bool {
    let cause = error.source().map(|cause| cause.to_string().to_lowercase());
    cfg!(not(feature = "ssl")) && cause.is_some_and(|cause| cause.contains("openssl"))
}

/// Reads Kafka once it, and what rows are written to, have answered.
pub(super) async fn start(
    settings: &Settings,
    memory: &Arc<Budget>,
    metrics: Metrics,
    (clock, tracer): (&SharedClock, Option<SharedTracer>),
) -> Result<Gateway, Failure> {
    let mut options = settings.gateway.clone();
    let group = options.consumer.group.clone();
    if let Some(persist) = &settings.persist {
        options.sink = Some(persist.open(&group, clock).await?);
    }
    let insecure = settings.security.insecure;
    if let Some(batches) = settings.register.open(&group, insecure, (clock, tracer))? {
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
            Code::Unavailable if matches!(error, Error::Persist(_)) => {
                failure.help("check that the database runs, and that nobody else keeps it locked")
            }
            _ if matches!(error, Error::Persist(_)) => failure,
            Code::NotFound => failure.help("create the topic, or correct --topics"),
            Code::Unavailable => failure.help("check --brokers, and whether Kafka runs there"),
            Code::InvalidArgument if lacks_ssl(&error) => failure
                .help("build sheaf-gateway with --features ssl, or ssl-vendored without OpenSSL's headers"),
            Code::Unauthenticated => failure
                .help("correct ssl.*, sasl.username and sasl.password of --kafka-option"),
            _ => failure,
        }
    })
}
