//! A client of Flight stores.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::ipc::{Bounds, Compression, decode_stream, encode_stream};
use sheaf_flight::{
    COMPRESSION, CallOptions, ChannelPool, ClientConfig, Error, FlightConnection, FlightEntry,
    MessageStream, Received, SegmentLocation,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock};

use crate::disk::{MappedFile, OpenError};
use crate::flight::Ticket;
use crate::options::{PutReceipt, ReadOptions};
use crate::payload::Durability;

/// Puts and gets payloads of a Flight store. Cheap to clone; clones share channels.
///
/// Connections are made when they are needed and made again when they break.
/// Reads are retried until their first answer. Puts of record batches are
/// retried too: the client names the batch, and a store takes the same content
/// under the same name once.
#[derive(Clone, Debug)]
pub struct FlightClient {
    pool: ChannelPool,
    connection: FlightConnection,
    clock: SharedClock,
    retry: RetryPolicy,
}

/// How long a server may take to hand a segment over: it may have to move it first.
const HAND_OVER: Duration = Duration::from_secs(10);

/// How a client puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientPut {
    /// What a crash may leave of it; `None` is the server's own default.
    pub durability: Option<Durability>,
    /// Whether it is registered with the coordinator in the same call.
    pub register: bool,
    /// In which codec the client compresses bodies while it encodes them: less
    /// to send, and kept that way. Of record batches only; messages are sent as
    /// they are.
    pub compression: Compression,
    /// In which codec the server is to keep bodies that come uncompressed;
    /// `None` is its own default.
    pub stored_compression: Option<Compression>,
}

impl ClientPut {
    /// Stored, and registered with the coordinator.
    pub const REGISTERED: ClientPut = ClientPut {
        durability: None,
        register: true,
        compression: Compression::None,
        stored_compression: None,
    };

    /// What a crash may leave of it, whatever the server's default.
    #[must_use]
    pub const fn with_durability(self, durability: Durability) -> Self {
        ClientPut { durability: Some(durability), ..self }
    }

    /// Compressed by this client.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        ClientPut { compression, ..self }
    }

    /// Compressed by the server, where it does not come compressed.
    #[must_use]
    pub const fn with_stored_compression(self, compression: Compression) -> Self {
        ClientPut { stored_compression: Some(compression), ..self }
    }

    fn options(self) -> CallOptions {
        let mut options = CallOptions::default();
        if self.register {
            options = options.header("sheaf-register", "true");
        }
        if let Some(compression) = self.stored_compression {
            options = options.header(COMPRESSION, compression.as_str());
        }
        match self.durability {
            Some(Durability::Memory) => options.header("sheaf-durability", "memory"),
            Some(Durability::Disk) => options.header("sheaf-durability", "disk"),
            None => options,
        }
    }
}

impl FlightClient {
    /// A client of the server at `uri` (`grpc://HOST:PORT`), with default settings.
    ///
    /// # Errors
    /// `invalid_argument` where `uri` is none; whether anybody answers there
    /// turns out at the first call.
    pub fn connect(uri: &str, clock: SharedClock) -> Result<Self, Error> {
        FlightClient::connect_with(uri, ClientConfig::default(), clock)
    }

    /// The same with settings of one's own: TLS, a token, deadlines.
    ///
    /// # Errors
    /// As [`FlightClient::connect`]; `failed_precondition` where a token would
    /// go to another machine unencrypted, or TLS has no CA to check by.
    pub fn connect_with(
        uri: &str,
        config: ClientConfig,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let retry = config.retry.clone();
        let pool = ChannelPool::new(config, clock.clone());
        FlightClient::with_pool(pool, uri, retry, clock)
    }

    /// A client that shares the channels of `pool`; puts are retried by `retry`.
    ///
    /// # Errors
    /// As [`FlightClient::connect`].
    pub fn with_pool(
        pool: ChannelPool,
        uri: &str,
        retry: RetryPolicy,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let connection = pool.connection(uri)?;
        Ok(FlightClient { pool, connection, clock, retry })
    }

    /// The same client for another server.
    ///
    /// # Errors
    /// As [`FlightClient::connect`].
    pub fn at(&self, uri: &str) -> Result<Self, Error> {
        let connection = self.pool.connection(uri)?;
        Ok(FlightClient { connection, ..self.clone() })
    }

