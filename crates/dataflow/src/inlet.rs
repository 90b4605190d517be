//! What a component reads: its streams, and what of them is acknowledged.

mod place;
mod reader;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use place::Place;
use reader::Reader;
pub(crate) use reader::{Arrived, Common, Held, Item, ROOM_UNIT};
use sheaf_coordinator::LeaseRef;
use sheaf_proto::TraceContext;
use sheaf_retry::{Code, SharedClock};

use crate::assignment::Assignment;
use crate::component::Received;
use crate::durable::{self, Link, Queue, QueueReader, Settler};
use crate::error::ComponentError;

/// Items between readers and the loop, whatever credits say.
const MAX_ITEMS: usize = 4_096;
/// Items that the loop takes at once.
const AT_ONCE: usize = 64;
/// How long senders may take to hear the last word.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The permits of the room for what came in.
pub(crate) fn room_units(bytes: u64) -> u32 {
    u32::try_from(bytes / ROOM_UNIT).unwrap_or(u32::MAX).clamp(1, 1 << 28)
}

/// A batch that was given to the component.
struct Given {
    place: usize,
    epoch: u64,
    sequence: u64,
    lease: Option<LeaseRef>,
}

/// What those of its streams need that come over durable edges.
pub(crate) struct Durable {
    pub(crate) link: Arc<Link>,
    /// Completes what is done with; `None` where the loop does that by steps.
    pub(crate) settler: Option<Arc<Settler>>,
    /// How many instances of this reader there are.
    pub(crate) replicas: u32,
}

/// All streams that are read. Only the component's loop has it.
pub(crate) struct Inlets {
    pub(crate) places: Vec<Arc<Place>>,
    items: mpsc::Receiver<Item>,
    taken: VecDeque<Item>,
    ended: Vec<bool>,
    /// In the order in which they were given, those that are not acknowledged.
    given: VecDeque<Given>,
    count: u64,
    acknowledged: u64,
    common: Arc<Common>,
    readers: JoinSet<()>,
    durable: Option<Durable>,
    /// Ends of streams over durable edges, which are held.
    ends: Vec<LeaseRef>,
}

/// A batch for the component.
pub(crate) struct Handed {
    pub(crate) received: Received,
    /// Which of the places it came over.
    pub(crate) place: usize,
    /// What it goes on with.
    pub(crate) trace: Option<TraceContext>,
}

/// What comes next.
pub(crate) enum Next {
    Batch(Handed),
    /// This stream has ended, and everything that came of it was given; others go on.
    StreamEnded {
        from: Arc<str>,
        from_instance: u32,
    },
    /// All streams have ended, and everything that came was given.
    Ended,
    /// Nothing has come yet.
    Nothing,
}

/// The streams that end at the place of this assignment.
pub(crate) fn places(assignment: &Assignment) -> Vec<Arc<Place>> {
    let mut places = Vec::new();
    for input in &assignment.inputs {
        let (edge, from): (Arc<str>, Arc<str>) =
            (input.edge.id.as_str().into(), input.edge.from.as_str().into());
        let queue = input.edge.durable.then(|| {
            let name = durable::queue_name(&assignment.pipeline, &edge, assignment.index);
            // Who reads does not fill it.
            Queue::new(name, u64::MAX, u64::MAX)
        });
        for peer in &input.from {
            let is_meant = |one: &sheaf_pipeline::plan::Stream| {
                (one.from, one.to) == (peer.index, assignment.index)
            };
            if input.edge.streams.iter().any(is_meant) {
                let sender = (peer.place.clone(), peer.index);
                let (edge, from) = (Arc::clone(&edge), Arc::clone(&from));
                let credits = input.edge.credits;
                let (to, queue) = (assignment.index, queue.clone());
                places.push(Arc::new(Place::new(edge, from, sender, to, credits, queue)));
            }
        }
    }
    places
}

