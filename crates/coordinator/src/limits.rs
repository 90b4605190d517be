//! How much a coordinator takes at once; every limit that a caller can meet,
//! and the checks that every backend makes before it does anything.

use std::time::Duration;

use sheaf_retry::RetryPolicy;

use crate::contract::Error;
use crate::model::{BatchSpec, DEFAULT_QUEUE, Failure, Progress, Resolution};
use crate::policy::QueuePolicy;
use crate::request::{ClaimRequest, Extension, SettleRequest};

/// Most batches, outcomes, leases or identifiers in one call.
pub const MAX_ITEMS: usize = 10_000;
/// Most batches of one claim.
pub const MAX_CLAIM: u32 = 1_024;
/// Most queues in one claim.
pub const MAX_CLAIM_QUEUES: usize = 64;
/// Most queues that a coordinator keeps.
pub const MAX_QUEUES: usize = 4_096;
/// Most outputs of one batch.
pub const MAX_OUTPUTS: usize = 1_024;
/// Most parents of one batch.
pub const MAX_PARENTS: usize = 1_024;
/// Most dependencies of all batches of one call.
pub const MAX_DEPENDENCIES: usize = 100_000;
/// Longest time for which a dedup key is remembered.
pub const MAX_DEDUP_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most batches of one answer about lineage.
pub const MAX_LINEAGE: u32 = 1_000;
/// Most links between them.
pub const MAX_LINEAGE_LINKS: usize = 10_000;
/// Most payload locations of one batch, or of one claim.
pub const MAX_LOCATIONS: usize = 64;
/// Longest name of a queue, worker, tenant, claim or dedup key, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest other text of a batch, bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;
/// Where the message of a failure is cut, bytes.
pub const MAX_ERROR_BYTES: usize = 4_096;
/// Where the note of a progress is cut, bytes.
pub const MAX_NOTE_BYTES: usize = 256;
/// Shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(100);
/// Longest lease.
pub const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);
/// Longest wait of a claim.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// Longest page of a list.
pub const MAX_PAGE: u32 = 10_000;
/// Length of a page for which nothing was said.
pub const DEFAULT_PAGE: u32 = 100;
/// Leases in a row that run out before a batch fails.
pub const MAX_LOST_LEASES: u32 = 10;

/// Refuses more than `limit`.
///
/// # Errors
/// `Limit`, with the field.
pub fn at_most(field: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual <= limit {
        return Ok(());
    }
    Err(Error::Limit { field, actual: actual as u64, limit: limit as u64 })
}

fn named(field: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Invalid { field, problem: "must not be empty".to_owned() });
    }
    at_most(field, text.len(), MAX_NAME_BYTES)
}

/// The name of a queue: the default one for an empty text.
///
/// # Errors
/// `Limit` and `Invalid`.
pub fn queue(name: &str) -> Result<&str, Error> {
    if name.is_empty() {
        return Ok(DEFAULT_QUEUE);
    }
    at_most("queue", name.len(), MAX_NAME_BYTES)?;
    if name.chars().any(char::is_control) {
        let problem = format!("{name:?} has control characters");
        return Err(Error::Invalid { field: "queue", problem });
    }
    Ok(name)
}

/// Checks a policy: the first value of it that makes no sense is named.
fn retry(policy: &RetryPolicy) -> Result<(), Error> {
    let problems = policy.validate().err().unwrap_or_default();
    let Some(problem) = problems.into_iter().next() else { return Ok(()) };
    let field = match problem.field {
        "max_retries" => "retry.max_retries",
        "base_ms" => "retry.base_ms",
        "factor" => "retry.factor",
        "cap_ms" => "retry.cap_ms",
        "jitter" => "retry.jitter",
        "deadline_ms" => "retry.deadline_ms",
        _ => "retry",
    };
    Err(Error::Invalid { field, problem: problem.message })
}

/// Checks one specification by itself.
///
/// # Errors
/// `Limit` and `Invalid`, with the field.
pub fn spec(spec: &BatchSpec) -> Result<(), Error> {
    queue(&spec.queue)?;
    at_most("depends_on", spec.depends_on.len(), MAX_PARENTS)?;
    at_most("dedup_key", spec.dedup_key.len(), MAX_NAME_BYTES)?;
    if spec.dedup_key.is_empty() != spec.dedup_window.is_zero() {
        let problem = "a key needs a window, and a window a key".to_owned();
        return Err(Error::Invalid { field: "dedup_window", problem });
    }
    if spec.dedup_window > MAX_DEDUP_WINDOW {
        let problem = format!("{:?} is over the limit of 30 days", spec.dedup_window);
        return Err(Error::Invalid { field: "dedup_window", problem });
    }
    spec.retry.as_ref().map_or(Ok(()), retry)?;
    at_most("parents", spec.parents.len(), MAX_PARENTS)?;
    at_most("locations", spec.locations.len(), MAX_LOCATIONS)?;
    at_most("tenant", spec.tenant.len(), MAX_NAME_BYTES)?;
    for (field, text) in [
        ("partition_key", &spec.partition_key),
        ("checksum", &spec.checksum),
        ("schema_fingerprint", &spec.schema_fingerprint),
        ("trace_context", &spec.trace_context),
    ] {
        at_most(field, text.len(), MAX_TEXT_BYTES)?;
    }
    for location in &spec.locations {
        if location.is_empty() {
            let problem = "must not hold empty addresses".to_owned();
            return Err(Error::Invalid { field: "locations", problem });
        }
        at_most("locations", location.len(), MAX_TEXT_BYTES)?;
    }
    Ok(())
}

