//! Reads one stream, over breaks and restarts of its sender.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use sheaf_coordinator::LeaseRef;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
use sheaf_flight::{CallOptions, ChannelPool, Error, Message, MessageStream, Secret};
use sheaf_pipeline::control::ControlClient;
use sheaf_pipeline::registry::certificate_name;
use sheaf_proto::TraceContext;
use sheaf_retry::{Code, Jitter, Retry, RetryPolicy, Retryable as _, SharedClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::component::Received;
use crate::error::ComponentError;
use crate::outlet::size_bytes;
use crate::wire::{self, EDGES, End, ReaderHello, SenderHello, TOKEN_HEADER, VERSION};

/// When a sender that is not there is tried again.
const RETRY: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 20, cap_ms: 1_000, ..RetryPolicy::TRANSFER };
/// How often a silent sender is looked up: another process may have its place.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the sender may take to end a call when all has been said.
const LAST_WORD: Duration = Duration::from_secs(5);
/// Bytes of one permit of the room for what came in.
pub(crate) const ROOM_UNIT: u64 = 1 << 10;

/// What comes out of streams.
pub(crate) enum Item {
    /// A batch.
    Batch(Arrived),
    /// A stream has ended; over a durable edge its end is held.
    End { place: usize, lease: Option<LeaseRef> },
    /// A stream cannot be read, and never can.
    Failed(ComponentError),
}

/// A batch that came.
pub(crate) struct Arrived {
    pub(crate) place: usize,
    pub(crate) epoch: u64,
    pub(crate) received: Received,
    /// What it goes on with.
    pub(crate) trace: Option<TraceContext>,
    /// Its part of the room for what came in.
    pub(crate) _room: OwnedSemaphorePermit,
    /// Over a durable edge: how it is held.
    pub(crate) held: Option<Held>,
}

/// A batch of a queue.
pub(crate) struct Held {
    pub(crate) lease: LeaseRef,
    /// Another one may be taken once the component has taken this one.
    pub(crate) _credit: OwnedSemaphorePermit,
}

/// What all readers of a component have in common.
pub(crate) struct Common {
    pub(crate) control: ControlClient,
    pub(crate) pool: ChannelPool,
    pub(crate) token: Secret,
    /// The run that certificates of senders have to be for, under TLS.
    pub(crate) names: Option<u64>,
    pub(crate) fence: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What a component says that leaves because it is done in this run.
    pub(crate) done: String,
    pub(crate) clock: SharedClock,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) room_units: u32,
    /// Nothing more is to be read.
    pub(crate) quit: CancellationToken,
}

/// Reads one stream.
pub(crate) struct Reader {
    pub(crate) index: usize,
    pub(crate) place: Arc<Place>,
    pub(crate) common: Arc<Common>,
    pub(crate) items: mpsc::Sender<Item>,
}

/// Why a call is over.
enum Over {
    /// The sender has ended it, or is gone: look where it is now.
    Broken(Error),
    /// Nothing more is to be read.
    Quit,
}

/// What there is to be read.
enum Found {
    Call(Call),
    /// Nothing any more.
    Done,
}

/// A call that has begun well.
struct Call {
    address: String,
    messages: MessageStream,
    epoch: u64,
}

impl Reader {
    /// Until all is read and acknowledged, or the component quits.
    pub(crate) async fn run(self) {
        let mut address = None;
        loop {
            let call = match self.connect(&mut address).await {
                Ok(Some(Found::Call(call))) => call,
                Ok(Some(Found::Done)) => return self.done().await,
                Ok(None) => return,
                Err(error) => return self.fail(error).await,
            };
            let stream = self.place.name();
            tracing::info!(stream, address = call.address, "reading from its sender");
            match self.read(call).await {
                // The sender has heard that all is done with, or what a component that quits
                // had to say.
                Ok(()) if self.place.is_done() => return self.place.disconnected(),
                Err(Over::Quit) => return self.place.disconnected(),
                Ok(()) => {}
                Err(Over::Broken(error)) if is_final(&error) => return self.fail(error).await,
                Err(Over::Broken(error)) => {
                    tracing::info!(stream, %error, "stream broken, looking for its sender");
                }
            }
            self.place.disconnected();
            if self.common.quit.is_cancelled() {
                return;
            }
        }
    }

