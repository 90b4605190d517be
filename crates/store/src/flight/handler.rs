//! The namespace `batches`.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::{
    COMPRESSION, CallContext, Descriptor, EndpointEntry, Error, FlightEntry, Handler, Message,
    MessageStream, Right, SAME_CONNECTION, invalid,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, Throttle};

use super::shared::SharedMemory;
use super::ticket::Ticket;
use crate::disk::crc_of;
use crate::metrics::is_ours;
use crate::options::{Filter, PutBy, PutOptions};
use crate::payload::{Durability, PayloadInfo};
use crate::store::Store;

/// First element of the paths and tickets of payloads.
pub const NAMESPACE: &str = "batches";

/// Where a token needs the right to change for a put that registers, as for any
/// other way to register: the namespace of the coordinator.
const COORDINATOR: &str = "coordinator";

/// Refused puts that are logged in a second; the others are counted.
const REFUSALS: u32 = 20;

/// Entries of a list that are looked up at once.
const PAGE: usize = 1_000;

/// Serves a [`Store`] as the namespace `batches`.
///
/// | call | with |
/// |---|---|
/// | DoPut | `["batches"]` or `["batches", ID]`; headers `sheaf-durability: memory\|disk`, `sheaf-register: true\|false` and `sheaf-compression: none\|lz4\|zstd`; answers a [`PutReceipt`](crate::PutReceipt) as JSON |
/// | DoGet | a [`Ticket`]; headers `sheaf-checksums: none\|crc32c` and `sheaf-compression:` [`Bodies`](crate::Bodies) |
/// | GetFlightInfo | `["batches", ID]`; header `sheaf-shared-memory: true\|false` |
/// | ListFlights | a [`Filter`] as JSON, or nothing |
/// | DoExchange | `["batches", "echo"]`: sends back what it receives, once it is seen to be a valid stream, and stores nothing |
/// | RenewFlightEndpoint | a ticket: counts as a use |
///
/// With `sheaf-checksums: crc32c` each message of a DoGet that has no
/// `app_metadata` of its own, the schema among them, carries there the CRC32C
/// (Castagnoli) of its header and then its body, as JSON with eight lower-case
/// hexadecimal digits: `{"crc32c":"0a1b2c3d"}`. It covers the bytes as sent:
/// header and body as they are, without the frame around them. A message that
/// was put with `app_metadata` comes with that, unchanged, and without a
/// checksum.
///
/// What is put counts for the caller's token by its name, and against the quota
/// that this has. A put that registers needs the right to change in the
/// namespace `coordinator` besides.
///
/// With `sheaf-shared-memory: true` the endpoint of a GetFlightInfo names, after
/// the connection itself, where a program of this machine gets the payload as
/// a file to map, if the server offers that: see [`SharedMemory`].
///
/// With `sheaf-compression: zstd` a DoPut has the store compress once what comes
/// uncompressed; `none` keeps it as it comes, whatever the store's default, and
/// what comes compressed is kept as it comes in any case. The payload's content
/// is what was put, not how it is kept: checksum and `bytes` of the receipt are
/// of that, a repeated put is the same put, and only `stored_bytes` and the
/// `total_bytes` of a FlightInfo say what is kept.
///
/// A DoGet without the header sends the bodies as they are kept.
/// `sheaf-compression: zstd, lz4` says which codecs the client reads, the best
/// one first: a body that is kept in one of them is sent as it is, any other in
/// the first. So `none` alone is for clients that read no codec at all, and
/// `zstd, none` for those that read Zstandard where it is, and do not want
/// anything compressed for them. `as-put` gives back the messages that were
/// put, byte for byte.
///
/// Puts refused for a full disk or memory, or for a fault of this machine, are
/// logged as warnings, at most 20 a second; the next line says how many were
/// left out.
#[derive(Clone, Debug)]
pub struct StoreHandler {
    store: Store,
    durability: Durability,
    shared: Option<Arc<SharedMemory>>,
    refusals: Arc<Mutex<Throttle>>,
}

