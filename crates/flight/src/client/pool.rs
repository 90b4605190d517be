//! One channel per target.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use sheaf_retry::{Code, SharedClock};
use tonic::transport::Endpoint;

use super::connector::Connector;
use super::security::Bearer;
use super::{Channel, ClientConfig, ClientSecurity, FlightConnection, Target, Transfer};
use crate::error::{Error, invalid};
use crate::server::{
    CONNECTION_WINDOW, FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAM_WINDOW,
};

/// HTTP/2's own window.
const LEAST_WINDOW: u32 = (64 << 10) - 1;

/// Channels by target, at most [`ClientConfig::max_targets`] of them.
///
/// A channel connects when it is first used and again after it broke; all
/// calls to one target share it. Cheap to clone; clones share the channels.
#[derive(Clone)]
pub struct ChannelPool {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<ClientConfig>,
    clock: SharedClock,
    security: Arc<ClientSecurity>,
    bearer: Arc<Bearer>,
    channels: Mutex<HashMap<Target, Pooled>>,
    transfer: Transfer,
    /// Bytes of one answer under way.
    stream_window: u32,
    /// What the certificates of all servers have to name.
    name: Option<Arc<str>>,
}

struct Pooled {
    channel: Channel,
    used: Duration,
}

impl ChannelPool {
    /// An empty pool.
    pub fn new(config: ClientConfig, clock: SharedClock) -> Self {
        let security = Arc::new(config.security.clone());
        let bearer = Arc::new(Bearer::new(security.token.clone(), clock.clone()));
        let (config, channels) = (Arc::new(config), Mutex::default());
        let transfer = Transfer::new(clock.clone());
        let stream_window = STREAM_WINDOW;
        let name = None;
        let shared =
            Shared { config, clock, security, bearer, channels, transfer, stream_window, name };
        ChannelPool { shared: Arc::new(shared) }
    }

    /// A pool of the same configuration with connections of its own, where each
    /// answer has at most so many bytes under way that nobody took yet.
    ///
    /// Answers that stand still hold up nothing of the other pool, and nothing of
    /// each other as long as they are no more than 64 MiB together: so many bytes
    /// a connection has under way.
    #[must_use]
    pub fn apart(&self, stream_window_bytes: u32) -> Self {
        let window = stream_window_bytes.clamp(LEAST_WINDOW, STREAM_WINDOW);
        self.with(window, self.shared.name.clone())
    }

    /// A pool of the same configuration with connections of its own, for one server
    /// only: under TLS, its certificate has to have `name` among its DNS names and
    /// URIs, besides the name of the host.
    #[must_use]
    pub fn only_for(&self, name: &str) -> Self {
        self.with(self.shared.stream_window, Some(name.into()))
    }

    fn with(&self, stream_window: u32, name: Option<Arc<str>>) -> Self {
        let Shared { config, clock, security, bearer, transfer, .. } = &*self.shared;
        let shared = Shared {
            config: Arc::clone(config),
            clock: clock.clone(),
            security: Arc::clone(security),
            bearer: Arc::clone(bearer),
            channels: Mutex::default(),
            transfer: transfer.clone(),
            stream_window,
            name,
        };
        ChannelPool { shared: Arc::new(shared) }
    }

    /// The connection to a server; does not connect yet. Call it on a tokio runtime.
    ///
    /// # Errors
    /// `invalid_argument` or `unimplemented`: `target` is none (see [`Target`]);
    /// `failed_precondition`: its calls would carry a token that the network can read.
    pub fn connection(&self, target: &str) -> Result<FlightConnection, Error> {
        let target: Target = target.parse()?;
        let channel = self.channel(&target)?;
        let Shared { config, clock, transfer, .. } = &*self.shared;
        let (config, transfer) = (Arc::clone(config), transfer.clone());
        Ok(FlightConnection::new(target, channel, config, transfer, clock.clone()))
    }

