//! Reading: never more of the server's time than a short call.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use fred::prelude::Value;
use sheaf_coordinator::limits::{
    self, DEFAULT_PAGE, MAX_ITEMS, MAX_LINEAGE, MAX_LINEAGE_LINKS, MAX_PAGE, at_most,
};
use sheaf_coordinator::{
    Answer, Batch, DEFAULT_QUEUE, Direction, Error, History, LeaseRef, Lineage, LineageLink,
    LineageNode, LineageQuery, ListFilter, Page, Query, QueueStats, Recovered, Run, Standing,
    State,
};
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use crate::control::state_bits;
use crate::coordinator::Shared;
use crate::error::{damaged, unexpected};
use crate::link::Link;
use crate::unpack::{self, Reader};
use crate::work::{bytes, list, number};

/// Records that one call reads.
const GET_PER_CALL: usize = 256;
/// Batches that one part of a list looks at.
const SCAN: usize = 96;
/// Queues that one call counts.
const STATS_PER_CALL: usize = 32;

impl Shared {
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, Error> {
        Ok(match query {
            Query::Get(ids) => {
                at_most("ids", ids.len(), MAX_ITEMS)?;
                let batches = self.records(&ids).await?.into_iter().flatten().collect();
                Answer::Batches(Page { batches, next_cursor: String::new() })
            }
            Query::List(filter) => Answer::Batches(self.page(&filter).await?),
            Query::Stats(name) => Answer::Stats(self.stats(name.as_deref()).await?),
            Query::Lineage(query) => Answer::Lineage(self.lineage(&query).await?),
            Query::Recovery(leases) => Answer::Recovery(self.recovery(&leases).await?),
            Query::History => Answer::History(self.history().await?),
        })
    }

    /// These batches in the order asked; `None` for unknown ones, and for
    /// records that cannot be read until a script has made them failed ones.
    pub(crate) async fn records(&self, ids: &[BatchId]) -> Result<Vec<Option<Batch>>, Error> {
        let mut records = Vec::with_capacity(ids.len());
        for part in ids.chunks(GET_PER_CALL) {
            let arguments = part.iter().map(|id| Bytes::from(id.as_str().to_owned())).collect();
            let answer = self.link.call(&self.link.library().get, arguments, false).await?;
            let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
            let values = list(answer.next());
            for (id, three) in part.iter().zip(values.chunks_exact(3)) {
                let (fixed, state) = (bytes(three[0].clone()), bytes(three[1].clone()));
                let record = unpack::record(id, &fixed, &state, number(&three[2]));
                records.push(record.ok());
            }
        }
        Ok(records)
    }

