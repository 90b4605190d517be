//! What runs beside the calls: the listener for wakes, and the sweeper.

use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::ClientLike as _;
use fred::prelude::Value;
use fred::types::{ClusterHash, CustomCommand};
use sheaf_coordinator::Error;

use crate::connection::Connection;
use crate::coordinator::Shared;

/// How long the server holds a listener that hears nothing.
const BLOCK: Duration = Duration::from_secs(2);
/// How much later its answer is taken for lost, and the connection made anew:
/// a connection that has died in silence must not keep a process idle.
const SILENCE: Duration = Duration::from_secs(1);
/// Pause after an error, so that nothing spins.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes wakes off and gives them to claims that wait.
pub(crate) async fn listener(shared: Arc<Shared>) {
    let mut client: Option<Connection> = None;
    while !shared.is_closed() {
        let unclaimed = shared.parking.take_unclaimed();
        if !unclaimed.is_empty()
            && let Err(error) = shared.sweep(unclaimed.clone()).await
        {
            // The sweep of any process gives them again.
            tracing::debug!(%error, ?unclaimed, "wakes were not put back");
        }
        let queues = shared.parking.listen();
        if queues.is_empty() {
            tokio::select! {
                () = shared.parking.changed() => {}
                () = shared.closed() => {}
            }
            continue;
        }
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => Connection::blocking(&shared.settings).await,
        };
        let heard = match connected {
            Ok(connected) => {
                let heard = tokio::select! {
                    heard = listen(&shared, &connected, &queues) => heard,
                    () = shared.closed() => return,
                };
                client = heard.is_ok().then_some(connected);
                heard
            }
            Err(error) => Err(Heard::Error(error)),
        };
        match heard {
            Ok(Some(queue)) => shared.parking.wake(&queue),
            Ok(None) => {}
            Err(problem) => {
                tracing::debug!(?problem, "the listener for wakes connects anew");
                shared.metrics.listener_restarts.inc();
                // Whatever was to be heard meanwhile: all look for themselves.
                shared.parking.wake_all();
                shared.clock.sleep(PAUSE).await;
            }
        }
    }
}

/// Why nothing was heard.
#[derive(Debug)]
enum Heard {
    Silence,
    Error(#[allow(dead_code, reason = "for the log")] Error),
}

async fn listen(
    shared: &Shared,
    client: &Connection,
    queues: &[String],
) -> Result<Option<String>, Heard> {
    let own = shared.own_key();
    let prefix = shared.link.key("wk:");
    let mut arguments: Vec<Value> =
        queues.iter().map(|queue| Value::from(format!("{prefix}{queue}"))).collect();
    arguments.push(own.as_str().into());
    arguments.push(Value::from(BLOCK.as_secs_f64()));
    let command =
        CustomCommand::new_static("BZPOPMIN", ClusterHash::Custom(shared.link.slot()), false);
    let popped = client.custom::<Value, Value>(command, arguments);
    let popped = tokio::time::timeout(BLOCK + SILENCE, popped).await;
    let Ok(popped) = popped else { return Err(Heard::Silence) };
    let popped = popped.map_err(|error| Heard::Error(crate::error::backend("listen", error)))?;
    let Value::Array(parts) = popped else { return Ok(None) };
    let key = parts.first().and_then(Value::as_string).unwrap_or_default();
    Ok(key.strip_prefix(&prefix).filter(|_| key != own).map(str::to_owned))
}

/// Does what time brings about, and finds wakes that were lost.
pub(crate) async fn sweeper(shared: Arc<Shared>) {
    let mut failing = false;
    while !shared.is_closed() {
        tokio::select! {
            () = shared.schedule.due() => {}
            () = shared.closed() => return,
        }
        match shared.sweep(Vec::new()).await {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(address = %shared.settings.address, "Valkey answers again");
                shared.parking.wake_all();
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    failing = true;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, address = %shared.settings.address,
                        "Valkey does not answer; work goes on when it does");
                }
                shared.clock.sleep(PAUSE).await;
            }
        }
    }
}
