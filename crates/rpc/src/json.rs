//! The JSON of the Flight actions, as types.
//!
//! Requests refuse unknown fields; replies may gain fields, and readers are to
//! ignore those they do not know. An empty body is `{}`.
//!
//! # Values
//! | value | form |
//! |---|---|
//! | time | RFC 3339 in UTC with microseconds: `"2026-11-21T03:19:06.000000Z"` |
//! | fence | a **string** of decimal digits (JavaScript and `jq` lose digits of numbers above 2^53); on input a number is taken as well |
//! | batch id | 1 to 200 characters of `[A-Za-z0-9._:-]` |
//! | state | `waiting`, `pending`, `scheduled`, `processing`, `completed`, `failed`, `cancelled`, `expired` |
//! | verdict | `applied`, `already_done`, `stale` (an old fence, or the state does not allow it), `not_found` |
//! | duration | a whole number of milliseconds, in fields ending in `_ms` |
//! | retry | `{"max_retries": 3, "base_ms": 1000, "factor": 2.0, "cap_ms": 300000, "jitter": 0.2, "deadline_ms": …}`; every field that is left out has that default, whatever the server is set to for batches without `retry`; `max_retries` is at most 1,000, `base_ms` at most `cap_ms`, `factor` 1 to 100, `cap_ms` at most 7 days, `jitter` 0 to 1, `deadline_ms` at least 1 |
//!
//! # Work
//! | action | request | reply |
//! |---|---|---|
//! | `RegisterBatch` | [`SpecInput`], or `{"batches": [SpecInput…]}` | [`RegisteredRecord`], or `{"batches": […]}` |
//! | `Claim` | [`ClaimInput`]: `{"worker", "max"?: 1, "max_bytes"?, "max_rows"?, "wait_ms"?, "lease_ms"?, "queue"?, "batch_id"?, "locations"?, "request_id"?, "start"?: true}` | [`ClaimOutput`]: `{"leases": [{"batch_id", "fence", "deadline", "attempt", "location", "ticket", "rows", "bytes", "queue", …}], "now", "next_due"}` |
//! | `Extend` | [`ExtendInput`]: `{"leases": [{"batch_id", "fence", "started"?, "progress"?, "lease_ms"?}]}` | [`ExtendOutput`]: `{"leases": [{"batch_id", "verdict", "deadline", "cancelled"}]}` |
//! | `Settle` | [`SettleInput`]: `{"outcomes": [{"batch_id", "fence", "result": "completed\|failed\|released", "error"?, "permanent"?, "outputs"?}], "started"?, "claim"?}` | [`SettleOutput`]: `{"outcomes": [{"batch_id", "verdict", "state"}], "started", "claim"}` |
//! | `Recovery` | [`RecoveryInput`]: `{"leases": [{"batch_id", "fence"}]}` | [`RecoveryOutput`]: `{"leases": [{"batch_id", "standing": "current\|settled\|stale\|not_found", "state"}]}` |
//!
//! A claim charges the attempt at once, since a plain client does not
//! prefetch; one that does says `"start": false` and names the lease in
//! `started` (of `Settle`) or says `"started": true` (in `Extend`) when it
//! begins. `error` is a text or `{"code"?, "message", "permanent"?}`; `outputs`
//! are identifiers or objects as for `RegisterBatch`.
//!
//! # Reading
//! | action | request | reply |
//! |---|---|---|
//! | `GetBatch` | `{"batch_id"}`, or `{"batch_ids": […]}` | [`BatchRecord`], or [`PageOutput`] without unknown ones |
//! | `ListBatches` | [`ListInput`]: `{"state"?, "queue"?, "prefix"?, "parent"?, "limit"?: 100, "cursor"?}` | [`PageOutput`]: `{"batches": [BatchRecord…], "next_cursor": null}` |
//! | `Stats` | [`StatsInput`]: `{"queue"?}` | [`StatsOutput`]: `{"counts": {"waiting": 0, …}, "purged", "queues": [{"queue", "paused", "draining", "counts", …}]}` |
//! | `Lineage` | [`LineageInput`]: `{"batch_id", "direction"?: "ancestors\|descendants", "depth"?, "limit"?: 100}` | [`LineageOutput`]: `{"batches": [{"batch_id", "depth", "state", "queue"}], "links": [{"parent", "child"}], "truncated"}` |
//! | `CoordinatorInfo` | `{}` | [`InfoOutput`]: `{"runs": [{"run", "end"}]}`: which registrations it has seen |
//! | `WatchEvents` | [`WatchInput`]: `{"queue"?, "batch_ids"?, "state"?, "wait_ms"?, "max"?: 1000}`, then `{"session", "seen", "wait_ms"?, "max"?}` | [`WatchOutput`]: `{"session", "number", "events": [{"batch_id", "queue", "from", "to", "at", …}], "missed"}` |
//!
//! # Changes by hand
//! | action | request | reply |
//! |---|---|---|
//! | `RequeueBatch` | `{"batch_id"}`, `{"batch_ids": […]}`, or `{"queue"}`: all failed ones of it | [`ControlOutput`]: `{"batches": [{"batch_id", "verdict", "state"}], "count"}` |
//! | `CancelBatch` | `{"batch_id"}` or `{"batch_ids": […]}` | the same |
//! | `PurgeBatches` | [`PurgeInput`]: at least one of `{"queue"?, "state"?, "finished_before_ms"?}`, or `{"all": true}` for every terminal batch | the same |
//! | `ExpireBatches` | [`ExpireInput`]: `{"older_than_ms"}` | the same |
//! | `PauseQueue`, `ResumeQueue`, `DrainQueue` | [`QueueInput`]: `{"queue"?: "default"}` | the same |
//! | `ConfigureQueue` | [`ConfigureInput`]: `{"queue"?, "max_leased"?, "max_leased_per_tenant"?, "rate"?: {"per_second", "burst"}, "max_live_bytes"?}`: all limits at once; `Stats` shows them as `policy` | the same |
//!
//! With `batch_id`, an unknown batch is the error `not_found`, and one whose
//! state does not allow the change is `failed_precondition`; with `batch_ids`
//! each has its verdict and the call succeeds.

mod admin;
mod flexible;
mod queue;
mod record;
mod scalar;
mod spec;
mod work;

pub use admin::{
    ChangeRecord, ControlOutput, ExpireInput, ListInput, PageOutput, PurgeInput, QueueInput,
    QueueRecord, RecoveredRecord, RecoveryInput, RecoveryOutput, RegisteredRecord, SelectInput,
    StatsInput, StatsOutput, WatchInput, WatchOutput,
};
pub use queue::{
    ConfigureInput, InfoInput, InfoOutput, LineageInput, LineageOutput, LineageRecord, LinkRecord,
    PositionRecord, RunRecord,
};
pub use record::{BatchRecord, FailureRecord, HolderRecord, SettledRecord};
pub(crate) use scalar::millis;
pub use scalar::{FenceText, Hex, OneOrMany, Rfc3339};
pub use spec::{SpecInput, SpecRecord};
pub use work::{
    ClaimInput, ClaimOutput, ErrorInput, ExtendInput, ExtendOutput, ExtendedRecord, ExtensionInput,
    LeaseInput, LeaseRecord, OutcomeInput, OutputInput, ProgressInput, SettleInput, SettleOutput,
    VerdictRecord,
};
