//! The order of the steps.

use std::time::Duration;

use sheaf_retry::{Code, SharedClock};

use super::compare::{self, Found};
use super::{Endpoint, Head, LOOK, Migration, Phase};
use crate::contract::Error;

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names a migration that is begun: no two have the same.
    pub id: String,
    /// How long to wait for workers to settle what they have. Leases that are left
    /// then go along.
    pub drain_for: Duration,
    /// Forget what a target has that was itself moved elsewhere.
    pub replace: bool,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Waits for workers that still have so many leases.
    Draining(u64),
    /// Copied so many batches of all.
    Copied(u64, u64),
    /// Compared so many batches of all.
    Compared(u64, u64),
}

/// What a migration moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Which it was.
    pub migration: Migration,
    /// The head of the state as the source has it.
    pub head: Head,
    /// Batches that are not over.
    pub live: u64,
    /// Of them those that were under lease, and still are.
    pub leases: u64,
    /// It went on with what an earlier call had begun.
    pub is_resumed: bool,
    /// An earlier call had come to the end: there was nothing to do.
    pub was_done: bool,
}

fn refused(operation: String) -> Error {
    Error::Backend { operation, code: Code::FailedPrecondition, source: None }
}

/// What is left to do.
enum Plan {
    /// From the beginning, or from where it was cut off.
    Move { migration: Migration, is_resumed: bool },
    /// The target is whole and must be opened.
    Open(Migration),
    /// Nothing.
    Done(Migration),
}

