//! What the Flight port serves.

use std::sync::{Arc, PoisonError};

use sheaf_flight::{Budget, FlightRouter, Limits};
use sheaf_kafka::{Gateway, TOPICS};
use sheaf_retry::SharedClock;
use sheaf_telemetry::SharedRegistry;
use sheaf_terminal::Failure;

use super::settings::Settings;

/// Topics by their names alone and in their namespace, and actions.
pub(super) fn router(
    gateway: &Gateway,
    settings: &Settings,
    memory: &Arc<Budget>,
    registry: &SharedRegistry,
    clock: &SharedClock,
) -> Result<FlightRouter, Failure> {
    let handler = Arc::new(gateway.handler());
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    FlightRouter::builder()
        .handler(TOPICS, handler.clone())
        .fallback(handler)
        .actions(Arc::new(gateway.actions()))
        .limits(Limits::for_memory(settings.memory))
        .memory(memory.clone())
        .clock(Arc::clone(clock))
        .metrics(&mut registry)
        .build()
        .map_err(|error| Failure::from_error(&error))
}
