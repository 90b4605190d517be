//! A coordinator behind a Flight port: a client of the JSON actions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error, Event,
    Extended, Extension, Outcome, Page, Query, Recovered, Registered, SettleReply, SettleRequest,
    WatchFilter,
};
use sheaf_flight::{CallOptions, FlightConnection};
use sheaf_retry::{Code, Retryable as _, SharedClock};

use crate::call::{Caller, RpcOptions};
use crate::json::{
    ClaimInput, ClaimOutput, ConfigureInput, ControlOutput, ErrorInput, ExpireInput, ExtendInput,
    ExtendOutput, FenceText, InfoInput, InfoOutput, LineageInput, LineageOutput, ListInput,
    OneOrMany, OutcomeInput, OutputInput, PageOutput, PurgeInput, QueueInput, RecoveryInput,
    RecoveryOutput, RegisteredRecord, SelectInput, SettleInput, SettleOutput, SpecInput,
    StatsInput, StatsOutput, WatchInput, WatchOutput, millis,
};

/// How long one poll for events waits.
const POLL: Duration = Duration::from_secs(20);

/// A [`Coordinator`] through the Flight actions: for where only the Flight
/// port is open, and the proof that any Flight client can do all of it.
///
/// Retries, deadlines and errors are those of
/// [`RpcCoordinator`](crate::RpcCoordinator). Two things are coarser: durations
/// are whole milliseconds (as over gRPC), and times after the year 9999 read
/// as its end. `watch` polls, which costs a request every 20 s of silence.
#[derive(Clone)]
pub struct JsonCoordinator {
    inner: Arc<Inner>,
}

struct Inner {
    connection: FlightConnection,
    caller: Caller,
}

impl JsonCoordinator {
    /// A client of the actions over `connection`, with the retries and
    /// deadlines of `options` in place of the connection's own.
    pub fn new(connection: FlightConnection, options: RpcOptions, clock: SharedClock) -> Self {
        let caller = Caller::new(vec![connection.target().to_string()], options, clock);
        JsonCoordinator { inner: Arc::new(Inner { connection, caller }) }
    }
}

impl fmt::Debug for JsonCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonCoordinator")
            .field("caller", &self.inner.caller)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The error without the name of the server, which the call adds again:
    /// the rest is as the coordinator said it.
    fn unnamed(&self, error: sheaf_flight::Error) -> sheaf_flight::Error {
        let name = format!("{}: ", self.connection.target());
        let Some(text) = error.message().strip_prefix(&name) else { return error };
        let unnamed = sheaf_flight::Error::new(error.code(), text);
        match error.retry_after() {
            Some(after) => unnamed.with_retry_after(after),
            None => unnamed,
        }
    }

    async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        action: &'static str,
        wait: Duration,
        input: &I,
    ) -> Result<O, Error> {
        let body = serde_json::to_vec(input).map_err(|error| Error::Backend {
            operation: format!("write the request of {action}"),
            code: Code::Internal,
            source: Some(Box::new(error)),
        })?;
        let body = Bytes::from(body);
        let call = |deadline| {
            let body = body.clone();
            async move {
                let options = CallOptions::default().deadline(deadline);
                let results = self.connection.action(action, body, &options).await;
                let results = results.map_err(|error| self.unnamed(error))?;
                let reply = results.first().map_or(&[][..], |reply| reply);
                serde_json::from_slice(reply).map_err(|error| {
                    let problem = format!("the answer of {action} cannot be read: {error}");
                    sheaf_flight::Error::new(Code::Internal, problem)
                })
            }
        };
        self.caller.call(action, wait, call).await
    }
}

#[derive(Serialize)]
struct Batches {
    batches: Vec<SpecInput>,
}

#[derive(Deserialize)]
struct RegisteredBatches {
    batches: Vec<RegisteredRecord>,
}

fn outcome(outcome: Outcome) -> OutcomeInput {
    OutcomeInput {
        batch_id: outcome.lease.id,
        fence: FenceText(outcome.lease.fence),
        result: outcome.resolution,
        permanent: outcome.error.as_ref().is_some_and(|error| error.permanent),
        error: outcome.error.map(ErrorInput::from),
        outputs: outcome.outputs.into_iter().map(|spec| OutputInput(spec.into())).collect(),
        delay_ms: u64::try_from(outcome.delay.as_millis()).unwrap_or(u64::MAX),
    }
}