impl StoreHandler {
    /// Puts that do not say otherwise have this durability.
    pub fn new(store: Store, durability: Durability) -> Self {
        let refusals = Arc::new(Mutex::new(Throttle::new(REFUSALS)));
        StoreHandler { store, durability, shared: None, refusals }
    }

    /// Offers its payloads as shared memory to clients that ask for it.
    #[must_use]
    pub fn with_shared_memory(mut self, shared: Arc<SharedMemory>) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Whoever runs the server is to know that there is no room, or that it fails.
    fn refused(&self, context: &CallContext, id: Option<&BatchId>, error: crate::Error) -> Error {
        let is_told = is_ours(&error) || error.code() == Code::MemoryFull;
        let error = Error::from(error);
        if error.code() == Code::QuotaFull {
            context.refused(NAMESPACE, &error);
        }
        if is_told {
            self.warn(id, &error);
        }
        error
    }

    fn warn(&self, id: Option<&BatchId>, error: &Error) {
        let now = self.store.elapsed();
        let admitted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(left_out) = admitted else { return };
        let id = id.map(tracing::field::display);
        tracing::warn!(id, code = %error.code(), %error, left_out, "a put is refused");
    }

    fn put_options(&self, context: &CallContext) -> Result<PutOptions, Error> {
        let durability = match context.header("sheaf-durability") {
            None => self.durability,
            Some("memory") => Durability::Memory,
            Some("disk") => Durability::Disk,
            Some(other) => {
                let text = format!("header sheaf-durability is {other:?}, not memory or disk");
                return Err(invalid(text));
            }
        };
        let register = is_set(context, "sheaf-register")?;
        Ok(PutOptions { durability, register, compression: compression(context)? })
    }

    fn entry(&self, info: PayloadInfo) -> FlightEntry {
        entry(&self.store, info)
    }
}

fn entry(store: &Store, info: PayloadInfo) -> FlightEntry {
    let endpoint = endpoint(store, &info, Ticket::whole(info.id.clone()).to_string());
    let app_metadata = serde_json::json!({
        "batch_id": info.id,
        "bytes": info.bytes,
        "checksum": info.checksum,
        "schema_fingerprint": info.schema_fingerprint,
        "messages": info.messages,
        "durability": info.durability,
        "put_by": info.put_by.as_deref(),
    });
    FlightEntry {
        path: vec![NAMESPACE.to_owned(), info.id.to_string()],
        command: None,
        schema: info.schema,
        total_records: i64::try_from(info.rows).unwrap_or(i64::MAX),
        // Of what a get without headers sends.
        total_bytes: i64::try_from(info.stored_bytes).unwrap_or(i64::MAX),
        endpoints: vec![endpoint],
        ordered: true,
        app_metadata: Bytes::from(app_metadata.to_string()),
    }
}

/// Whether a header says so.
fn is_set(context: &CallContext, name: &str) -> Result<bool, Error> {
    match context.header(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(invalid(format!("header {name} is {other:?}, not true or false"))),
    }
}

fn endpoint(store: &Store, info: &PayloadInfo, ticket: String) -> EndpointEntry {
    let expires_at_micros = Some(store.expires_at(info).as_micros());
    EndpointEntry { expires_at_micros, ..EndpointEntry::new(ticket) }
}

/// What the header `sheaf-compression` says, of a put or of a get.
fn compression<T: FromStr<Err = Error>>(context: &CallContext) -> Result<Option<T>, Error> {
    let parsed = context.header(COMPRESSION).map(|text| {
        let refuse = |error: Error| invalid(format!("header {COMPRESSION}: {}", error.message()));
        text.parse().map_err(refuse)
    });
    parsed.transpose()
}