    /// The sender has come to its end in this run, and has heard from all its readers that
    /// they are done with everything: there is nothing to be read, and never will be.
    async fn done(&self) {
        tracing::info!(stream = self.place.name(), "its sender is done and has left");
        drop(self.items.send(Item::End { place: self.index, lease: None }).await);
    }

    async fn fail(&self, error: Error) {
        let text = format!("stream {} cannot be read", self.place.name());
        let error = ComponentError::new(error.code(), text).because(error);
        // A component that ends does not listen.
        drop(self.items.send(Item::Failed(error)).await);
    }

    /// Finds the sender and begins a call, however long that takes; `None` where it is not
    /// needed any more.
    async fn connect(&self, known: &mut Option<String>) -> Result<Option<Found>, Error> {
        let clock = Arc::clone(&self.common.clock);
        let seed = Jitter::seed_of(&self.place.name());
        let known = tokio::sync::Mutex::new(known);
        let attempt = |_| async {
            let mut known = known.lock().await;
            let Some(address) = self.resolve(known.as_deref()).await? else {
                return Ok(Found::Done);
            };
            let call = self.begin(address.clone()).await?;
            **known = Some(address);
            Ok(Found::Call(call))
        };
        let retrying = Retry::new(&RETRY, seed, clock).run_if(attempt, |error| !is_final(error));
        tokio::select! {
            biased;
            () = self.common.quit.cancelled() => Ok(None),
            found = retrying => found.map(Some).map_err(sheaf_retry::Error::into_last),
        }
    }

    /// Where the sender is now; `None` where it is done. While the control plane is away, it
    /// is taken to be where it was.
    async fn resolve(&self, known: Option<&str>) -> Result<Option<String>, Error> {
        let sender = &self.place.sender;
        match self.common.control.component(sender).await {
            Ok(found) if found.status.is_held() && !found.address.is_empty() => {
                Ok(Some(found.address))
            }
            Ok(found) if found.has_left(&self.common.done) => Ok(None),
            Ok(found) => {
                let status = found.status.as_str();
                Err(Error::new(Code::Unavailable, format!("{sender} is {status}")))
            }
            Err(error) if error.code() == Code::NotFound => {
                Err(Error::new(Code::Unavailable, error.message()))
            }
            Err(error) => known.map(|known| Some(known.to_owned())).ok_or(error),
        }
    }

    async fn begin(&self, address: String) -> Result<Call, Error> {
        let begun = self.place.begin();
        let hello = wire::say(&ReaderHello {
            version: VERSION,
            fence: (self.common.fence)(),
            epoch: begun.epoch,
            last: begun.last,
            traces: true,
            feedback: begun.feedback,
        })?;
        let (place, clock) = (Arc::clone(&self.place), Arc::clone(&self.common.clock));
        let later = stream::unfold((place, clock, begun.call), |(place, clock, call)| async move {
            let feedback = place.next_feedback(call, &clock).await?;
            Some((wire::say(&feedback), (place, clock, call)))
        });
        // Servers of Arrow C++ take the descriptor out of the first message, and all else in it
        // is lost.
        let alone = Ok(sheaf_flight::Message::default());
        let said = stream::iter([alone, Ok(hello)]).chain(later).boxed();
        let connection = match self.common.names {
            // Whoever answers there has to be the sender, and of this run.
            Some(run) => {
                let name = certificate_name(&self.place.sender, run);
                self.common.pool.only_for(&name).connection(&address)?
            }
            None => self.common.pool.connection(&address)?,
        };
        let (from, to) = (self.place.from_instance.to_string(), self.place.to.to_string());
        let path = [EDGES, &*self.place.edge, &from, &to];
        let options = CallOptions::default()
            .header(TOKEN_HEADER, self.common.token.expose())
            .deadline(LOOK_EVERY);
        let mut messages = connection.exchange(&path, &options, said).await?;
        let first = messages.next().await.transpose()?;
        let first = first.ok_or_else(|| {
            Error::new(Code::Unavailable, format!("{address} ended the call at once"))
        })?;
        let hello: SenderHello = wire::read("the sender's hello", &first.app_metadata)?;
        wire::check_version(hello.version)?;
        self.place.connected(hello.epoch);
        Ok(Call { address, messages, epoch: hello.epoch })
    }