#[async_trait]
impl Coordinator for JsonCoordinator {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        let input = Batches { batches: specs.into_iter().map(SpecInput::from).collect() };
        let output: RegisteredBatches =
            self.inner.call("RegisterBatch", Duration::ZERO, &input).await?;
        Ok(output.batches.into_iter().map(Registered::from).collect())
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        let wait = request.wait;
        let input = ClaimInput::from(request);
        let output: ClaimOutput = self.inner.call("Claim", wait, &input).await?;
        Ok(output.into())
    }

    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        let wait = request.claim.as_ref().map_or(Duration::ZERO, |claim| claim.wait);
        let input = SettleInput {
            outcomes: request.outcomes.into_iter().map(outcome).collect(),
            started: request.started.into_iter().map(Into::into).collect(),
            claim: request.claim.map(ClaimInput::from),
        };
        let output: SettleOutput = self.inner.call("Settle", wait, &input).await?;
        Ok(output.into())
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        let input = ExtendInput { leases: leases.into_iter().map(Into::into).collect() };
        let output: ExtendOutput = self.inner.call("Extend", Duration::ZERO, &input).await?;
        Ok(output.leases.into_iter().map(Extended::from).collect())
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        let inner = &self.inner;
        match query {
            Query::Get(ids) => {
                let input = SelectInput { batch_ids: Some(ids), ..SelectInput::default() };
                inner.call("GetBatch", Duration::ZERO, &input).await.map(page)
            }
            Query::List(filter) => {
                let input = ListInput::from(filter);
                inner.call("ListBatches", Duration::ZERO, &input).await.map(page)
            }
            Query::Stats(queue) => {
                let input = StatsInput { queue };
                let output: StatsOutput = inner.call("Stats", Duration::ZERO, &input).await?;
                Ok(Answer::Stats(output.into()))
            }
            Query::Lineage(query) => {
                let input = LineageInput::from(query);
                let output: LineageOutput = inner.call("Lineage", Duration::ZERO, &input).await?;
                Ok(Answer::Lineage(output.into()))
            }
            Query::History => {
                let output: InfoOutput =
                    inner.call("CoordinatorInfo", Duration::ZERO, &InfoInput {}).await?;
                Ok(Answer::History(output.into()))
            }
            Query::Recovery(leases) => {
                let leases = leases.into_iter().map(Into::into).collect();
                let input = RecoveryInput { leases };
                let output: RecoveryOutput = inner.call("Recovery", Duration::ZERO, &input).await?;
                let list = output.leases.into_iter().map(Recovered::from).collect();
                Ok(Answer::Recovery(list))
            }
        }
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        let inner = &self.inner;
        let select = |ids| SelectInput { batch_ids: Some(ids), ..SelectInput::default() };
        let zero = Duration::ZERO;
        let output: ControlOutput = match control {
            Control::Pause(queue) => inner.call("PauseQueue", zero, &QueueInput { queue }).await?,
            Control::Resume(queue) => {
                inner.call("ResumeQueue", zero, &QueueInput { queue }).await?
            }
            Control::Drain(queue) => inner.call("DrainQueue", zero, &QueueInput { queue }).await?,
            Control::Configure(queue, policy) => {
                let input = ConfigureInput::new(queue, policy);
                inner.call("ConfigureQueue", zero, &input).await?
            }
            Control::Cancel(ids) => inner.call("CancelBatch", zero, &select(ids)).await?,
            Control::Requeue(ids) => inner.call("RequeueBatch", zero, &select(ids)).await?,
            Control::RequeueFailed(queue) => {
                let input = SelectInput { queue: Some(queue), ..SelectInput::default() };
                inner.call("RequeueBatch", zero, &input).await?
            }
            Control::Purge(filter) => {
                inner.call("PurgeBatches", zero, &PurgeInput::from(filter)).await?
            }
            Control::Expire(age) => {
                let input = ExpireInput { older_than_ms: millis(age) };
                inner.call("ExpireBatches", zero, &input).await?
            }
        };
        Ok(output.into())
    }

    /// Events from the moment of the answer on.
    ///
    /// A reply that is lost is asked for again. After a restart of the server
    /// the stream goes on with [`Event::Missed`] of 1, which stands for what
    /// happened in between and nobody counted. It ends when the server cannot
    /// be reached with all the retries of the client's policy.
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        let mut watch = Watch { inner: Arc::clone(&self.inner), filter, session: None, seen: None };
        let first = watch.poll(Duration::ZERO).await?;
        let pages = stream::unfold(watch, |mut watch| async move {
            watch.next().await.map(|events| (events, watch))
        });
        Ok(stream::iter(first).chain(pages.flat_map(stream::iter)).boxed())
    }
}

fn page(output: PageOutput) -> Answer {
    Answer::Batches(Page {
        batches: output.batches.into_iter().map(Into::into).collect(),
        next_cursor: output.next_cursor.unwrap_or_default(),
    })
}

struct Watch {
    inner: Arc<Inner>,
    filter: WatchFilter,
    session: Option<String>,
    seen: Option<u64>,
}

impl Watch {
    async fn next(&mut self) -> Option<Vec<Event>> {
        let problem = match self.poll(POLL).await {
            Ok(events) => return Some(events),
            Err(error) => error,
        };
        tracing::info!(%problem, "watch broken, watching again");
        (self.session, self.seen) = (None, None);
        match self.poll(Duration::ZERO).await {
            Ok(events) => Some([vec![Event::Missed(1)], events].concat()),
            Err(error) => {
                tracing::warn!(%error, "watch ended");
                None
            }
        }
    }

    async fn poll(&mut self, wait: Duration) -> Result<Vec<Event>, Error> {
        let begins = self.session.is_none();
        let input = WatchInput {
            session: self.session.clone(),
            seen: self.seen,
            queue: self.filter.queue.clone().filter(|_| begins),
            batch_ids: if begins { self.filter.ids.clone() } else { Vec::new() },
            state: OneOrMany(if begins { self.filter.states.clone() } else { Vec::new() }),
            max: 0,
            wait_ms: millis(wait),
        };
        let output: WatchOutput = self.inner.call("WatchEvents", wait, &input).await?;
        (self.session, self.seen) = (Some(output.session), Some(output.number));
        let missed = (output.missed > 0).then_some(Event::Missed(output.missed));
        Ok(missed.into_iter().chain(output.events.into_iter().map(Event::from)).collect())
    }
}