fn with_checksum(mut message: Message) -> Message {
    if message.app_metadata.is_empty() {
        let crc = crc_of(&message);
        message.app_metadata = Bytes::from(format!(r#"{{"crc32c":"{crc:08x}"}}"#));
    }
    message
}

/// In whose name a caller puts.
fn owner(context: &CallContext) -> Option<PutBy> {
    let name = context.owner()?.into();
    Some(PutBy { name, quota_bytes: context.quota_bytes() })
}

/// The id in a path; `None` for the namespace alone.
fn named(descriptor: &Descriptor) -> Result<Option<BatchId>, Error> {
    match descriptor.path.as_slice() {
        [_] => Ok(None),
        [_, id] => BatchId::try_new(id)
            .map(Some)
            .map_err(|error| invalid(format!("path {:?}: {error}", descriptor.path))),
        path => Err(invalid(format!("path {path:?} has more than a namespace and an id"))),
    }
}

#[async_trait]
impl Handler for StoreHandler {
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let id = named(&descriptor)?;
        let options = self.put_options(context)?;
        if options.register {
            context.require(COORDINATOR, Right::Change)?;
        }
        let put = self.store.put_by(id.clone(), messages, options, owner(context));
        let receipt =
            Box::pin(put).await.map_err(|error| self.refused(context, id.as_ref(), error))?;
        serde_json::to_vec(&receipt)
            .map(Bytes::from)
            .map_err(|error| Error::new(Code::Internal, format!("no receipt: {error}")))
    }

    async fn get(&self, context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        let mut ticket: Ticket = ticket.parse()?;
        ticket.options.bodies = compression(context)?.unwrap_or_default();
        let checksums = match context.header("sheaf-checksums") {
            None | Some("none") => false,
            Some("crc32c") => true,
            Some(other) => {
                let text = format!("header sheaf-checksums is {other:?}, not none or crc32c");
                return Err(invalid(text));
            }
        };
        let messages = self.store.read(&ticket.id, &ticket.options).await?;
        Ok(if checksums { messages.map_ok(with_checksum).boxed() } else { messages })
    }

    async fn list(
        &self,
        _context: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        let filter: Filter = match criteria {
            [] => Filter::default(),
            json => serde_json::from_slice(json).map_err(|error| {
                invalid(format!("criteria {:?}: {error}", String::from_utf8_lossy(json)))
            })?,
        };
        let start = (self.store.clone(), filter, Some(None::<BatchId>));
        let pages = stream::try_unfold(start, |(store, filter, cursor)| async move {
            let Some(cursor) = cursor else { return Ok::<_, Error>(None) };
            let page = store.list(&filter, cursor.as_ref(), PAGE).await?;
            let entries: Vec<_> =
                page.payloads.into_iter().map(|info| Ok(entry(&store, info))).collect();
            Ok(Some((stream::iter(entries), (store, filter, page.next.map(Some)))))
        });
        Ok(pages.try_flatten().boxed())
    }

    async fn info(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
    ) -> Result<FlightEntry, Error> {
        let is_near = is_set(context, "sheaf-shared-memory")?;
        let id = named(&descriptor)?
            .ok_or_else(|| invalid("path [\"batches\"] names no payload: add its id"))?;
        let mut entry = self.entry(self.store.info(&id)?);
        let offer =
            self.shared.as_ref().filter(|_| is_near).and_then(|shared| shared.offer(context, &id));
        if let (Some(endpoint), Some(location)) = (entry.endpoints.first_mut(), offer) {
            endpoint.locations = vec![SAME_CONNECTION.to_owned(), location];
        }
        Ok(entry)
    }

    async fn exchange(
        &self,
        _context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        if descriptor.path.get(1).map(String::as_str) != Some("echo") {
            let text =
                format!("no DoExchange at {:?}, only at [\"batches\", \"echo\"]", descriptor.path);
            return Err(Error::new(Code::Unimplemented, text));
        }
        let validator = sheaf_flight::ipc::StreamValidator::default();
        let checked = messages.scan(validator, |validator, message| {
            let checked = message.and_then(|message| {
                validator.check(&message)?;
                Ok(message)
            });
            futures::future::ready(Some(checked))
        });
        Ok(checked.boxed())
    }

    async fn renew(&self, _context: &CallContext, ticket: &str) -> Result<EndpointEntry, Error> {
        let parsed: Ticket = ticket.parse()?;
        self.store.renew(&parsed.id)?;
        let info = self.store.info(&parsed.id)?;
        Ok(endpoint(&self.store, &info, parsed.to_string()))
    }
}
