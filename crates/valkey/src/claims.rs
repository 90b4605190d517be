//! The claims of calls that go together, and what they are answered.

use std::collections::HashSet;

use fred::prelude::Value;
use sheaf_coordinator::{Claim, ClaimRequest, Error, Lease};
use sheaf_retry::Timestamp;

use crate::error::{damaged, unexpected};
use crate::pack::{self, MAX_EXACT};
use crate::unpack;
use crate::work::{Wanted, bytes, number};

/// Claims of one batch each that ask for the same: they share a block, so that
/// each of them costs the server little more than its name.
pub(crate) struct Group<'a> {
    pub(crate) queue: String,
    /// By the number of the call.
    claims: Vec<(usize, &'a ClaimRequest)>,
}

impl<'a> Group<'a> {
    pub(crate) fn requests(&self) -> Vec<&'a ClaimRequest> {
        self.claims.iter().map(|(_, request)| *request).collect()
    }

    fn is_of(&self, queue: &str, request: &ClaimRequest) -> bool {
        let first = self.claims[0].1;
        self.queue == queue && (first.lease, first.start) == (request.lease, request.start)
    }
}

/// See the module: those of groups go before the others.
#[derive(Default)]
pub(crate) struct Claims<'a> {
    pub(crate) groups: Vec<Group<'a>>,
    /// By the number of the call.
    pub(crate) others: Vec<(usize, &'a ClaimRequest)>,
}

impl<'a> Claims<'a> {
    /// # Errors
    /// `Limit` for names of queues that are too long.
    pub(crate) fn of(calls: &'a [Wanted]) -> Result<Self, Error> {
        let mut all = Claims::default();
        let mut seen = HashSet::new();
        for (at, call) in calls.iter().enumerate() {
            let Some(request) = &call.claim else { continue };
            // The same claim twice is two calls of the script, as if one came later.
            if !is_single(request) || !seen.insert((&request.worker, &request.request_id)) {
                all.others.push((at, request));
                continue;
            }
            let queue = pack::queues(request)?.pop().unwrap_or_default();
            match all.groups.iter_mut().find(|group| group.is_of(&queue, request)) {
                Some(group) => group.claims.push((at, request)),
                None => all.groups.push(Group { queue, claims: vec![(at, request)] }),
            }
        }
        // What is alone in its group is no group.
        let (groups, alone) = all.groups.into_iter().partition(|group| group.claims.len() > 1);
        all.groups = groups;
        all.others.extend(alone.into_iter().flat_map(|group: Group<'_>| group.claims));
        Ok(all)
    }

    /// The answers by the number of the call.
    ///
    /// # Errors
    /// `Backend` for what cannot be read.
    pub(crate) fn answers(
        &self,
        now: u64,
        values: Vec<Value>,
        key_bytes: usize,
    ) -> Result<Vec<(usize, Claim)>, Error> {
        let now = Timestamp::from_micros(now);
        let mut answers = Answers { now, values: values.into_iter(), key_bytes };
        let mut all = Vec::new();
        for group in &self.groups {
            let mut calls = group.claims.iter().map(|(call, _)| *call);
            while calls.len() > 0 {
                let claims = answers.next_of_group()?;
                if claims.is_empty() || claims.len() > calls.len() {
                    return Err(unexpected("claim"));
                }
                all.extend(calls.by_ref().zip(claims));
            }
        }
        for (call, _) in &self.others {
            let count = answers.count()?;
            all.push((*call, answers.claim(count)?));
        }
        Ok(all)
    }
}

/// Whether it asks for one batch of one queue, wherever that is.
fn is_single(request: &ClaimRequest) -> bool {
    request.max == 1
        && request.queues.len() <= 1
        && request.ids.is_empty()
        && request.locations.is_empty()
        && !request.worker.contains('\0')
}

/// Reads the answers in order.
struct Answers {
    now: Timestamp,
    values: std::vec::IntoIter<Value>,
    key_bytes: usize,
}

impl Answers {
    fn next(&mut self) -> Result<Value, Error> {
        self.values.next().ok_or_else(|| unexpected("claim"))
    }

    /// How many values follow; less than nothing, how many claims share what follows.
    fn count(&mut self) -> Result<i64, Error> {
        self.next()?.as_i64().ok_or_else(|| unexpected("claim"))
    }

    fn next_due(&mut self) -> Result<Option<Timestamp>, Error> {
        let due = number(&self.next()?);
        Ok((due < MAX_EXACT - 1).then(|| Timestamp::from_micros(due)))
    }

    fn claim(&mut self, count: i64) -> Result<Claim, Error> {
        let count = usize::try_from(count).map_err(|_| unexpected("claim"))?;
        let left = self.values.len().saturating_sub(count);
        let next_due = self.next_due()?;
        let mut leases = Vec::with_capacity(count / 3);
        while self.values.len() > left {
            let id = bytes(self.next()?);
            if id.is_empty() {
                self.block(&mut leases)?;
                continue;
            }
            let (fixed, state) = (bytes(self.next()?), bytes(self.next()?));
            let lease = unpack::id(&id).and_then(|id| unpack::lease(&id, &fixed, &state));
            leases.push(lease.map_err(damaged("claim"))?);
        }
        Ok(Claim { leases, now: self.now, next_due })
    }

    /// A block: what its leases have in common, their keys, and of each its record.
    fn block(&mut self, leases: &mut Vec<Lease>) -> Result<(), Error> {
        let (common, keys) = (bytes(self.next()?), bytes(self.next()?));
        let block = unpack::Block::read(&common).map_err(damaged("claim"))?;
        for (at, key) in (0..).zip(keys.split(|byte| *byte == 0)) {
            let record = bytes(self.next()?);
            let id = key.get(self.key_bytes..).unwrap_or_default();
            leases.push(block.lease(at, id, &record).map_err(damaged("claim"))?);
        }
        Ok(())
    }

    /// The next claim of a group, or as many as share a block.
    fn next_of_group(&mut self) -> Result<Vec<Claim>, Error> {
        let count = self.count()?;
        if count >= 0 {
            return Ok(vec![self.claim(count)?]);
        }
        let next_due = self.next_due()?;
        let mut leases = Vec::new();
        self.block(&mut leases)?;
        if leases.len() as u64 != count.unsigned_abs() {
            return Err(unexpected("claim"));
        }
        let claim = |lease| Claim { leases: vec![lease], now: self.now, next_due };
        Ok(leases.into_iter().map(claim).collect())
    }
}
