//! Watching by polling: a session holds the events between two calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use sheaf_coordinator::limits::MAX_WAIT;
use sheaf_coordinator::{Coordinator, Event};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, SharedClock};

use super::body::{bounded, invalid};
use crate::json::{ChangeRecord, WatchInput, WatchOutput};

/// Most sessions at a time.
const MAX_SESSIONS: usize = 256;

/// A session that nobody asked for so long is ended.
const IDLE: Duration = Duration::from_secs(120);

/// The default and the largest number of events of one reply.
const PAGE: (u32, u32) = (1_000, 10_000);

struct Events {
    stream: BoxStream<'static, Event>,
    /// Missed events that stand before the next one.
    missed: u64,
    ended: bool,
    /// The last reply, until the reader says that it has seen it.
    last: Option<Page>,
}

#[derive(Clone)]
struct Page {
    number: u64,
    events: Vec<ChangeRecord>,
    missed: u64,
}

struct Session {
    events: tokio::sync::Mutex<Events>,
    used_at: Mutex<Duration>,
}

/// All sessions of a server.
pub(super) struct Watches {
    clock: SharedClock,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

impl Watches {
    pub(super) fn new(clock: SharedClock) -> Self {
        Watches { clock, sessions: Mutex::new(HashMap::new()) }
    }

    /// Begins a session, or returns the next events of one.
    pub(super) async fn call(
        &self,
        action: &str,
        coordinator: &dyn Coordinator,
        input: WatchInput,
    ) -> Result<WatchOutput, Error> {
        bounded(action, "batch_ids", &input.batch_ids)?;
        bounded(action, "state", &input.state.0)?;
        let wait = Duration::from_millis(input.wait_ms);
        if wait > MAX_WAIT {
            let limit = MAX_WAIT.as_millis();
            let problem = format!("wait_ms: {} is over the limit of {limit}", input.wait_ms);
            return Err(invalid(action, &problem));
        }
        let max = match input.max {
            0 => PAGE.0,
            max if max <= PAGE.1 => max,
            max => {
                let problem = format!("max: {max} is over the limit of {}", PAGE.1);
                return Err(invalid(action, &problem));
            }
        };
        let (name, session) = match &input.session {
            Some(_) if input.has_filter() => {
                let problem = "session: a session keeps the filter that it began with; leave out queue, batch_ids and state";
                return Err(invalid(action, problem));
            }
            Some(name) => (name.clone(), self.find(name)?),
            None => self.begin(coordinator, &input).await?,
        };
        self.touch(&session);
        let mut events = session.events.lock().await;
        let page = match events.last.take() {
            // The reply was lost: the same again.
            Some(last) if input.seen.is_some_and(|seen| seen < last.number) => last,
            last => {
                let number = last.as_ref().map_or(1, |last| last.number + 1);
                events.last = last;
                let (list, missed) = self.page(&mut events, wait, max).await;
                Page { number, events: list, missed }
            }
        };
        self.touch(&session);
        if events.ended && page.events.is_empty() {
            self.lock().remove(&name);
            let problem = "the coordinator is closed and sends no more events";
            return Err(Error::new(Code::Draining, problem));
        }
        events.last = Some(page.clone());
        let Page { number, events, missed } = page;
        Ok(WatchOutput { session: name, number, events, missed })
    }

    async fn begin(
        &self,
        coordinator: &dyn Coordinator,
        input: &WatchInput,
    ) -> Result<(String, Arc<Session>), Error> {
        self.make_room(&mut self.lock())?;
        let stream = coordinator.watch(input.filter()).await.map_err(Error::from_error)?;
        let session = Arc::new(Session {
            events: tokio::sync::Mutex::new(Events { stream, missed: 0, ended: false, last: None }),
            used_at: Mutex::new(self.clock.elapsed()),
        });
        let name = BatchId::generate(self.clock.now().as_millis()).as_str().to_owned();
        let mut sessions = self.lock();
        // Others may have begun theirs in the meantime.
        self.make_room(&mut sessions)?;
        sessions.insert(name.clone(), Arc::clone(&session));
        Ok((name, session))
    }

    /// Ends idle sessions; there is then room for one more.
    fn make_room(&self, sessions: &mut HashMap<String, Arc<Session>>) -> Result<(), Error> {
        let now = self.clock.elapsed();
        // One that is being read is held by its call as well.
        sessions.retain(|_, session| {
            Arc::strong_count(session) > 1 || now.saturating_sub(used_at(session)) < IDLE
        });
        if sessions.len() < MAX_SESSIONS {
            return Ok(());
        }
        let problem =
            format!("{MAX_SESSIONS} watches are the limit; wait for one that nobody reads to end");
        Err(Error::new(Code::Overloaded, problem).with_retry_after(IDLE))
    }

    fn find(&self, name: &str) -> Result<Arc<Session>, Error> {
        self.lock().get(name).cloned().ok_or_else(|| {
            let idle = IDLE.as_secs();
            Error::new(
                Code::NotFound,
                format!("no watch session {name:?}: nobody asked for {idle} s, or the server was restarted; begin a new one"),
            )
        })
    }

    /// Waits for the first event, takes what else is there. Nothing is lost
    /// when the caller goes away while it waits.
    async fn page(
        &self,
        events: &mut Events,
        wait: Duration,
        max: u32,
    ) -> (Vec<ChangeRecord>, u64) {
        let mut list = Vec::new();
        // A gap is worth an answer at once.
        let wait = if events.missed > 0 { Duration::ZERO } else { wait };
        let first = tokio::select! {
            biased;
            event = events.stream.next() => Some(event),
            () = self.clock.sleep(wait) => None,
        };
        let mut next = first;
        while let Some(event) = next {
            match event {
                None => events.ended = true,
                Some(Event::Missed(count)) => {
                    events.missed = events.missed.saturating_add(count);
                    // The gap is told before what comes after it, in the next reply.
                    if !list.is_empty() {
                        return (list, 0);
                    }
                }
                Some(Event::Changed(change)) => list.push(ChangeRecord::from(change)),
            }
            if events.ended || list.len() >= max as usize {
                break;
            }
            next = events.stream.next().now_or_never();
        }
        (list, std::mem::take(&mut events.missed))
    }

    fn touch(&self, session: &Session) {
        let now = self.clock.elapsed();
        *session.used_at.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        // Nothing panics while it is held; the map is whole in any case.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn used_at(session: &Session) -> Duration {
    *session.used_at.lock().unwrap_or_else(PoisonError::into_inner)
}