    async fn page(&self, filter: &ListFilter) -> Result<Page, Error> {
        at_most("limit", filter.limit as usize, MAX_PAGE as usize)?;
        let limit = if filter.limit == 0 { DEFAULT_PAGE } else { filter.limit } as usize;
        let mut after: u64 = match filter.cursor.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| Error::Invalid {
                field: "cursor",
                problem: format!("{text:?} is no cursor of this coordinator"),
            })?,
        };
        let states = if filter.states.is_empty() { 0 } else { state_bits(&filter.states) };
        let parent = filter.parent.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut page = Page::default();
        loop {
            let left = limit - page.batches.len();
            let arguments = vec![
                Bytes::from(after.to_string()),
                Bytes::from(left.to_string()),
                Bytes::from(SCAN.to_string()),
                Bytes::from(states.to_string()),
                Bytes::from(filter.queue.clone().unwrap_or_default()),
                Bytes::from(filter.prefix.clone()),
                Bytes::from(parent.clone()),
            ];
            let answer = self.link.call(&self.link.library().list, arguments, false).await?;
            let mut answer = answer.map_err(|refusal| self.refused(&refusal, &[]))?;
            let mut found = list(answer.next()).into_iter();
            while let (Some(id), Some(fixed), Some(state), Some(place)) =
                (found.next(), found.next(), found.next(), found.next())
            {
                let damaged = damaged("list");
                let id = unpack::id(&bytes(id)).map_err(&damaged)?;
                let (fixed, state) = (bytes(fixed), bytes(state));
                let batch = unpack::record(&id, &fixed, &state, number(&place));
                page.batches.push(batch.map_err(&damaged)?);
            }
            let last = answer.next().and_then(|last| last.as_string()).unwrap_or_default();
            let more = answer.next().is_some_and(|more| number(&more) == 1);
            after = last.parse().map_err(|_| unexpected("list"))?;
            if !more {
                return Ok(page);
            }
            if page.batches.len() == limit {
                page.next_cursor = after.to_string();
                return Ok(page);
            }
        }
    }

    async fn stats(&self, name: Option<&str>) -> Result<Vec<QueueStats>, Error> {
        let mut names = match name {
            Some(name) => vec![limits::queue(name)?.to_owned()],
            None => queue_names(&self.link).await?,
        };
        if name.is_none() && !names.iter().any(|name| name == DEFAULT_QUEUE) {
            names.push(DEFAULT_QUEUE.to_owned());
        }
        names.sort_unstable();
        queue_stats(&self.link, &names).await
    }

    async fn history(&self) -> Result<History, Error> {
        // A server that was started again begins a run before it is asked.
        self.sweep(Vec::new()).await?;
        history(&self.link).await
    }

    async fn recovery(&self, leases: &[LeaseRef]) -> Result<Vec<Recovered>, Error> {
        at_most("leases", leases.len(), MAX_ITEMS)?;
        let ids: Vec<BatchId> = leases.iter().map(|lease| lease.id.clone()).collect();
        let time = list(Some(self.link.command_of("TIME", Vec::new()).await?));
        let part = |at: usize| time.get(at).and_then(Value::as_u64).unwrap_or(0);
        let now = Timestamp::from_micros(part(0) * 1_000_000 + part(1));
        let meta = bytes(self.link.command_of("GET", vec![self.link.key("m").into()]).await?);
        let revived = Timestamp::from_micros(revived(&meta).unwrap_or(0));
        let records = self.records(&ids).await?;
        let recovered = leases.iter().zip(records).map(|(lease, batch)| {
            let standing = batch.as_ref().map_or(Standing::NotFound, |batch| {
                let held = batch.lease.as_ref();
                let stands = held.is_some_and(|held| {
                    held.fence == lease.fence
                        && held.deadline.max(revived.plus(held.duration)) > now
                });
                if stands {
                    Standing::Current
                } else if batch.settled.is_some_and(|(fence, _)| fence == lease.fence) {
                    Standing::Settled
                } else {
                    Standing::Stale
                }
            });
            Recovered { id: lease.id.clone(), standing, state: batch.map(|batch| batch.state) }
        });
        Ok(recovered.collect())
    }

    /// Goes from batch to batch, nearest first, within the bounds.
    async fn lineage(&self, query: &LineageQuery) -> Result<Lineage, Error> {
        at_most("limit", query.limit as usize, MAX_LINEAGE as usize)?;
        let limit = if query.limit == 0 { DEFAULT_PAGE } else { query.limit } as usize;
        let depth = if query.depth == 0 { u32::MAX } else { query.depth };
        let mut lineage = Lineage::default();
        let mut seen: HashMap<BatchId, u32> = HashMap::from([(query.id.clone(), 0)]);
        let mut next = VecDeque::from([query.id.clone()]);
        while let Some(id) = next.pop_front() {
            let at = seen.get(&id).copied().unwrap_or(0);
            let most = MAX_LINEAGE_LINKS + 1 - lineage.links.len();
            let near = self.near(&id, query.direction, most).await?;
            if at >= depth {
                lineage.truncated |= !near.is_empty();
                continue;
            }
            for other in near {
                if !seen.contains_key(&other) {
                    if lineage.nodes.len() == limit {
                        lineage.truncated = true;
                        continue;
                    }
                    seen.insert(other.clone(), at + 1);
                    lineage.nodes.push(node(&other, at + 1));
                    next.push_back(other.clone());
                }
                if lineage.links.len() == MAX_LINEAGE_LINKS {
                    lineage.truncated = true;
                    continue;
                }
                let (parent, child) = match query.direction {
                    Direction::Ancestors => (other, id.clone()),
                    Direction::Descendants => (id.clone(), other),
                };
                lineage.links.push(LineageLink { parent, child });
            }
        }
        let ids: Vec<BatchId> = lineage.nodes.iter().map(|node| node.id.clone()).collect();
        for (node, batch) in lineage.nodes.iter_mut().zip(self.records(&ids).await?) {
            node.state = batch.as_ref().map(|batch| batch.state);
            node.queue = batch.map(|batch| batch.spec.queue);
        }
        Ok(lineage)
    }

    /// The batches one step from `id`, in order, each once.
    async fn near(
        &self,
        id: &BatchId,
        direction: Direction,
        most: usize,
    ) -> Result<Vec<BatchId>, Error> {
        let batch = self.records(std::slice::from_ref(id)).await?.pop().flatten();
        let (own, index) = match direction {
            Direction::Ancestors => (batch.map(|batch| batch.spec.parents), "lo:"),
            Direction::Descendants => (batch.map(|batch| batch.outputs), "li:"),
        };
        let last = i64::try_from(most).unwrap_or(i64::MAX) - 1;
        let key = self.link.key(&format!("{index}{id}"));
        let range = vec![key.into(), Value::Integer(0), Value::Integer(last)];
        let others = list(Some(self.link.command_of("ZRANGE", range).await?));
        let others = others.into_iter().filter_map(|other| unpack::id(&bytes(other)).ok());
        let mut near: Vec<BatchId> = own.unwrap_or_default().into_iter().chain(others).collect();
        near.sort_unstable();
        near.dedup();
        Ok(near)
    }
}

