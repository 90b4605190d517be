//! `DataExchangeService`: the exchange for peers that speak gRPC and not Flight.
//!
//! It is the same [`Exchange`](crate::shuffle::Exchange) that
//! [`ShuffleHandler`](crate::shuffle::ShuffleHandler) serves: the rules of
//! [`shuffle`](crate::shuffle) hold, and what is sent here is read over Flight, and
//! the other way. `proto/sheaf/exchange/v1/data_exchange.proto` is the whole
//! contract; any gRPC client can be made from it.
//!
//! Record batches are opaque payloads here, one encapsulated Arrow IPC message
//! each, compressed as a whole with LZ4 (frame), Snappy (raw block) or ZSTD. A
//! payload has the CRC32C of its bytes on the wire, which is looked at before
//! anything is unfolded; it says how much it unfolds to, which is at most
//! [`MAX_PAYLOAD_BYTES`], and unfolds to that or is refused.
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow_array::{Int64Array, RecordBatch};
//! use futures::{TryStreamExt, stream};
//! use sheaf_exchange::service::{
//!     Compression, DataExchangeClient, DataExchangeOptions, DataExchangeService,
//! };
//! use sheaf_exchange::shuffle::{
//!     Exchange, Governor, PartitionKey, ReadOptions, Sender, ShuffleHandler,
//! };
//! use sheaf_flight::{
//!     Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server,
//! };
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Both faces of one exchange on one port.
//! let clock = SystemClock::shared();
//! let exchange = Exchange::new(Budget::new(64 << 20), clock.clone());
//! let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder()).build()?;
//! let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
//! let server = DataExchangeService::new(exchange).serve(Server::new(router));
//! let server = server.serve(listener).await?;
//!
//! let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
//! let options =
//!     DataExchangeOptions { compression: Compression::Snappy, ..DataExchangeOptions::default() };
//! let client = DataExchangeClient::new(pool, clock, Governor::new(32 << 20), options);
//! let column = Arc::new(Int64Array::from_iter_values(0..1_000)) as _;
//! let batch = RecordBatch::try_from_iter([("n", column)])?;
//! let key = PartitionKey::try_new("q7", 1, 0)?;
//! let rows = stream::iter([Ok(batch.clone())]);
//! client.stream_data(&server.uri(), &key, Sender::only(), batch.schema(), rows).await?;
//!
//! let reader =
//!     client.request_data(&server.uri(), &key, None, ReadOptions::default()).await?;
//! let batches: Vec<RecordBatch> = reader.into_stream().try_collect().await?;
//! assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000);
//! # Ok(())
//! # }
//! ```

mod chunk;
mod client;
mod codec;
mod config;
mod estimate;
mod frame;
mod schema;
mod server;
mod utilities;

pub use chunk::MAX_PAYLOAD_BYTES;
pub use client::{DataExchangeClient, DataExchangeOptions, DataReader};
pub use codec::Compression;
pub use config::{ShuffleSettings, retry_config, retry_policy};
pub use estimate::estimate_data_size;
pub use schema::{deserialize_schema, serialize_schema};
pub use server::DataExchangeService;
pub use utilities::{ChunkOptions, deserialize_from_chunks, serialize_to_chunks};

pub use crate::partition::hash_partition_data;
pub use crate::shuffle::check_schema_compatibility;