    async fn read(&self, mut call: Call) -> Result<(), Over> {
        let bounds = Bounds { max_rows: u64::MAX, ..Bounds::default() };
        let mut decoder = Decoder::new(bounds);
        loop {
            let Some(message) = self.next(&mut call).await? else {
                // The sender ends a call when it has been told all, or goes.
                return Ok(());
            };
            self.take(call.epoch, &mut decoder, &message).await?;
        }
    }

    /// The next message; looks now and then whether it is still the right one who is silent.
    async fn next(&self, call: &mut Call) -> Result<Option<Message>, Over> {
        loop {
            // Most of the time there is one, and no need for a timer.
            if let Some(message) = call.messages.next().now_or_never() {
                return message.transpose().map_err(Over::Broken);
            }
            tokio::select! {
                biased;
                message = call.messages.next() => {
                    return message.transpose().map_err(Over::Broken);
                }
                () = self.common.quit.cancelled() => return self.last_word(call).await,
                () = self.common.clock.sleep(LOOK_EVERY) => self.look(&call.address).await?,
            }
        }
    }

    async fn look(&self, address: &str) -> Result<(), Over> {
        match self.common.control.component(&self.place.sender).await {
            Ok(found) if found.status.is_held() && found.address != address => {
                let text = format!("{} is at {} now", self.place.sender, found.address);
                Err(Over::Broken(Error::new(Code::Unavailable, text)))
            }
            // What the registry does not know at the moment, the stream itself will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Reads nothing more, and waits until the sender has heard all that is to be said.
    async fn last_word(&self, call: &mut Call) -> Result<Option<Message>, Over> {
        let ends = async { while let Some(Ok(_)) = call.messages.next().await {} };
        let closed = async {
            while !self.place.is_done() {
                self.common.clock.sleep(Duration::from_millis(5)).await;
            }
            self.common.clock.sleep(LAST_WORD).await;
        };
        tokio::select! {
            biased;
            () = ends => {}
            () = closed => {}
        }
        Err(Over::Quit)
    }

    async fn take(&self, epoch: u64, decoder: &mut Decoder, message: &Message) -> Result<(), Over> {
        match decoder.push(message).map_err(Over::Broken)? {
            Decoded::Schema(_) | Decoded::Dictionary => Ok(()),
            Decoded::Batch(batch) => {
                let (sequence, trace) =
                    wire::read_batch(&message.app_metadata).map_err(Over::Broken)?;
                let (rows, bytes) = (batch.num_rows() as u64, size_bytes(&batch));
                let room = self.room(bytes).await?;
                let edge = &*self.place.edge;
                self.place.schema.get_or_init(|| batch.schema());
                tracing::debug!(edge, sequence, rows, "received event");
                if !self.place.received(sequence, rows, bytes) {
                    let text = format!("batch {sequence} comes again in the same call");
                    return Err(Over::Broken(Error::new(Code::MalformedData, text)));
                }
                let (from, from_instance) =
                    (Arc::clone(&self.place.from), self.place.from_instance);
                let received =
                    Received { batch, from, from_instance, epoch, sequence, lease: None };
                let place = self.index;
                let arrived = Arrived { place, epoch, received, trace, _room: room, held: None };
                self.send(Item::Batch(arrived)).await
            }
            Decoded::Metadata => {
                let end: End =
                    wire::read("the end", &message.app_metadata).map_err(Over::Broken)?;
                tracing::debug!(edge = &*self.place.edge, end = end.end, "received end");
                self.place.ended(end.end);
                self.send(Item::End { place: self.index, lease: None }).await
            }
        }
    }

    async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Over> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.common.room_units);
        let acquired = Arc::clone(&self.common.room).acquire_many_owned(units);
        tokio::select! {
            biased;
            room = acquired => room.map_err(|_| Over::Quit),
            () = self.common.quit.cancelled() => Err(Over::Quit),
        }
    }

    async fn send(&self, item: Item) -> Result<(), Over> {
        self.items.send(item).await.map_err(|_| Over::Quit)
    }
}

/// What trying again does not change.
fn is_final(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FormatNewer
            | Code::FailedPrecondition
            | Code::LimitExceeded
            | Code::MalformedData
            | Code::Unimplemented
    )
}
