//! Flight servers, as sources and sinks call them.

use std::sync::Arc;

use sheaf_dataflow::ComponentError;
use sheaf_flight::{ChannelPool, ClientConfig, ClientSecurity, FlightConnection, TokenSource};
use sheaf_pipeline::spec::FlightServer;

use crate::failure::failed;
use crate::host::Host;
use crate::secrets;

/// A connection, which is made when it is needed.
pub(crate) async fn connect(
    server: &FlightServer,
    host: &Host,
) -> Result<FlightConnection, ComponentError> {
    let token = secrets::maybe_secret(host, "config.server.token", server.token.as_ref()).await?;
    let security = ClientSecurity {
        ca: server.ca_file.as_ref().map(Into::into),
        token: token.map_or_else(TokenSource::default, TokenSource::Fixed),
        ..ClientSecurity::default()
    };
    let config = ClientConfig { security, ..ClientConfig::default() };
    let pool = ChannelPool::new(config, Arc::clone(&host.clock));
    let connection = pool.connection(&server.uri);
    connection.map_err(failed(format!("config.server: {} cannot be called", server.uri)))
}
