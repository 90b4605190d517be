//! What both interfaces do about the payloads of batches: completes what a
//! client left out, refuses what nobody holds, keeps what is needed again.

use sheaf_coordinator::{
    Batch, BatchSpec, Control, Coordinator, CoordinatorExt as _, ListFilter, Position, Registered,
    SettleReply, SettleRequest, Settled, State, Verdict,
};
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use crate::json::SpecInput;
use crate::{PayloadDirectory, PayloadFacts};

/// Most payloads that are looked up at once.
const PAGE: u32 = 1_000;

/// A coordinator and, where there is one, the directory beside it.
#[derive(Clone, Copy)]
pub(crate) struct Payloads<'a> {
    pub(crate) coordinator: &'a dyn Coordinator,
    pub(crate) directory: Option<&'a dyn PayloadDirectory>,
    /// There is no store beside the coordinator either: an empty list of
    /// locations names no place.
    pub(crate) is_bare: bool,
}

impl Payloads<'_> {
    /// The specifications, with location, rows, bytes, checksum and
    /// fingerprint from the directory where nothing was said.
    ///
    /// `name(i)` is how the request names the i-th of them.
    pub(crate) async fn resolve(
        &self,
        action: &str,
        inputs: Vec<SpecInput>,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<BatchSpec>, Error> {
        let facts = self.facts(&inputs).await?;
        let mut specs = Vec::with_capacity(inputs.len());
        for (index, (input, facts)) in inputs.into_iter().zip(facts).enumerate() {
            let wrong = |problem: String| match name(index).as_str() {
                "" => invalid(action, &problem),
                path => invalid(action, &format!("{path}.{problem}")),
            };
            if input.location.is_some() && input.locations.is_some() {
                return Err(wrong("location: give it or locations, not both".to_owned()));
            }
            match facts {
                Some(facts) => {
                    contradiction(&input, &facts).map_or(Ok(()), |problem| Err(wrong(problem)))?;
                    specs.push(with_truth(input, &facts));
                }
                None if self.directory.is_some() && !says_where(&input) => {
                    let id = &input.batch_id;
                    return Err(Error::new(
                        Code::NotFound,
                        format!(
                            "{action}: batch {id} has no payload on this server; put it first (DoPut to [\"batches\", {:?}]), or name its location",
                            id.as_str()
                        ),
                    ));
                }
                None => {
                    let missing = missing(&input, self.is_bare);
                    if !missing.is_empty() {
                        return Err(wrong(format!(
                            "{}: required, for this server does not hold the payload",
                            missing.join(", ")
                        )));
                    }
                    specs.push(input.resolve(&PayloadFacts::default()));
                }
            }
        }
        Ok(specs)
    }

    /// What is known of each payload, by the directory or, for a registration
    /// that is sent again after its payload has gone, by the coordinator.
    async fn facts(&self, inputs: &[SpecInput]) -> Result<Vec<Option<PayloadFacts>>, Error> {
        let Some(directory) = self.directory else {
            return Ok(vec![None; inputs.len()]);
        };
        let ids: Vec<BatchId> = inputs.iter().map(|input| input.batch_id.clone()).collect();
        let mut facts = directory.lookup(&ids).await;
        // An implementation that answers for fewer than were asked is taken at its word.
        facts.resize(ids.len(), None);
        let unknown: Vec<BatchId> = facts
            .iter()
            .zip(inputs)
            .filter(|(facts, input)| facts.is_none() && !says_where(input))
            .map(|(_, input)| input.batch_id.clone())
            .collect();
        if unknown.is_empty() {
            return Ok(facts);
        }
        let known = self.coordinator.get_all(unknown).await.map_err(Error::from_error)?;
        for batch in known {
            let known = facts_of(&batch.spec);
            for (index, _) in ids.iter().enumerate().filter(|(_, id)| **id == batch.spec.id) {
                facts[index].get_or_insert_with(|| known.clone());
            }
        }
        Ok(facts)
    }

    /// Registers them, and tells the directory.
    pub(crate) async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        let Some(directory) = self.directory else {
            return self.coordinator.register(specs).await.map_err(Error::from_error);
        };
        let registered = self.coordinator.register(specs.clone()).await;
        let registered = registered.map_err(Error::from_error)?;
        directory.registered(specs.into_iter().zip(registered.clone()).collect()).await;
        Ok(registered)
    }

    /// Settles, and tells the directory what was registered by it.
    pub(crate) async fn settle(
        &self,
        request: SettleRequest,
    ) -> Result<SettleReply, sheaf_coordinator::Error> {
        let Some(directory) = self.directory else { return self.coordinator.settle(request).await };
        let outputs: Vec<_> =
            request.outcomes.iter().map(|outcome| outcome.outputs.clone()).collect();
        let reply = self.coordinator.settle(request).await?;
        let done =
            |settled: &Settled| matches!(settled.verdict, Verdict::Applied | Verdict::AlreadyDone);
        let made = outputs.into_iter().zip(&reply.outcomes).filter(|(_, settled)| done(settled));
        let made: Vec<BatchId> =
            made.flat_map(|(outputs, _)| outputs).map(|output| output.id).collect();
        if !made.is_empty()
            // What cannot be asked now is found when store and coordinator are compared.
            && let Ok(known) = self.coordinator.get_all(made).await
        {
            directory.registered(known.into_iter().map(as_registered).collect()).await;
        }
        Ok(reply)
    }

    /// Counts as a use of these payloads: none expires before the change is
    /// made for which they are needed. What the directory does not hold, it
    /// passes over.
    pub(crate) async fn renew(&self, ids: &[BatchId]) {
        let Some(directory) = self.directory else { return };
        for page in ids.chunks(PAGE as usize) {
            directory.lookup(page).await;
        }
    }

    /// As [`Payloads::renew`], for every failed batch of a queue.
    async fn renew_failed(&self, queue: &str) -> Result<(), Error> {
        if self.directory.is_none() {
            return Ok(());
        }
        let mut filter = ListFilter {
            states: vec![State::Failed],
            queue: Some(queue.to_owned()),
            limit: PAGE,
            ..ListFilter::default()
        };
        loop {
            let page = self.coordinator.list(filter.clone()).await.map_err(Error::from_error)?;
            let ids: Vec<BatchId> = page.batches.into_iter().map(|batch| batch.spec.id).collect();
            self.renew(&ids).await;
            if page.next_cursor.is_empty() {
                return Ok(());
            }
            filter.cursor = page.next_cursor;
        }
    }

    /// Does for a control what [`Payloads::renew`] is for.
    pub(crate) async fn before(&self, control: &Control) -> Result<(), Error> {
        match control {
            Control::Requeue(ids) => self.renew(ids).await,
            Control::RequeueFailed(queue) => self.renew_failed(queue).await?,
            _ => {}
        }
        Ok(())
    }
}