impl Inlets {
    /// Begins to read.
    pub(crate) fn start(
        places: Vec<Arc<Place>>,
        credits: u64,
        common: Common,
        durable: Option<Durable>,
    ) -> Self {
        let capacity = usize::try_from(credits).unwrap_or(MAX_ITEMS).clamp(1, MAX_ITEMS);
        let (sender, items) = mpsc::channel(capacity);
        let common = Arc::new(common);
        let mut readers = JoinSet::new();
        for (index, place) in places.iter().enumerate().filter(|(_, place)| place.queue.is_none()) {
            let (place, common, items) = (Arc::clone(place), Arc::clone(&common), sender.clone());
            readers.spawn(Reader { index, place, common, items }.run());
        }
        if let Some(durable) = &durable {
            for (queue, places) in by_queue(&places) {
                let (link, common) = (Arc::clone(&durable.link), Arc::clone(&common));
                let items = sender.clone();
                let credits = places.iter().map(|(_, place)| place.credits()).sum();
                let index = places.first().map_or(0, |(_, place)| place.to);
                let replicas = durable.replicas;
                let reader =
                    QueueReader { link, queue, places, credits, index, replicas, common, items };
                readers.spawn(reader.run());
            }
        }
        let (taken, given, ended) = (VecDeque::new(), VecDeque::new(), vec![false; places.len()]);
        Inlets {
            places,
            items,
            taken,
            ended,
            given,
            count: 0,
            acknowledged: 0,
            common,
            readers,
            durable,
            ends: Vec::new(),
        }
    }

