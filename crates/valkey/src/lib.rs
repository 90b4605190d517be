//! The coordinator on Valkey: what must still happen to every batch, kept by
//! scripts on a server that many processes share.
//!
//! Any number of processes with a [`ValkeyCoordinator`] over the same server and
//! namespace are one coordinator: each call is one script, which Valkey runs
//! alone and to its end. All rules of [`Coordinator`](sheaf_coordinator::Coordinator)
//! hold as they do for the embedded one; the same suite and the same model test it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use sheaf_coordinator::{BatchSpec, ClaimRequest, Coordinator as _};
//! use sheaf_retry::SystemClock;
//! use sheaf_valkey::{Durability, ValkeyCoordinator};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let coordinator = ValkeyCoordinator::builder("valkey://localhost:6379")?
//!     .password("secret")
//!     .durability(Durability::Fsynced)
//!     .connect(SystemClock::shared())
//!     .await?;
//! coordinator.register(vec![BatchSpec::new("orders:1".parse()?)]).await?;
//! let request = ClaimRequest::new("worker-1", "claim-1", 16, Duration::from_secs(30));
//! let claim = coordinator.claim(request).await?;
//! assert_eq!(claim.leases.len(), 1);
//! coordinator.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Server
//! Valkey from 8.0 or Redis from 7.0: one server, the primary that Sentinels
//! name, or a Cluster (see [`Address`]), over TLS and with a user of an ACL where
//! asked for. [`Builder::connect`] refuses a server that could drop batches by
//! itself (`maxmemory-policy` must be `noeviction`), a replica, an old version, a
//! Cluster without all its slots, and a durability that it cannot keep.
//!
//! All keys of a coordinator begin with `{NAMESPACE}:` and are in one slot, for a
//! call is one step over any of them: a claim spans queues, and what a batch is
//! turned into may be of another. A Cluster serves one coordinator from one of its
//! primaries; coordinators of several namespaces spread over all.
//!
//! # Durability
//! | [`Durability`] | an answer means | lost when |
//! |---|---|---|
//! | `Async` | the primary has it, and writes it as its own `appendfsync` says | the primary dies before it wrote or replicated it |
//! | `Replicated` | one replica has it too (`WAIT`) | both die, or a replica without it is promoted |
//! | `Fsynced` | the primary has it on disk (`WAITAOF`) | the disk dies |
//!
//! Whether a registration was lost is told by `Query::History`: a server that was
//! started again, or another one, begins a new run, and what the run before had
//! acknowledged beyond that is not among what the history has. Claims are not
//! waited for: one that is lost is made again, with a greater token.
//!
//! # Keys
//! | key after the prefix | kind | holds |
//! |---|---|---|
//! | `m` | text | version, epoch and last token, run, last place, totals, when something is next due |
//! | `pr` | list | the runs before |
//! | `b:ID` | text | what never changes of a batch: its specification |
//! | `s:ID` | text | what became of it; not there while it is new and ready, or in a block |
//! | `k:PLACE`, `j:PLACE`, `bk` | texts, sorted set | a block: what batches from that place on have in common; their keys; all blocks |
//! | `od` | sorted set | batches in no block, by their place in the order of registration |
//! | `q:QUEUE`, `qs` | text, set | counts, switches and limits of a queue; all queues |
//! | `lv:`, `rg:`, `rc:`, `tn:` | sorted sets, hash | of a queue: priorities with work; of each, tenants with work, those at their limit, who was served last |
//! | `w:QUEUE PRIORITY TENANT`, `v:` | sorted sets | ready batches, by place; blocks of such |
//! | `d:QUEUE`, `dq` | sorted sets | scheduled batches by time; queues by the first |
//! | `cl:WORKER REQUEST`, `ls` | set or text, sorted set | places of the leases of a claim, and of blocks of them; or of the block that it shares with other claims; claims and shared blocks by when the first lease may run out |
//! | `ex`, `fi`, `de` | sorted sets | batches by expiry; finished ones, blocks of them too, and failed ones by time |
//! | `dk:`, `kt` | text, sorted set | dedup keys; when they are forgotten |
//! | `e:ID`, `ag` | sorted sets | who waits for a batch; batches whose end is yet to be told |
//! | `li:ID`, `lo:ID` | sorted sets | lineage: made from it, made into it |
//! | `th` | sorted set | queues out of tokens, by when there is one |
//! | `wk:QUEUE`, `wp:` | sorted sets | marks that wake a waiting claim |
//! | `ev` | stream | what changed, while somebody watches; 2,000 entries, gone an hour after the last |
//! | `bad:` | text | bytes of records that could not be read |
//! | `mv`, `mp` | text | the migration that the state is part of, and how far it has come |
//!
//! Nothing that lives has a time to live. A new batch of about 300 bytes costs 390 bytes
//! in a block, 520 alone (`cargo xtask bench valkey`).
//!
//! # Scripts
//! One library of functions (`scripts/`), named by its layout and the digest of its
//! text, loaded where a server does not know it; libraries of several versions run
//! beside each other. A call reads the state (`m`), begins a run if the server's
//! replication id is another one, does a bounded part of what is due, does what was
//! asked, and writes records before the indexes that lead to them. Batches of one
//! queue, tenant and priority to which nothing special has happened are registered,
//! given out and completed by a handful of commands, however many they are: 8 to 64
//! that were registered in one call are a block, whose state is kept once, and which
//! is taken apart as soon as something happens to one of them alone. So register in
//! calls of 64 and claim as many at once where speed counts.
//! Only the server's clock is read. Everything may be sent again.
//!
//! | function | does | bounded by |
//! |---|---|---|
//! | `register` | registers, all or none | the batches of the call |
//! | `work` | settles, starts, claims; without any of them: a sweep | the call, and 12 (24 in a sweep) of what is due |
//! | `extend` | prolongs leases | 48 |
//! | `control` | switches, limits, cancels, requeues | 24 batches |
//! | `sweep` | one step over all batches | 96 looked at, 16 changed |
//! | `get`, `list`, `stats` | read | 256, 96 of a list, 32 queues |
//! | `move`, `import`, `export` | move a whole state: see `sheaf_coordinator::migration` | 64 written, 256 read |
//!
//! # Failures
//! | what fails | what happens |
//! |---|---|
//! | a worker | its leases run out; a sweep of any process gives the batches back |
//! | a process between a wake and its claim | any other finds the work within a second |
//! | the connection | calls fail as `unavailable` and may be sent again; connections are made anew within a second, the one that listens within three |
//! | Valkey stops and comes back | every lease has its full time anew; tokens go on above all before |
//! | a replica is promoted | the same; what it had not received is missing from the history, and a Flight server registers it again |
//! | `FLUSHALL` | the same, for everything |
//! | Valkey is started again unheard by any replica, then lost, and the promoted replica's clock is behind | tokens go on above those that any process still running has seen; those of processes that are gone as well may repeat |
//! | `SCRIPT FLUSH`, `FUNCTION FLUSH` | the library is loaded again |
//! | memory is full | registrations are refused as `overloaded`; work goes on and makes room |
//! | a record cannot be read | its batch is `failed` with code `corrupt`, its bytes are kept |

mod address;
mod checks;
mod claims;
mod config;
mod connection;
mod control;
mod coordinator;
mod endpoint;
mod error;
mod group;
mod link;
mod listen;
mod metrics;
mod pack;
mod parking;
mod query;
mod register;
mod schedule;
mod script;
mod survey;
mod turns;
mod unpack;
mod watch;
mod work;

pub use address::Address;
pub use config::Durability;
pub use coordinator::{Builder, ValkeyCoordinator};
pub use endpoint::ValkeyEndpoint;
pub use survey::Survey;