    /// The channel to a target, for gRPC services other than Flight.
    ///
    /// # Errors
    /// `invalid_argument`: HTTP cannot address the target;
    /// `failed_precondition`: this is no tokio runtime, or calls would carry a
    /// token that the network can read.
    pub fn channel(&self, target: &Target) -> Result<Channel, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            // A lazy channel spawns its driver at once, and panics where it cannot.
            let text = format!("connections to {target} can only be made on a tokio runtime");
            return Err(Error::new(Code::FailedPrecondition, text));
        }
        // Whether there is a CA shows when TLS is spoken: a pool may have other targets.
        self.shared.security.check_token(target)?;
        let now = self.shared.clock.elapsed();
        // Whole insertions only: a panic elsewhere leaves the map whole.
        let mut channels = self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pooled) = channels.get_mut(target) {
            pooled.used = now;
            return Ok(pooled.channel.clone());
        }
        if channels.len() >= self.shared.config.max_targets.max(1) {
            let oldest = channels.iter().min_by_key(|(_, pooled)| pooled.used);
            if let Some(oldest) = oldest.map(|(target, _)| target.clone()) {
                channels.remove(&oldest);
            }
        }
        let channel = Channel::new(
            self.dial(target)?,
            Arc::clone(&self.shared.bearer),
            self.shared.config.is_forwarding,
        );
        channels.insert(target.clone(), Pooled { channel: channel.clone(), used: now });
        Ok(channel)
    }

    /// A channel that connects when it is used.
    fn dial(&self, target: &Target) -> Result<tonic::transport::Channel, Error> {
        let shared = &self.shared;
        let endpoint =
            endpoint(target, &shared.config)?.initial_stream_window_size(shared.stream_window);
        if let Some(path) = target.path() {
            let path = path.to_path_buf();
            return Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(&path).await.map_err(|error| {
                        let text = format!("connect error: {error}");
                        Error::new(Code::Unavailable, text)
                    })?;
                    Ok::<_, Error>(hyper_util::rt::TokioIo::new(stream))
                }
            })));
        }
        if !target.is_tls() {
            return Ok(endpoint.connect_lazy());
        }
        // Certificates are ours to read and to judge, so gRPC is not told of TLS.
        let origin = format!("https://{}:{}", target.host(), target.port()).parse();
        let origin = origin.map_err(|error| invalid(format!("{target}: {error}")))?;
        let (security, clock) = (Arc::clone(&shared.security), shared.clock.clone());
        let host = shared.config.certificate_host.as_deref();
        let host = host.unwrap_or_else(|| target.host()).into();
        let connector = Connector::new(target.clone(), host, security, shared.name.clone(), clock);
        Ok(endpoint.origin(origin).connect_with_connector_lazy(connector))
    }

    /// Registers `sheaf_flight_client_copied_bytes` and `…_wrapped_bytes`: how
    /// what this pool sent and received went through memory.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_flight_client");
        self.shared.transfer.copies.register(registry);
    }

    /// Targets with a channel now.
    pub fn len(&self) -> usize {
        self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was called yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for ChannelPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelPool")
            .field("config", &self.shared.config)
            .field("targets", &self.len())
            .finish_non_exhaustive()
    }
}

/// How every channel is set up: the one place for what secures it.
fn endpoint(target: &Target, config: &ClientConfig) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(target.http_uri())
        .map_err(|error| invalid(format!("{target} cannot be dialled: {error}")))?;
    Ok(endpoint
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_frame_size(FRAME_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{ManualClock, Timestamp};

    #[tokio::test]
    async fn pools_apart_share_no_channel() {
        let pool = ChannelPool::new(ClientConfig::default(), ManualClock::new(Timestamp::EPOCH));
        pool.connection("h:1").unwrap();
        let other = pool.apart(1 << 20);
        assert!(other.is_empty());
        other.connection("h:2").unwrap();
        assert_eq!((pool.len(), other.len()), (1, 1));
    }

    #[tokio::test]
    async fn the_pool_is_bounded_and_keeps_what_is_used() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let config = ClientConfig { max_targets: 2, ..ClientConfig::default() };
        let pool = ChannelPool::new(config, clock.clone());
        for target in ["h:1", "h:2", "h:1", "h:3"] {
            clock.advance(Duration::from_secs(1));
            pool.connection(target).unwrap();
        }
        let channels = pool.shared.channels.lock().unwrap();
        let mut ports: Vec<u16> = channels.keys().map(Target::port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 3]);
    }
}