    /// Waits until something has come. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        if !self.taken.is_empty() || self.have_ended() {
            return;
        }
        if let Some(item) = self.items.recv().await {
            self.taken.push_back(item);
        } else {
            // All readers are over; what they had to say was taken.
            std::future::pending::<()>().await;
        }
    }

    /// What is there to be given next; waits for nothing.
    pub(crate) fn next(&mut self) -> Result<Next, ComponentError> {
        loop {
            if self.taken.is_empty() {
                while self.taken.len() < AT_ONCE
                    && let Ok(item) = self.items.try_recv()
                {
                    self.taken.push_back(item);
                }
            }
            match self.taken.pop_front() {
                Some(Item::Batch(arrived)) => return Ok(Next::Batch(self.give(arrived))),
                Some(Item::End { place, lease }) => {
                    self.ends.extend(lease);
                    let had_ended = std::mem::replace(&mut self.ended[place], true);
                    if !had_ended && !self.have_ended() {
                        let (from, from_instance) = self.places[place].stream();
                        return Ok(Next::StreamEnded { from, from_instance });
                    }
                }
                Some(Item::Failed(error)) => return Err(error),
                None if self.have_ended() => return Ok(Next::Ended),
                None => return Ok(Next::Nothing),
            }
        }
    }

    /// The streams, each a component and its instance.
    pub(crate) fn streams(&self) -> Vec<(Arc<str>, u32)> {
        self.places.iter().map(|place| place.stream()).collect()
    }

    fn have_ended(&self) -> bool {
        self.ended.iter().all(|ended| *ended)
    }

    fn give(&mut self, arrived: Arrived) -> Handed {
        let Arrived { place, epoch, received, trace, held, .. } = arrived;
        self.places[place].handed();
        let lease = held.map(|held| held.lease);
        self.given.push_back(Given { place, epoch, sequence: received.sequence, lease });
        self.count += 1;
        Handed { received, place, trace }
    }

    /// The edge that a batch came over.
    pub(crate) fn edge(&self, handed: &Handed) -> &str {
        &self.places[handed.place].edge
    }

    /// How many batches were given.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// So many of the batches that were given are done with, further down too.
    pub(crate) fn acknowledge(&mut self, done: u64) {
        let leases = self.take(done);
        let settler = self.durable.as_ref().and_then(|durable| durable.settler.as_ref());
        if let Some(settler) = settler {
            leases.into_iter().for_each(|lease| settler.complete(lease));
        }
    }

    /// Waits where much is written of which the coordinator does not know yet.
    pub(crate) async fn room(&self) {
        let settler = self.durable.as_ref().and_then(|durable| durable.settler.as_ref());
        if let Some(settler) = settler {
            settler.room().await;
        }
    }

    /// So many are done with: gives the leases of those that are still to be completed.
    pub(crate) fn take(&mut self, done: u64) -> Vec<LeaseRef> {
        let mut leases = Vec::new();
        while self.acknowledged < done
            && let Some(given) = self.given.pop_front()
        {
            self.acknowledged += 1;
            leases.extend(given.lease);
            // Of batches in a row of one stream the last is enough.
            let is_last = self.acknowledged == done
                || self.given.front().is_none_or(|next| next.place != given.place);
            if is_last {
                self.places[given.place].acknowledge(given.epoch, given.sequence);
            }
        }
        leases
    }

    /// The ends of streams that are held, once all have come.
    pub(crate) fn take_ends(&mut self) -> Vec<LeaseRef> {
        std::mem::take(&mut self.ends)
    }

    /// The component cannot take this batch. Where it came over a durable edge it is tried
    /// again after a while, by another process, and fails for good after some attempts: the
    /// others go on.
    pub(crate) async fn failed(
        &self,
        received: &Received,
        error: ComponentError,
    ) -> ComponentError {
        let (Some(durable), Some(lease)) = (&self.durable, &received.lease) else { return error };
        let text = error.chain();
        if !durable.link.failed_named(lease, &text).await {
            return error;
        }
        let text = format!("batch {} failed: {text}", lease.id);
        ComponentError::new(Code::ProcessorFailed, text)
    }

    /// Everything that came, and the end, is done with: tells all senders, and waits until they
    /// have heard it. What comes meanwhile of a sender that was started again came before.
    ///
    /// # Errors
    /// Where the ends of durable edges cannot be completed.
    pub(crate) async fn finish(mut self, clock: &SharedClock) -> Result<(), ComponentError> {
        let told = async {
            self.places.iter().for_each(|place| place.acknowledge_all());
            loop {
                match self.items.recv().await {
                    Some(Item::Batch(arrived)) => {
                        let place = &self.places[arrived.place];
                        place.handed();
                        place.acknowledge(arrived.epoch, arrived.received.sequence);
                    }
                    Some(Item::End { place, .. }) => self.places[place].acknowledge_all(),
                    Some(Item::Failed(_)) => {}
                    // The readers are over.
                    None => return,
                }
            }
        };
        tokio::select! {
            biased;
            () = told => {}
            () = clock.sleep(LAST_WORD) => {
                tracing::warn!("not all senders have heard that the last of their batches are done with");
            }
        }
        // All that was given is done with.
        self.acknowledge(self.count);
        let settler = self.durable.as_ref().and_then(|durable| durable.settler.as_ref());
        match settler {
            Some(settler) => settler.finish(std::mem::take(&mut self.ends)).await,
            None => Ok(()),
        }
    }

    /// Reads nothing more; what came already is still to be given.
    pub(crate) fn quit(&self) {
        self.common.quit.cancel();
    }

    /// After [`Inlets::quit`]: tells all senders what is acknowledged, and waits until they
    /// have heard it. What was given and is not acknowledged, they send again.
    pub(crate) async fn close(mut self, clock: &SharedClock) {
        self.items.close();
        self.places.iter().for_each(|place| place.close());
        let over = async { while self.readers.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = over => {}
            () = clock.sleep(LAST_WORD) => {}
        }
        let Some(Durable { link, settler, .. }) = &self.durable else { return };
        let given_back = async {
            if let Some(settler) = settler {
                settler.settled().await;
            }
            link.release_all().await;
        };
        tokio::select! {
            biased;
            () = given_back => {}
            // The next process in this place takes them over.
            () = clock.sleep(LAST_WORD) => {}
        }
    }
}

/// Streams, each with its number among all of a component.
type Numbered = Vec<(usize, Arc<Place>)>;

/// The streams over durable edges, by the queue that they come from.
fn by_queue(places: &[Arc<Place>]) -> Vec<(Arc<Queue>, Numbered)> {
    let mut queues: Vec<(Arc<Queue>, Numbered)> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let Some(queue) = &place.queue else { continue };
        let one = (index, Arc::clone(place));
        match queues.iter_mut().find(|(other, _)| Arc::ptr_eq(other, queue)) {
            Some((_, places)) => places.push(one),
            None => queues.push((Arc::clone(queue), vec![one])),
        }
    }
    queues
}
