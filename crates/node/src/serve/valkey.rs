//! The coordinator on Valkey, as the configuration describes it.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::embedded::FileState;
use sheaf_coordinator::engine;
use sheaf_flight::TlsFiles;
use sheaf_retry::{RetryPolicy, SharedClock};
use sheaf_valkey::{Builder, ValkeyCoordinator};

use super::error::Error;
use crate::backup::COORDINATOR_FILE;
use crate::config::{Config, Mode, Password, ValkeyConfig};

/// A worker waits this long for an answer, and no less, so that a slow moment is
/// no outage.
const PATIENCE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// Connects, and checks that the server can be trusted with batches.
pub(super) async fn open(
    config: &Config,
    valkey: &ValkeyConfig,
    clock: &SharedClock,
) -> Result<Arc<ValkeyCoordinator>, Error> {
    warn_of_state_left_behind(config, valkey);
    let builder = builder(config, valkey, clock).await?;
    let opened = builder.connect(clock.clone()).await;
    let opened = opened.map_err(|source| Error::Valkey { source })?;
    tracing::info!(
        address = %valkey,
        namespace = valkey.namespace(),
        durability = ?valkey.durability(),
        "the coordinator is on Valkey"
    );
    Ok(Arc::new(opened))
}

/// A server that had its coordinator inside before knows nothing of those batches.
fn warn_of_state_left_behind(config: &Config, valkey: &ValkeyConfig) {
    let data_dir = config.data_dir();
    // What cannot be read is told by `sheaf doctor`: it is not used here.
    if let Ok(FileState::Closed(found)) = FileState::counted(&data_dir.join(COORDINATOR_FILE))
        && found.batches > 0
    {
        tracing::warn!(
            batches = found.batches,
            data_dir = %data_dir.display(),
            "coordinator.redb there has batches that Valkey does not know; with the server \
             stopped, `sheaf coordinator migrate --from {} --to {valkey} --to-namespace {}` \
             moves them into a namespace that is empty",
            data_dir.display(),
            valkey.namespace(),
        );
    }
}

/// How long a worker waits for an answer before it asks on another connection: its
/// heartbeat, due at a third of the lease, gets through twice before that ends.
fn patience(lease: Duration) -> Duration {
    let [least, most] = PATIENCE;
    (lease / 4).clamp(least, most)
}

/// How it is reached. Files are read now.
pub(crate) async fn builder(
    config: &Config,
    valkey: &ValkeyConfig,
    clock: &SharedClock,
) -> Result<Builder, sheaf_flight::Error> {
    let limits = engine::Config {
        retry: RetryPolicy { max_retries: config.max_retries(), ..RetryPolicy::QUEUE },
        max_live_bytes: config.max_live_bytes(),
        ..engine::Config::default()
    };
    let mut builder = ValkeyCoordinator::at(valkey.address().clone())
        .namespace(valkey.namespace())
        .durability(valkey.durability())
        .poll_interval(config.poll_interval())
        .limits(limits);
    if config.mode() == Mode::Worker {
        builder = builder.timeout(patience(config.lease()));
    }
    if let Some(user) = valkey.user() {
        builder = builder.username(user);
    }
    builder = match valkey.password() {
        Password::Absent => builder,
        Password::Given(password) => builder.password(password.expose()),
        Password::File(path) => {
            let password = sheaf_flight::read_secret_file(path, "password file")?;
            builder.password(password.expose())
        }
    };
    let Some(ca) = valkey.ca() else { return Ok(builder) };
    let files = TlsFiles { ca: ca.clone(), identity: valkey.identity().cloned() };
    Ok(builder.tls(files.read(clock).await?))
}
