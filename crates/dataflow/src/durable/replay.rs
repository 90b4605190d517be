//! Sends batches over a durable edge once more.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_coordinator::{Batch, Control, CoordinatorExt as _, State};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, HumanDuration, Retryable as _, SharedClock, Timestamp};

use super::link::Link;
use super::names::{self, Kind};
use crate::assignment::DurableAssignment;
use crate::error::ComponentError;

/// Batches of one call.
const AT_ONCE: usize = 1_000;
/// Payloads that are asked for at the same time.
const ASKED: usize = 16;

/// From where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// What was registered then or later.
    Time(Timestamp),
    /// This batch, and what was registered after it.
    Batch(String),
}

/// What was made pending again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many batches.
    pub batches: u64,
    /// The rows of them.
    pub rows: u64,
}

/// Makes batches of a durable edge pending again that its reader has completed: it gets them
/// once more, before what is registered later. `readers` is how many instances the reader has.
/// All of what is asked for, or nothing.
///
/// # Errors
/// `not_found` where a batch, or its rows, are not kept any more; those of the store and the
/// coordinator.
pub async fn replay(
    durable: &DurableAssignment,
    (pipeline, edge, readers): (&str, &str, u32),
    from: &ReplayFrom,
    clock: SharedClock,
) -> Result<Replayed, ComponentError> {
    let link = Link::to(durable, &format!("{pipeline}:replay"), 0, 0, clock)?;
    let (mut completed, mut has_forgotten) = (Vec::new(), false);
    for to in 0..readers {
        let queue = names::queue(pipeline, edge, to);
        let found = link.live(&queue, &[State::Completed]).await?;
        let is_of_rows =
            |batch: &Batch| names::read(&batch.spec.id).is_some_and(|(_, kind)| kind == Kind::Rows);
        completed.push(found.into_iter().filter(is_of_rows).collect::<Vec<_>>());
        let ask = || link.coordinator.stats(Some(&queue));
        let stats = link.insist("ask what was forgotten", ask).await?;
        has_forgotten |= stats.iter().any(|one| one.queue == queue && one.purged > 0);
    }
    let retention = HumanDuration(link.retention);
    let chosen = choose((completed, has_forgotten), edge, from, retention, link.clock.now())?;
    all_kept(&link, &chosen).await?;
    for some in chosen.chunks(AT_ONCE) {
        let ids: Vec<BatchId> = some.iter().map(|batch| batch.spec.id.clone()).collect();
        let requeue = || link.coordinator.control(Control::Requeue(ids.clone()));
        link.insist("make batches pending again", requeue).await?;
    }
    let rows = chosen.iter().map(|batch| batch.spec.rows).sum();
    Ok(Replayed { batches: chosen.len() as u64, rows })
}

/// Those from there on, of each queue in its order; some may have been forgotten.
fn choose(
    (completed, has_forgotten): (Vec<Vec<Batch>>, bool),
    edge: &str,
    from: &ReplayFrom,
    retention: HumanDuration,
    now: Timestamp,
) -> Result<Vec<Batch>, ComponentError> {
    let gone = |what: String| {
        let text = format!(
            "{what}; batches of {edge} are kept for {retention} after they were completed: \
             --durable-retention of sheafctl run and server says how long"
        );
        ComponentError::new(Code::NotFound, text)
    };
    let from = match from {
        ReplayFrom::Batch(id) => {
            let is_it = |batch: &&Batch| batch.spec.id.as_str() == id;
            let found = completed.iter().flatten().find(is_it);
            let found = found.ok_or_else(|| gone(format!("no completed batch {id} is there")))?;
            found.registered_at
        }
        ReplayFrom::Time(time) => {
            let oldest = completed.iter().flatten().map(|batch| batch.registered_at).min();
            // What was registered before may have been completed and forgotten.
            let is_over = has_forgotten && now.since(*time) > retention.0;
            match oldest {
                Some(oldest) if is_over && oldest > *time => {
                    let ago = Duration::from_secs(now.since(oldest).as_secs());
                    let ago = HumanDuration(ago);
                    return Err(gone(format!("the oldest batch that is there came {ago} ago")));
                }
                None if is_over => return Err(gone("no completed batch is there".to_owned())),
                _ => *time,
            }
        }
    };
    let all = completed.into_iter().flatten();
    Ok(all.filter(|batch| batch.registered_at >= from).collect())
}

