//! Observers: what scripts change, while anybody looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::interfaces::ClientLike as _;
use fred::prelude::Value;
use fred::types::{ClusterHash, CustomCommand};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_coordinator::limits::{MAX_ITEMS, at_most};
use sheaf_coordinator::{Change, Error, Event, WatchFilter};
use sheaf_retry::{Code, Timestamp};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use crate::connection::Connection;
use crate::coordinator::Shared;
use crate::error::backend;
use crate::unpack::{self, Damaged, Reader};
use crate::work::{bytes, list};

/// How long scripts go on telling after they were asked to.
const LOOK: Duration = Duration::from_secs(30);
/// How often they are asked again.
const RENEW: Duration = Duration::from_secs(10);
/// How long the server holds a reader that finds nothing.
const BLOCK: Duration = Duration::from_secs(2);
/// How much later the connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(2);
/// Events that are kept for one observer.
const BUFFER: usize = 4_096;
/// Most observers of one process.
const MAX_WATCHERS: usize = 1_024;

struct Watcher {
    filter: WatchFilter,
    events: Sender<Event>,
    missed: u64,
    /// What was told until here is older than the observer.
    from: u64,
}

impl Watcher {
    /// The last place is kept to say that something was missed.
    fn tell(&mut self, event: &Event) {
        if self.missed > 0 && self.events.try_send(Event::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
        let event = match (self.events.capacity(), event) {
            (1, Event::Changed(_)) => Event::Missed(1),
            _ => event.clone(),
        };
        let count = if let Event::Missed(count) = &event { *count } else { 1 };
        if self.missed > 0 || self.events.try_send(event).is_err() {
            self.missed += count;
        }
    }
}

#[derive(Default)]
struct State {
    all: Vec<Watcher>,
    is_reading: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<State>);

impl Watchers {
    fn tell(&self, event: &Event, number: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in &mut state.all {
            let wanted = match event {
                Event::Changed(change) => watcher.filter.selects(change),
                Event::Missed(_) => true,
            };
            if wanted && number > watcher.from {
                watcher.tell(event);
            }
        }
    }

    /// Whether somebody still looks; the reader ends where nobody does.
    fn is_watched(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.all.retain(|watcher| !watcher.events.is_closed());
        state.is_reading = !state.all.is_empty();
        state.is_reading
    }

    /// Adds an observer; whether a reader has to be started for it.
    fn add(&self, filter: WatchFilter, from: u64) -> Result<(Receiver<Event>, bool), Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.all.retain(|watcher| !watcher.events.is_closed());
        if state.all.len() >= MAX_WATCHERS {
            return Err(Error::Unavailable {
                problem: format!("has {MAX_WATCHERS} observers, its limit"),
                code: Code::Overloaded,
            });
        }
        let (events, receiver) = channel(BUFFER + 1);
        state.all.push(Watcher { filter, events, missed: 0, from });
        let is_first = !std::mem::replace(&mut state.is_reading, true);
        Ok((receiver, is_first))
    }

    fn stopped(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_reading = false;
        state.all.clear();
    }
}

pub(crate) async fn watch(
    shared: &Arc<Shared>,
    filter: WatchFilter,
) -> Result<BoxStream<'static, Event>, Error> {
    at_most("ids", filter.ids.len(), MAX_ITEMS)?;
    let place = last_entry(shared).await?;
    let told = shared.observe(LOOK).await?;
    let (receiver, is_first) = shared.watchers.add(filter, told)?;
    if is_first {
        let client = Connection::blocking(&shared.settings).await;
        let client = client.inspect_err(|_| shared.watchers.stopped())?;
        tokio::spawn(read(
            Arc::downgrade(shared),
            client,
            Place { last: place, told, caught_up: false },
        ));
    }
    Ok(ReceiverStream::new(receiver).boxed())
}

/// How far a reader is.
struct Place {
    /// The entry of the stream that was read last.
    last: String,
    /// The number of the change that was read last.
    told: u64,
    /// Entries that are older than the reader are behind it.
    caught_up: bool,
}

async fn last_entry(shared: &Shared) -> Result<String, Error> {
    let arguments = vec![
        shared.link.key("ev").into(),
        "+".into(),
        "-".into(),
        "COUNT".into(),
        Value::Integer(1),
    ];
    let entry =
        list(Some(shared.link.command_of("XREVRANGE", arguments).await?)).into_iter().next();
    let id = list(entry).into_iter().next().and_then(|id| id.as_string());
    Ok(id.unwrap_or_else(|| "0".to_owned()))
}