/// Checks the limits of a queue.
///
/// # Errors
/// `Limit` and `Invalid`, with the field.
pub fn policy(policy: &QueuePolicy) -> Result<(), Error> {
    let invalid = |field, problem: &str| Err(Error::Invalid { field, problem: problem.to_owned() });
    if policy.max_leased == Some(0) {
        return invalid("max_leased", "0 is outside of 1 and up; pause the queue to give nothing");
    }
    if policy.max_leased_per_tenant == Some(0) {
        return invalid("max_leased_per_tenant", "0 is outside of 1 and up");
    }
    if let Some(rate) = policy.rate {
        if !(0.001..=1e6).contains(&rate.per_second) {
            let problem = format!("{} is outside of 0.001 to 1,000,000", rate.per_second);
            return invalid("rate.per_second", &problem);
        }
        if !(1..=1_000_000).contains(&rate.burst) {
            return invalid("rate.burst", &format!("{} is outside of 1 to 1,000,000", rate.burst));
        }
    }
    Ok(())
}

fn lease(field: &'static str, duration: Duration) -> Result<(), Error> {
    if (MIN_LEASE..=MAX_LEASE).contains(&duration) {
        return Ok(());
    }
    let problem = format!("{duration:?} is outside of 100 ms to 24 h");
    Err(Error::Invalid { field, problem })
}

/// Checks a claim by itself.
///
/// # Errors
/// `Limit` and `Invalid`, with the field.
pub fn claim(request: &ClaimRequest) -> Result<(), Error> {
    named("worker", &request.worker)?;
    named("request_id", &request.request_id)?;
    lease("lease", request.lease)?;
    at_most("queues", request.queues.len(), MAX_CLAIM_QUEUES)?;
    at_most("locations", request.locations.len(), MAX_LOCATIONS)?;
    at_most("ids", request.ids.len(), MAX_CLAIM as usize)?;
    at_most("max", request.max as usize, MAX_CLAIM as usize)?;
    if request.max == 0 && request.ids.is_empty() {
        let problem = "0 is outside of 1 to 1024".to_owned();
        return Err(Error::Invalid { field: "max", problem });
    }
    if request.wait > MAX_WAIT {
        let problem = format!("{:?} is over the limit of {MAX_WAIT:?}", request.wait);
        return Err(Error::Invalid { field: "wait", problem });
    }
    for name in &request.queues {
        queue(name)?;
    }
    Ok(())
}

/// Checks a settle by itself.
///
/// # Errors
/// `Limit` and `Invalid`, with the field.
pub fn settle(request: &SettleRequest) -> Result<(), Error> {
    at_most("outcomes", request.outcomes.len(), MAX_ITEMS)?;
    at_most("started", request.started.len(), MAX_ITEMS)?;
    let mut outputs = 0;
    for outcome in &request.outcomes {
        at_most("outputs", outcome.outputs.len(), MAX_OUTPUTS)?;
        outputs += outcome.outputs.len();
        if outcome.resolution != Resolution::Completed && !outcome.outputs.is_empty() {
            let problem = "belong to completed outcomes only".to_owned();
            return Err(Error::Invalid { field: "outputs", problem });
        }
        if outcome.delay > MAX_LEASE
            || (outcome.resolution != Resolution::Released && !outcome.delay.is_zero())
        {
            let problem = format!("{:?} is over 24 h, or not of a release", outcome.delay);
            return Err(Error::Invalid { field: "delay", problem });
        }
        outcome.outputs.iter().try_for_each(spec)?;
    }
    at_most("outputs", outputs, MAX_ITEMS)?;
    request.claim.as_ref().map_or(Ok(()), claim)
}

/// Checks extensions by themselves.
///
/// # Errors
/// `Limit` and `Invalid`, with the field.
pub fn extend(leases: &[Extension]) -> Result<(), Error> {
    at_most("leases", leases.len(), MAX_ITEMS)?;
    leases
        .iter()
        .filter_map(|extension| extension.duration)
        .try_for_each(|duration| lease("leases.duration", duration))
}

/// At most `limit` bytes of `text`, cut between characters.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let fits = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= limit);
    text[..fits.last().unwrap_or(0)].to_owned()
}

/// A failure with its message cut.
pub fn failure(failure: &Failure) -> Failure {
    Failure { message: cut(&failure.message, MAX_ERROR_BYTES), ..failure.clone() }
}

/// A progress with its note cut.
pub fn progress(progress: &Progress) -> Progress {
    Progress { note: cut(&progress.note, MAX_NOTE_BYTES), ..progress.clone() }
}