/// That the rows of all of these are there still.
async fn all_kept(link: &Link, batches: &[Batch]) -> Result<(), ComponentError> {
    let asked: Vec<_> = batches
        .iter()
        .map(|batch| async move {
            let id = &batch.spec.id;
            let ask = || link.store.info(id);
            match link.insist("ask for rows", ask).await {
                Ok(_) => Ok(None),
                Err(error) if error.code() == Code::NotFound => Ok(Some(id.clone())),
                Err(error) => Err(error),
            }
        })
        .collect();
    let found: Vec<Option<BatchId>> = stream::iter(asked).buffered(ASKED).try_collect().await?;
    let missing: Vec<BatchId> = found.into_iter().flatten().collect();
    let Some(last) = missing.last() else { return Ok(()) };
    let text = format!(
        "the rows of {} of {} batches are not kept any more, the last of them {last}: begin later",
        missing.len(),
        batches.len()
    );
    Err(ComponentError::new(Code::NotFound, text))
}

#[cfg(test)]
mod tests {
    use sheaf_coordinator::{BatchSpec, Fence};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    fn choice(from: ReplayFrom, now: u64) -> Result<Vec<String>, ComponentError> {
        choice_of(from, now, true)
    }

    fn choice_of(
        from: ReplayFrom,
        now: u64,
        has_forgotten: bool,
    ) -> Result<Vec<String>, ComponentError> {
        let batch = |id: &str, seconds| Batch {
            spec: BatchSpec::new(id.parse().unwrap()),
            state: State::Completed,
            attempts: 1,
            lost_leases: 0,
            lease: None,
            progress: None,
            error: None,
            registered_at: at(seconds),
            updated_at: at(seconds),
            due_at: None,
            first_attempt_at: None,
            finished_at: None,
            last_fence: Fence(1),
            settled: None,
            outputs: Vec::new(),
        };
        let queues = vec![
            vec![batch("p:a:b:0-0:00:1", 100), batch("p:a:b:0-0:00:2", 200)],
            vec![batch("p:a:b:0-1:00:3", 150), batch("p:a:b:0-1:00:4", 250)],
        ];
        let retention = HumanDuration(Duration::from_secs(60));
        let chosen = choose((queues, has_forgotten), "a:b", &from, retention, at(now))?;
        Ok(chosen.into_iter().map(|batch| batch.spec.id.to_string()).collect())
    }

    #[test]
    fn what_was_registered_from_there_on_is_chosen_of_each_queue() {
        let from = ReplayFrom::Batch("p:a:b:0-1:00:3".to_owned());
        let chosen = choice(from, 300).unwrap();
        assert_eq!(chosen, ["p:a:b:0-0:00:2", "p:a:b:0-1:00:3", "p:a:b:0-1:00:4"]);
        assert_eq!(choice(ReplayFrom::Time(at(250)), 300).unwrap(), ["p:a:b:0-1:00:4"]);
        assert_eq!(choice(ReplayFrom::Time(at(90)), 140).unwrap().len(), 4, "all are there");
        let all = choice_of(ReplayFrom::Time(at(0)), 300, false).unwrap();
        assert_eq!(all.len(), 4, "nothing was forgotten");
    }

    #[test]
    fn what_is_not_kept_any_more_is_said() {
        let early = choice(ReplayFrom::Time(at(90)), 300).unwrap_err();
        assert_eq!(early.code(), Code::NotFound);
        for part in ["came 3m20s ago", "kept for 1m", "--durable-retention"] {
            assert!(early.to_string().contains(part), "{early}");
        }
        let other = choice(ReplayFrom::Batch("p:a:b:0-0:00:9".to_owned()), 300).unwrap_err();
        assert!(other.to_string().contains("no completed batch p:a:b:0-0:00:9"), "{other}");
    }
}