/// The names of all queues, in no order.
pub(crate) async fn queue_names(link: &Link) -> Result<Vec<String>, Error> {
    let names = list(Some(link.command_of("SMEMBERS", vec![link.key("qs").into()]).await?));
    Ok(names.iter().filter_map(Value::as_string).collect())
}

/// Counts, switches and limits of these queues.
pub(crate) async fn queue_stats(link: &Link, names: &[String]) -> Result<Vec<QueueStats>, Error> {
    let mut all = Vec::with_capacity(names.len());
    for part in names.chunks(STATS_PER_CALL) {
        let arguments = part.iter().cloned().map(Bytes::from).collect();
        let answer = link.call(&link.library().stats, arguments, false).await?;
        let mut answer = answer.map_err(|_| unexpected("count"))?;
        let values = list(answer.next());
        for (name, pair) in part.iter().zip(values.chunks_exact(2)) {
            let raw = bytes(pair[0].clone());
            all.push(if raw.is_empty() {
                nothing(name)
            } else {
                unpack::queue(name, &raw, number(&pair[1])).map_err(damaged("count"))?
            });
        }
    }
    Ok(all)
}

/// The runs that the state has seen, as it says now.
pub(crate) async fn history(link: &Link) -> Result<History, Error> {
    let past = vec![Value::from(link.key("pr")), Value::Integer(0), Value::Integer(-1)];
    let past = list(Some(link.command_of("LRANGE", past).await?));
    let meta = bytes(link.command_of("GET", vec![link.key("m").into()]).await?);
    let run = |text: String| {
        let (id, end) = text.split_once(':')?;
        Some(Run { id: id.parse().ok()?, end: end.parse().ok()? })
    };
    let mut runs: Vec<Run> = past.iter().filter_map(Value::as_string).filter_map(run).collect();
    // Nothing is there before the first call of a script.
    if !meta.is_empty() {
        runs.push(present_run(&meta).map_err(damaged("read the history"))?);
    }
    Ok(History { runs })
}

fn node(id: &BatchId, depth: u32) -> LineageNode {
    LineageNode { id: id.clone(), depth, state: None, queue: None }
}

fn nothing(name: &str) -> QueueStats {
    QueueStats {
        queue: name.to_owned(),
        counts: State::ALL.iter().map(|state| (*state, 0)).collect(),
        ..QueueStats::default()
    }
}

/// The numbers before the name of the server, in the order of the scripts.
fn meta_number(meta: &[u8], at: usize) -> Result<u64, unpack::Damaged> {
    Reader(meta.get(at * 8..).unwrap_or_default()).whole()
}

fn present_run(meta: &[u8]) -> Result<Run, unpack::Damaged> {
    Ok(Run { id: meta_number(meta, 3)?, end: meta_number(meta, 4)? + 1 })
}

fn revived(meta: &[u8]) -> Result<u64, unpack::Damaged> {
    meta_number(meta, 5)
}