/// Moves everything from one coordinator to another, and makes sure of it.
///
/// It may be cut off at any point and called again: it goes on.
///
/// # Errors
/// `failed_precondition` where one side is part of another migration, or the
/// target is not empty, `corrupt` where the two differ in the end, and those of
/// the endpoints. The source can be used again after [`abandon`].
pub async fn migrate(
    from: &mut dyn Endpoint,
    to: &mut dyn Endpoint,
    options: &Options,
    clock: &SharedClock,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, Error> {
    let plan = plan(from, to, options, clock).await?;
    let (migration, is_resumed) = match plan {
        Plan::Move { migration, is_resumed } => (migration, is_resumed),
        Plan::Open(migration) => {
            // Cut off after it was compared: once more, for what is told.
            let head = from.head().await?;
            let found = compare::all(from, to, &head, tell).await?;
            to.enter(&Phase::Serving).await?;
            return summary(from, migration, &found, true).await;
        }
        Plan::Done(migration) => {
            let found = summary(from, migration, &Found::default(), true).await?;
            return Ok(Summary { was_done: true, ..found });
        }
    };
    drain(from, &migration, options, clock, tell).await?;
    from.enter(&Phase::Frozen(migration.clone())).await?;
    let head = from.head().await?;
    if let Phase::Moved(_) = to.phase().await? {
        // It may be forgotten: the plan has seen to that. Not before, for what is left would
        // be a coordinator as any other until it is filled.
        to.discard().await?;
    }
    let after = to.fill(&migration, &head).await?;
    copy(from, to, after, head.batches, tell).await?;
    let found = compare::all(from, to, &head, tell).await?;
    to.sync().await?;
    from.enter(&Phase::Moved(migration.clone())).await?;
    to.enter(&Phase::Serving).await?;
    summary(from, migration, &found, is_resumed).await
}

async fn summary(
    from: &mut dyn Endpoint,
    migration: Migration,
    found: &Found,
    is_resumed: bool,
) -> Result<Summary, Error> {
    let (live, leases) = (found.live, found.leases);
    let head = from.head().await?;
    Ok(Summary { migration, head, live, leases, is_resumed, was_done: false })
}

async fn plan(
    from: &mut dyn Endpoint,
    to: &mut dyn Endpoint,
    options: &Options,
    clock: &SharedClock,
) -> Result<Plan, Error> {
    let (source, target) = (from.name(), to.name());
    if source == target {
        return Err(refused(format!("{source} is source and target; name another one")));
    }
    let found = to.phase().await?;
    match from.phase().await? {
        Phase::Serving => {
            look_for_room(to, &found, None, options).await?;
            let head = from.head().await?;
            if head.batches == 0 && head.queues.is_empty() {
                let operation = format!(
                    "{source} has no batches and no queues, so nothing to move; is it the right one?"
                );
                return Err(Error::Backend { operation, code: Code::NotFound, source: None });
            }
            let migration = Migration {
                id: options.id.clone(),
                from: source,
                to: target,
                began_at: clock.now(),
            };
            Ok(Plan::Move { migration, is_resumed: false })
        }
        Phase::Draining(migration) | Phase::Frozen(migration) => {
            let is_same = matches!(&found, Phase::Filling(other) if other.id == migration.id);
            if !is_same {
                if migration.to != target {
                    return Err(refused(format!(
                        "{source} is being moved to {}: go on with that as --to, or --abandon it",
                        migration.to
                    )));
                }
                look_for_room(to, &found, Some(&migration), options).await?;
            }
            Ok(Plan::Move { migration, is_resumed: true })
        }
        Phase::Moved(migration) => match found {
            Phase::Filling(other) if other.id == migration.id => Ok(Plan::Open(migration)),
            Phase::Serving if migration.to == target => Ok(Plan::Done(migration)),
            _ => Err(refused(format!("{source} was moved to {} before", migration.to))),
        },
        Phase::Filling(migration) => Err(refused(format!(
            "{source} has not yet all that is moved there from {}: finish that first",
            migration.from
        ))),
    }
}

/// Makes sure that the target is empty, or may be emptied.
async fn look_for_room(
    to: &mut dyn Endpoint,
    found: &Phase,
    migration: Option<&Migration>,
    options: &Options,
) -> Result<(), Error> {
    let target = to.name();
    match found {
        Phase::Serving => {
            let batches = to.head().await?.batches;
            if batches == 0 {
                return Ok(());
            }
            Err(refused(format!(
                "{target} has {batches} batches of its own; name one that is empty, such as \
                 another namespace or directory"
            )))
        }
        Phase::Moved(_) if options.replace => Ok(()),
        Phase::Moved(earlier) => Err(refused(format!(
            "{target} still has the state that was moved to {}; add --replace to forget it there",
            earlier.to
        ))),
        Phase::Filling(other) if migration.is_none_or(|migration| migration.id != other.id) => {
            Err(refused(format!(
                "{target} is being filled from {}: finish that, or --abandon it",
                other.from
            )))
        }
        Phase::Filling(_) => Ok(()),
        Phase::Draining(other) | Phase::Frozen(other) => {
            Err(refused(format!("{target} is itself being moved to {}", other.to)))
        }
    }
}

/// Waits until workers have settled what they took.
async fn drain(
    from: &mut dyn Endpoint,
    migration: &Migration,
    options: &Options,
    clock: &SharedClock,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    if !from.is_shared() || matches!(from.phase().await?, Phase::Frozen(_)) {
        return Ok(());
    }
    from.enter(&Phase::Draining(migration.clone())).await?;
    let begun = clock.elapsed();
    loop {
        let leases = from.head().await?.leases;
        if leases == 0 || clock.elapsed().saturating_sub(begun) >= options.drain_for {
            return Ok(());
        }
        tell(Progress::Draining(leases));
        clock.sleep(LOOK).await;
    }
}

async fn copy(
    from: &mut dyn Endpoint,
    to: &mut dyn Endpoint,
    mut after: u64,
    all: u64,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let mut done = 0;
    loop {
        let records = from.read(after).await?;
        let Some(last) = records.last() else { return Ok(()) };
        after = last.sequence;
        to.write(&records).await?;
        done += records.len() as u64;
        tell(Progress::Copied(done, all));
    }
}

/// Gives a migration up that has not come to its end: the target is emptied,
/// and the source answers calls again. It may be called again.
///
/// # Errors
/// `failed_precondition` where there is none to give up, or the source was moved
/// for good, and those of the endpoints.
pub async fn abandon(from: &mut dyn Endpoint, to: &mut dyn Endpoint) -> Result<Migration, Error> {
    let source = from.name();
    let migration = match from.phase().await? {
        Phase::Draining(migration) | Phase::Frozen(migration) => migration,
        Phase::Moved(migration) => {
            return Err(refused(format!(
                "{source} was moved to {} for good; to go back, migrate from there with --replace",
                migration.to
            )));
        }
        Phase::Filling(migration) => {
            return Err(refused(format!(
                "{source} is being filled from {}: name that as --from",
                migration.from
            )));
        }
        Phase::Serving => {
            return Err(refused(format!("{source} is not being moved: there is none to abandon")));
        }
    };
    match to.phase().await? {
        Phase::Filling(other) if other.id == migration.id => to.discard().await?,
        _ if to.name() == migration.to => {}
        _ => {
            return Err(refused(format!(
                "{source} is being moved to {}: name that as --to",
                migration.to
            )));
        }
    }
    from.enter(&Phase::Serving).await?;
    Ok(migration)
}