    /// The calls below this client.
    pub fn connection(&self) -> &FlightConnection {
        &self.connection
    }

    /// Stores one record batch under a new id.
    ///
    /// # Errors
    /// As [`FlightClient::put`].
    pub async fn store_batch(&self, batch: RecordBatch) -> Result<BatchId, Error> {
        let receipt = self.put(None, batch.schema(), &[batch], ClientPut::default()).await?;
        Ok(receipt.batch_id)
    }

    /// Stores record batches of one schema as one batch; `None` picks an id.
    ///
    /// Cancel-safe: a dropped put leaves nothing, or all of it.
    ///
    /// # Errors
    /// `already_exists` where the id was used for other content,
    /// `memory_full`, `disk_full`, `quota_full`, `permission_denied`,
    /// `limit_exceeded`, `unavailable`.
    pub async fn put(
        &self,
        id: Option<&BatchId>,
        schema: SchemaRef,
        batches: &[RecordBatch],
        put: ClientPut,
    ) -> Result<PutReceipt, Error> {
        let id = match id {
            Some(id) => id.clone(),
            None => BatchId::generate(self.clock.now().as_millis()),
        };
        let attempt = async |_attempt: u32| {
            // Encoded as they are sent, so that both go on at the same time.
            let batches = futures::stream::iter(batches.to_vec()).map(Ok).boxed();
            let messages = encode_stream(schema.clone(), batches, put.compression)?;
            self.put_messages(Some(&id), messages, put).await
        };
        let seed = self.clock.now().as_micros();
        match sheaf_retry::retry(&self.retry, seed, self.clock.clone(), attempt).await {
            Ok(receipt) => Ok(receipt),
            Err(error) if error.attempts() == 1 => Err(error.into_last()),
            Err(error) => Err(Error::from_error(error)),
        }
    }