/// Reads as long as somebody looks.
async fn read(shared: std::sync::Weak<Shared>, first: Connection, mut place: Place) {
    let mut client = Some(first);
    let mut renewed = shared.upgrade().map_or(Duration::ZERO, |shared| shared.clock.elapsed());
    loop {
        let Some(shared) = shared.upgrade() else { return };
        if shared.is_closed() {
            shared.watchers.stopped();
            return;
        }
        if !shared.watchers.is_watched() {
            return;
        }
        let now = shared.clock.elapsed();
        if now.saturating_sub(renewed) >= RENEW {
            match shared.observe(LOOK).await {
                Ok(_) => renewed = now,
                Err(error) => tracing::debug!(%error, "scripts were not asked to tell"),
            }
        }
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => Connection::blocking(&shared.settings).await,
        };
        let result = match connected {
            Ok(connected) => {
                let result = tokio::select! {
                    result = some(&shared, &connected, &mut place) => result,
                    () = shared.closed() => continue,
                };
                client = result.is_ok().then_some(connected);
                result
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the reader of events connects anew");
            shared.clock.sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Reads what is there, or waits for it.
async fn some(shared: &Shared, client: &Connection, place: &mut Place) -> Result<(), Error> {
    let millis = i64::try_from(BLOCK.as_millis()).unwrap_or(i64::MAX);
    let arguments: Vec<Value> = vec![
        "COUNT".into(),
        Value::Integer(64),
        "BLOCK".into(),
        Value::Integer(millis),
        "STREAMS".into(),
        shared.link.key("ev").into(),
        place.last.as_str().into(),
    ];
    let command =
        CustomCommand::new_static("XREAD", ClusterHash::Custom(shared.link.slot()), false);
    let answer = client.custom::<Value, Value>(command, arguments);
    let answer = tokio::time::timeout(BLOCK + SILENCE, answer).await;
    let Ok(answer) = answer else {
        return Err(Error::Unavailable {
            problem: "does not answer its observers".to_owned(),
            code: Code::Unavailable,
        });
    };
    let answer = answer.map_err(|error| backend("read events", error))?;
    let Some(stream) = list(Some(answer)).into_iter().next() else { return Ok(()) };
    for entry in list(list(Some(stream)).into_iter().nth(1)) {
        let mut entry = list(Some(entry)).into_iter();
        if let Some(id) = entry.next().and_then(|id| id.as_string()) {
            place.last = id;
        }
        let fields = list(entry.next());
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs
                .find(|pair| pair[0].as_str().is_some_and(|field| field == name))
                .map(|pair| &pair[1])
        };
        let number = |name: &str| field(name).and_then(Value::as_u64).unwrap_or(0);
        let (end, count) = (number("n"), number("c"));
        if end <= place.told && !place.caught_up {
            continue;
        }
        tell(shared, place, end, count, &field("d").cloned().map(bytes).unwrap_or_default());
    }
    Ok(())
}

/// Tells the changes of one entry, and that some are missing before it.
fn tell(shared: &Shared, place: &mut Place, end: u64, count: u64, raw: &[u8]) {
    let begin = end.saturating_sub(count);
    if begin != place.told && place.caught_up {
        // Cut off before it was read, or counted anew after a loss.
        let missed = begin.saturating_sub(place.told).max(1);
        shared.watchers.tell(&Event::Missed(missed), u64::MAX);
    }
    place.caught_up = true;
    place.told = end;
    let mut reader = Reader(raw);
    let mut number = begin;
    while !reader.0.is_empty() {
        number += 1;
        match change(&mut reader) {
            Ok(change) => shared.watchers.tell(&Event::Changed(change), number),
            Err(Damaged) => {
                shared.watchers.tell(&Event::Missed(1), number);
                break;
            }
        }
    }
}

fn change(reader: &mut Reader<'_>) -> Result<Change, Damaged> {
    let from = unpack::state(u64::from(reader.byte()?));
    let to = unpack::state(u64::from(reader.byte()?));
    let at = Timestamp::from_micros(reader.u64()?);
    let attempts = reader.u32()?;
    let id = reader.id()?;
    let queue = reader.text()?;
    let worker = Some(reader.text()?).filter(|worker| !worker.is_empty());
    let error = Some(reader.long()?).filter(|bytes| !bytes.is_empty());
    let error = error.map(unpack::failure).transpose()?;
    Ok(Change { id, queue, from, to, at, worker, error, attempts })
}
