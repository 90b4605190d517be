//! Reading.

use std::collections::BTreeMap;

use sheaf_proto::coordinator::v1 as proto;

use super::spec::state;
use super::{from_all, id, ids, micros, not_empty, required, some, texts, time, to_all};
use crate::contract::Error;
use crate::model::State;
use crate::request::{
    Answer, History, ListFilter, Page, Query, QueueStats, Recovered, Run, Standing,
};

impl From<&ListFilter> for proto::ListFilter {
    fn from(filter: &ListFilter) -> Self {
        proto::ListFilter {
            states: filter.states.iter().map(|state| state.to_wire()).collect(),
            queue: filter.queue.clone().unwrap_or_default(),
            prefix: filter.prefix.clone(),
            limit: filter.limit,
            cursor: filter.cursor.clone(),
            parent: filter.parent.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

impl TryFrom<proto::ListFilter> for ListFilter {
    type Error = Error;

    fn try_from(message: proto::ListFilter) -> Result<Self, Error> {
        Ok(ListFilter {
            states: message.states.into_iter().map(State::from_wire).collect::<Result<_, _>>()?,
            queue: not_empty(message.queue),
            prefix: message.prefix,
            parent: not_empty(message.parent).map(|text| id("parent", &text)).transpose()?,
            limit: message.limit,
            cursor: message.cursor,
        })
    }
}

impl From<&Query> for proto::QueryRequest {
    fn from(query: &Query) -> Self {
        use proto::query_request::Query as Wire;
        let query = match query {
            Query::Get(ids) => Wire::Get(proto::Ids { ids: texts(ids) }),
            Query::List(filter) => Wire::List(filter.into()),
            Query::Stats(queue) => {
                Wire::Stats(proto::StatsFilter { queue: queue.clone().unwrap_or_default() })
            }
            Query::Lineage(query) => Wire::Lineage(query.into()),
            Query::Recovery(leases) => Wire::Recovery(proto::LeaseRefs { leases: to_all(leases) }),
            Query::History => Wire::History(proto::HistoryQuery {}),
        };
        proto::QueryRequest { query: Some(query) }
    }
}

impl TryFrom<proto::QueryRequest> for Query {
    type Error = Error;

    fn try_from(message: proto::QueryRequest) -> Result<Self, Error> {
        use proto::query_request::Query as Wire;
        Ok(match required("query", message.query)? {
            Wire::Get(get) => Query::Get(ids("get.ids", &get.ids)?),
            Wire::List(filter) => Query::List(filter.try_into()?),
            Wire::Stats(filter) => Query::Stats(not_empty(filter.queue)),
            Wire::Lineage(query) => Query::Lineage(query.try_into()?),
            Wire::Recovery(leases) => Query::Recovery(from_all(leases.leases)?),
            Wire::History(_) => Query::History,
        })
    }
}

impl From<&Page> for proto::Batches {
    fn from(page: &Page) -> Self {
        proto::Batches { batches: to_all(&page.batches), next_cursor: page.next_cursor.clone() }
    }
}

impl TryFrom<proto::Batches> for Page {
    type Error = Error;

    fn try_from(message: proto::Batches) -> Result<Self, Error> {
        Ok(Page { batches: from_all(message.batches)?, next_cursor: message.next_cursor })
    }
}

impl From<&QueueStats> for proto::QueueStats {
    fn from(stats: &QueueStats) -> Self {
        let counts = stats.counts.iter();
        proto::QueueStats {
            queue: stats.queue.clone(),
            paused: stats.paused,
            draining: stats.draining,
            policy: Some((&stats.policy).into()),
            counts: counts.map(|(state, count)| (state.as_str().to_owned(), *count)).collect(),
            purged: stats.purged,
            live_rows: stats.live_rows,
            live_bytes: stats.live_bytes,
            oldest_pending_at: micros(stats.oldest_pending_at),
        }
    }
}

impl TryFrom<proto::QueueStats> for QueueStats {
    type Error = Error;

    fn try_from(message: proto::QueueStats) -> Result<Self, Error> {
        let mut counts: BTreeMap<State, u64> = State::ALL.iter().map(|s| (*s, 0)).collect();
        for (name, count) in message.counts {
            let known = State::ALL.iter().find(|state| state.as_str() == name);
            let state = known.ok_or_else(|| Error::Invalid {
                field: "counts",
                problem: format!("{name:?} is no state that this version knows"),
            })?;
            counts.insert(*state, count);
        }
        Ok(QueueStats {
            queue: message.queue,
            paused: message.paused,
            draining: message.draining,
            policy: some(message.policy)?.unwrap_or_default(),
            counts,
            purged: message.purged,
            live_rows: message.live_rows,
            live_bytes: message.live_bytes,
            oldest_pending_at: time(message.oldest_pending_at),
        })
    }
}

impl From<&Recovered> for proto::Recovered {
    fn from(recovered: &Recovered) -> Self {
        proto::Recovered {
            id: recovered.id.as_str().to_owned(),
            standing: recovered.standing.to_wire(),
            state: recovered.state.map_or(0, State::to_wire),
        }
    }
}

impl TryFrom<proto::Recovered> for Recovered {
    type Error = Error;

    fn try_from(message: proto::Recovered) -> Result<Self, Error> {
        Ok(Recovered {
            id: id("id", &message.id)?,
            standing: Standing::from_wire(message.standing)?,
            state: state(message.state)?,
        })
    }
}

impl From<&Run> for proto::Run {
    fn from(run: &Run) -> Self {
        proto::Run { id: run.id, end: run.end }
    }
}

impl TryFrom<proto::Run> for Run {
    type Error = Error;

    fn try_from(message: proto::Run) -> Result<Self, Error> {
        Ok(Run { id: message.id, end: message.end })
    }
}

impl From<&Answer> for proto::QueryResponse {
    fn from(answer: &Answer) -> Self {
        use proto::query_response::Answer as Wire;
        let answer = match answer {
            Answer::Batches(page) => Wire::Batches(page.into()),
            Answer::Stats(stats) => Wire::Stats(proto::Stats { queues: to_all(stats) }),
            Answer::Lineage(lineage) => Wire::Lineage(lineage.into()),
            Answer::Recovery(leases) => Wire::Recovery(proto::Recovery { leases: to_all(leases) }),
            Answer::History(history) => {
                Wire::History(proto::History { runs: to_all(&history.runs) })
            }
        };
        proto::QueryResponse { answer: Some(answer) }
    }
}

impl TryFrom<proto::QueryResponse> for Answer {
    type Error = Error;

    fn try_from(message: proto::QueryResponse) -> Result<Self, Error> {
        use proto::query_response::Answer as Wire;
        Ok(match required("answer", message.answer)? {
            Wire::Batches(page) => Answer::Batches(page.try_into()?),
            Wire::Stats(stats) => Answer::Stats(from_all(stats.queues)?),
            Wire::Lineage(lineage) => Answer::Lineage(lineage.try_into()?),
            Wire::Recovery(recovery) => Answer::Recovery(from_all(recovery.leases)?),
            Wire::History(history) => Answer::History(History { runs: from_all(history.runs)? }),
        })
    }
}