    /// Stores a stream of messages, the schema first. Tried once, since the
    /// stream is used up; `None` lets the server pick the id.
    ///
    /// # Errors
    /// As [`FlightClient::put`], and what `messages` yields.
    pub async fn put_messages(
        &self,
        id: Option<&BatchId>,
        messages: MessageStream,
        put: ClientPut,
    ) -> Result<PutReceipt, Error> {
        let path: &[&str] = match id {
            Some(id) => &["batches", id.as_str()],
            None => &["batches"],
        };
        let answer = self.connection.put(path, &put.options(), messages).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::new(Code::Internal, format!("the receipt is no JSON: {error}")))
    }

    /// The whole payload in one record batch.
    ///
    /// # Errors
    /// `not_found`, `corrupt`, `malformed_data`, `unavailable`.
    pub async fn get_batch(&self, id: &BatchId) -> Result<RecordBatch, Error> {
        let (schema, mut stream) = self.get_stream(id).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            batches.push(batch?);
        }
        arrow_select::concat::concat_batches(&schema, &batches)
            .map_err(|error| Error::new(Code::LimitExceeded, error.to_string()))
    }

    /// The payload, record batch by record batch.
    ///
    /// # Errors
    /// As [`FlightClient::get_batch`].
    pub async fn get_stream(
        &self,
        id: &BatchId,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Error>>), Error> {
        self.read_batches(id, &ReadOptions::default()).await
    }

    /// The payload's messages, undecoded, the schema first.
    ///
    /// # Errors
    /// `not_found`, `corrupt`, `unavailable`; the stream may end with one too.
    pub async fn get_messages(&self, id: &BatchId) -> Result<MessageStream, Error> {
        self.read(id, &ReadOptions::default()).await
    }

    /// A part of a payload, as [`Store::read`](crate::Store::read) gives it:
    /// its messages, undecoded, the schema first. The server cuts it, so that
    /// only what was asked for crosses the network. A server that has no
    /// payloads is asked where this one is, and it is read from there.
    ///
    /// # Errors
    /// As [`FlightClient::get_messages`]; `invalid_argument` for columns that
    /// there are not, and for options that cannot be combined.
    pub async fn read(&self, id: &BatchId, options: &ReadOptions) -> Result<MessageStream, Error> {
        let ticket = Ticket { id: id.clone(), options: options.clone() }.to_string();
        let call = match options.bodies.header() {
            None => CallOptions::default(),
            Some(wanted) => CallOptions::default().header(COMPRESSION, wanted),
        };
        let refused = match self.connection.get(&ticket, &call).await {
            Err(error) if error.code() == Code::FailedPrecondition => error,
            answer => return answer,
        };
        // A coordinator has no payloads, but knows where they are.
        let Ok(entry) = self.info(id).await else { return Err(refused) };
        let mut failure = refused;
        for location in entry.endpoints.into_iter().flat_map(|endpoint| endpoint.locations) {
            let there = self.pool.connection(&location)?;
            match there.get(&ticket, &call).await {
                Ok(messages) => return Ok(messages),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A part of a payload, record batch by record batch.
    ///
    /// # Errors
    /// As [`FlightClient::read`]; `corrupt` and `malformed_data`, also from the
    /// stream, where it cannot be decoded.
    pub async fn read_batches(
        &self,
        id: &BatchId,
        options: &ReadOptions,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Error>>), Error> {
        decode_stream(self.read(id, options).await?, Bounds::default()).await
    }

    /// The payload, record batch by record batch, out of memory shared with the
    /// server where both run on one machine and the server offers that; else
    /// over the wire, as [`FlightClient::get_stream`].
    ///
    /// The bytes are not copied; they are good for as long as a record batch,
    /// or the stream, lives.
    ///
    /// # Errors
    /// As [`FlightClient::get_batch`].
    pub async fn get_shared(
        &self,
        id: &BatchId,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Error>>), Error> {
        let messages = match self.map(id).await? {
            Some(mapped) => mapped,
            None => self.get_messages(id).await?,
        };
        decode_stream(messages, Bounds::default()).await
    }

    /// The messages of a payload in memory shared with the server, the schema
    /// first; `None` where it is not offered or cannot be had.
    ///
    /// # Errors
    /// `not_found`, `corrupt`, `unavailable`.
    pub async fn map(&self, id: &BatchId) -> Result<Option<MessageStream>, Error> {
        let options = CallOptions::default().header("sheaf-shared-memory", "true");
        let entry = self.connection.info(&["batches", id.as_str()], &options).await?;
        let locations = entry.endpoints.into_iter().flat_map(|endpoint| endpoint.locations);
        for location in locations.filter_map(|text| text.parse::<SegmentLocation>().ok()) {
            let mapped = tokio::task::spawn_blocking(move || map(&location)).await;
            match mapped.unwrap_or_else(|error| Err(Error::new(Code::Internal, error.to_string())))
            {
                Ok(mapped) => return Ok(Some(mapped)),
                Err(error) => tracing::debug!(%id, %error, "read over the wire instead"),
            }
        }
        Ok(None)
    }

    /// What the store knows of a payload.
    ///
    /// # Errors
    /// `not_found`, `unavailable`.
    pub async fn info(&self, id: &BatchId) -> Result<FlightEntry, Error> {
        self.connection.info(&["batches", id.as_str()], &CallOptions::default()).await
    }

    /// Payloads whose ids begin with `prefix`.
    ///
    /// # Errors
    /// `unavailable`; the stream may end with one too.
    pub async fn list(
        &self,
        prefix: &str,
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        let criteria = match prefix {
            "" => Bytes::new(),
            prefix => serde_json::json!({ "prefix": prefix }).to_string().into(),
        };
        self.connection.list(criteria, &CallOptions::default()).await
    }

    /// Deletes a payload.
    ///
    /// # Errors
    /// `not_found`, `failed_precondition` while its batch is not over, `unavailable`.
    pub async fn delete(&self, id: &BatchId) -> Result<(), Error> {
        let body = serde_json::json!({ "batch_id": id }).to_string();
        let options = CallOptions::default();
        self.connection.action("DeleteBatch", body.into(), &options).await?;
        Ok(())
    }
}

/// Fetches a segment and maps it; the lease ends with the last byte of it.
fn map(location: &SegmentLocation) -> Result<MessageStream, Error> {
    let Received { file, lease, .. } = location.receive(HAND_OVER)?;
    let mapped = MappedFile::of(file, Box::new(lease)).map_err(|error| match error {
        OpenError::Io(error) => Error::from_error(error),
        OpenError::Broken(broken) => Error::new(Code::MalformedData, format!("{broken:?}")),
    })?;
    let messages: Vec<_> = mapped.all().map(|kept| Ok(kept.message)).collect();
    Ok(stream::iter(messages).boxed())
}