/// A batch that is known under its own name; where it stands is not asked.
fn as_registered(batch: Batch) -> (BatchSpec, Registered) {
    let (id, position) = (batch.spec.id.clone(), Position::UNKNOWN);
    (batch.spec, Registered { id, state: batch.state, created: false, position })
}

fn invalid(action: &str, problem: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("{action}: {problem}"))
}

fn facts_of(spec: &BatchSpec) -> PayloadFacts {
    PayloadFacts {
        locations: spec.locations.clone(),
        rows: spec.rows,
        bytes: spec.bytes,
        checksum: spec.checksum.clone(),
        schema_fingerprint: spec.schema_fingerprint.clone(),
    }
}

/// Whether the client names an address of the payload.
fn says_where(input: &SpecInput) -> bool {
    input.location.is_some() || input.locations.as_ref().is_some_and(|list| !list.is_empty())
}

/// What has to be said where no directory can fill it in.
fn missing(input: &SpecInput, is_bare: bool) -> Vec<&'static str> {
    let said = [
        ("location", says_where(input) || (!is_bare && input.locations.is_some())),
        ("rows", input.rows.is_some()),
        ("bytes", input.bytes.is_some()),
    ];
    said.into_iter().filter(|(_, said)| !said).map(|(field, _)| field).collect()
}

/// Something said about the payload that is not so; 0 and "" say nothing.
fn contradiction(input: &SpecInput, facts: &PayloadFacts) -> Option<String> {
    let id = &input.batch_id;
    let number = |field: &str, said: Option<u64>, actual: u64| {
        let said = said.filter(|said| *said != 0 && *said != actual)?;
        Some(format!("{field}: {said}, but the payload of batch {id} has {actual}"))
    };
    let text = |field: &str, said: &Option<String>, actual: &str| {
        let said = said.as_ref().filter(|said| !said.is_empty() && said.as_str() != actual)?;
        Some(format!("{field}: {said:?}, but that of the payload of batch {id} is {actual:?}"))
    };
    number("rows", input.rows, facts.rows)
        .or_else(|| number("bytes", input.bytes, facts.bytes))
        .or_else(|| text("checksum", &input.checksum, &facts.checksum))
        .or_else(|| text("fingerprint", &input.fingerprint, &facts.schema_fingerprint))
}

/// The specification with the facts in it, and the client's own addresses if it gave any.
fn with_truth(mut input: SpecInput, facts: &PayloadFacts) -> BatchSpec {
    (input.rows, input.bytes, input.checksum, input.fingerprint) = (None, None, None, None);
    input.locations = input.locations.filter(|list| !list.is_empty());
    input.resolve(facts)
}
