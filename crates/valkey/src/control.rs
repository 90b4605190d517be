//! Changes by hand.

use std::time::Duration;

use bytes::Bytes;
use sheaf_coordinator::limits::{self, MAX_ITEMS, at_most};
use sheaf_coordinator::{Control, ControlReply, Error, PurgeFilter, State, Verdict};
use sheaf_proto::BatchId;

use crate::coordinator::Shared;
use crate::error::unexpected;
use crate::pack;
use crate::work::{list, number, settled};

/// Batches that one call changes: about a millisecond of the server's time.
const PER_CALL: usize = 24;

fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

impl Shared {
    pub(crate) async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        match control {
            Control::Pause(name) => self.switch("pause", &name, None).await,
            Control::Resume(name) => self.switch("resume", &name, None).await,
            Control::Drain(name) => self.switch("drain", &name, None).await,
            Control::Configure(name, policy) => {
                limits::policy(&policy)?;
                self.switch("configure", &name, Some(pack::queue_policy(&policy))).await
            }
            Control::Cancel(ids) => self.each("cancel", &ids).await,
            Control::Requeue(ids) => self.each("requeue", &ids).await,
            Control::RequeueFailed(name) => {
                self.sweep_all("requeue", Some(limits::queue(&name)?), 0, Duration::ZERO).await
            }
            Control::Purge(filter) => self.purge(&filter).await,
            Control::Expire(age) => self.sweep_all("expire", None, 0, age).await,
        }
    }

    async fn switch(
        &self,
        what: &'static str,
        name: &str,
        policy: Option<Bytes>,
    ) -> Result<ControlReply, Error> {
        let name = limits::queue(name)?.to_owned();
        let mut arguments = vec![word(what), Bytes::from(name)];
        arguments.extend(policy);
        let answer = self.link.call(&self.link.library().control, arguments, true).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
        self.noted(&mut answer);
        Ok(ControlReply::default())
    }

    async fn each(&self, what: &'static str, ids: &[BatchId]) -> Result<ControlReply, Error> {
        at_most("ids", ids.len(), MAX_ITEMS)?;
        let mut reply = ControlReply::default();
        for part in ids.chunks(PER_CALL) {
            let mut arguments = vec![word(what)];
            arguments.extend(part.iter().map(|id| Bytes::from(id.as_str().to_owned())));
            let answer = self.link.call(&self.link.library().control, arguments, true).await?;
            let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
            self.noted(&mut answer);
            reply.batches.extend(settled(part.iter(), &list(answer.next()))?);
        }
        let applied = reply.batches.iter().filter(|one| one.verdict == Verdict::Applied);
        reply.count = applied.count() as u64;
        Ok(reply)
    }

    async fn purge(&self, filter: &PurgeFilter) -> Result<ControlReply, Error> {
        if let Some(state) = filter.states.iter().find(|state| !state.is_terminal()) {
            let problem = format!("{state} is not terminal; only terminal batches go");
            return Err(Error::Invalid { field: "states", problem });
        }
        let queue = filter.queue.as_deref().map(limits::queue).transpose()?;
        let terminal = State::ALL.into_iter().filter(|state| state.is_terminal());
        let states: Vec<State> =
            if filter.states.is_empty() { terminal.collect() } else { filter.states.clone() };
        self.sweep_all("purge", queue, state_bits(&states), filter.finished_before).await
    }

    /// Over all batches in steps, so that other calls get their turn.
    async fn sweep_all(
        &self,
        what: &'static str,
        queue: Option<&str>,
        states: u32,
        age: Duration,
    ) -> Result<ControlReply, Error> {
        let mut reply = ControlReply::default();
        let mut from = "-inf".to_owned();
        let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX).min(pack::MAX_EXACT);
        loop {
            let arguments = vec![
                word(what),
                Bytes::from(from),
                Bytes::from(queue.unwrap_or_default().to_owned()),
                Bytes::from(states.to_string()),
                Bytes::from(age.to_string()),
            ];
            let answer = self.link.call(&self.link.library().sweep, arguments, true).await?;
            let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
            self.noted(&mut answer);
            let (count, rest) = (answer.next(), answer.next());
            let rest = rest.and_then(|rest| rest.as_i64()).ok_or_else(|| unexpected(what))?;
            reply.count += count.map_or(0, |count| number(&count));
            if rest < 0 {
                return Ok(reply);
            }
            from = rest.to_string();
        }
    }

    /// Asks scripts to tell what they change for this long; answers how much
    /// they have told until now.
    pub(crate) async fn observe(&self, time: Duration) -> Result<u64, Error> {
        let arguments = vec![word("watch"), Bytes::from(time.as_micros().to_string())];
        let answer = self.link.call(&self.link.library().control, arguments, false).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
        self.noted(&mut answer);
        Ok(answer.nth(1).map_or(0, |told| number(&told)))
    }
}

/// One bit for each state.
pub(crate) fn state_bits(states: &[State]) -> u32 {
    states.iter().fold(0, |bits, state| bits | 1 << (*state as u32))
}
