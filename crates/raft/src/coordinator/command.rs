//! Calls as entries of the log, and the answers to them.

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{self, WireType};
use sheaf_coordinator::engine;
use sheaf_coordinator::migration::{Migration, Phase};
use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Control, ControlReply, Error, Extended, Extension, Registered,
    SettleReply, SettleRequest, wire,
};
use sheaf_proto::raft::v1 as proto;
use sheaf_proto::raft::v1::call_reply::Reply;
use sheaf_proto::raft::v1::coordinator_call::Call as Message;
use sheaf_proto::storage::v1::{CoordinatorMeta, QueueRecord};
use sheaf_retry::{Code, Timestamp};

use super::failure;

/// The version that commands are written with; nodes refuse greater ones.
pub const COMMAND_VERSION: u32 = 1;

/// One call of a command.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Register(Vec<BatchSpec>),
    Claim(ClaimRequest),
    Settle(SettleRequest),
    Extend(Vec<Extension>),
    /// A step, and where the one before ended.
    Control(Control, u64),
    Lead {
        node: u64,
        run: u64,
        config: Box<engine::Config>,
    },
    Enter {
        phase: Phase,
        run: u64,
    },
    Fill {
        migration: Migration,
        meta: Box<CoordinatorMeta>,
        queues: Vec<QueueRecord>,
    },
    Import(Vec<(u64, Bytes)>),
    Discard {
        run: u64,
    },
}

/// The answer to a call that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Registered(Vec<Registered>),
    Claimed(Claim),
    Settled(SettleReply),
    Extended(Vec<Extended>),
    Controlled(ControlReply, Option<u64>),
    /// Of a fill: the last batch that is there.
    Done(u64),
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::Invalid { field: "command", problem: problem.into() }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The part of a configuration that decides what becomes of batches: all of it.
pub(super) fn config_message(config: &engine::Config) -> proto::EngineConfig {
    proto::EngineConfig {
        retry: Some(wire::retry_policy(&config.retry)),
        max_live: config.max_live,
        max_live_bytes: config.max_live_bytes,
        max_keys: config.max_keys as u64,
        max_dependencies: config.max_dependencies as u64,
        keep_finished_us: micros(config.keep_finished),
        max_finished: config.max_finished as u64,
        keep_failed_us: micros(config.keep_failed),
        max_failed: config.max_failed as u64,
        locality_wait_us: micros(config.locality_wait),
    }
}

pub(super) fn config(message: &proto::EngineConfig) -> Result<engine::Config, Error> {
    let retry = message.retry.as_ref().ok_or_else(|| invalid("its retry policy is missing"))?;
    let time = std::time::Duration::from_micros;
    Ok(engine::Config {
        retry: wire::to_retry_policy(retry)?,
        max_live: message.max_live,
        max_live_bytes: message.max_live_bytes,
        max_keys: count(message.max_keys),
        max_dependencies: count(message.max_dependencies),
        keep_finished: time(message.keep_finished_us),
        max_finished: count(message.max_finished),
        keep_failed: time(message.keep_failed_us),
        max_failed: count(message.max_failed),
        locality_wait: time(message.locality_wait_us),
    })
}

impl Call {
    /// Bytes for [`command`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let message = match self {
            Call::Register(specs) => Message::Register(wire::register_request(specs)),
            Call::Claim(request) => Message::Claim(request.into()),
            Call::Settle(request) => Message::Settle(request.into()),
            Call::Extend(leases) => Message::Extend(wire::extend_request(leases)),
            Call::Control(control, from) => {
                Message::Control(proto::ControlStep { control: Some(control.into()), from: *from })
            }
            Call::Lead { node, run, config } => Message::Lead(proto::Lead {
                node: *node,
                run: *run,
                config: Some(config_message(config)),
            }),
            Call::Enter { phase, run } => {
                Message::Enter(proto::EnterPhase { phase: phase.to_stored(), run: *run })
            }
            Call::Fill { migration, meta, queues } => Message::Fill(proto::Fill {
                migration: Phase::Filling(migration.clone()).to_stored(),
                meta: Some((**meta).clone()),
                queues: queues.clone(),
            }),
            Call::Import(batches) => {
                let stored = batches.iter().map(|(sequence, record)| proto::StoredBatch {
                    sequence: *sequence,
                    record: record.clone(),
                });
                Message::Import(proto::Import { batches: stored.collect() })
            }
            Call::Discard { run } => Message::Discard(proto::Discard { run: *run }),
        };
        proto::CoordinatorCall { call: Some(message) }.encode_to_vec()
    }

    /// What [`Call::encode`] was given; every field is checked.
    pub(super) fn read(message: proto::CoordinatorCall) -> Result<Self, Error> {
        let message = message.call.ok_or_else(|| invalid("a call is of no known kind"))?;
        Ok(match message {
            Message::Register(message) => Call::Register(wire::specs(message)?),
            Message::Claim(message) => Call::Claim(message.try_into()?),
            Message::Settle(message) => Call::Settle(message.try_into()?),
            Message::Extend(message) => Call::Extend(wire::extensions(message)?),
            Message::Control(step) => {
                let control = step.control.ok_or_else(|| invalid("the control is missing"))?;
                Call::Control(control.try_into()?, step.from)
            }
            Message::Lead(lead) => {
                let given = lead.config.as_ref();
                let given = given.ok_or_else(|| invalid("the configuration is missing"))?;
                let config = Box::new(config(given)?);
                Call::Lead { node: lead.node, run: lead.run, config }
            }
            Message::Enter(enter) => Call::Enter { phase: phase(enter.phase)?, run: enter.run },
            Message::Fill(fill) => {
                let Phase::Filling(migration) = phase(fill.migration)? else {
                    return Err(invalid("the migration to be filled from is missing"));
                };
                let meta = Box::new(fill.meta.unwrap_or_default());
                Call::Fill { migration, meta, queues: fill.queues }
            }
            Message::Import(import) => {
                let stored = import.batches.into_iter();
                Call::Import(stored.map(|batch| (batch.sequence, batch.record)).collect())
            }
            Message::Discard(discard) => Call::Discard { run: discard.run },
        })
    }
}

fn phase(stored: Option<sheaf_proto::storage::v1::Migration>) -> Result<Phase, Error> {
    stored.map_or(Ok(Phase::Serving), Phase::from_stored)
}

/// Tag of the calls of a command.
const CALLS: u32 = 3;

/// An entry of encoded calls, done at `now`. Put together by hand, so that each
/// call is encoded by its own caller and copied once.
pub(super) fn command<'a>(now: Timestamp, calls: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let head =
        proto::CoordinatorCommand { version: COMMAND_VERSION, now: now.as_micros(), calls: vec![] };
    let mut bytes = head.encode_to_vec();
    for call in calls {
        encoding::encode_key(CALLS, WireType::LengthDelimited, &mut bytes);
        encoding::encode_varint(call.len() as u64, &mut bytes);
        bytes.extend_from_slice(call);
    }
    bytes.into()
}

/// The answer to one call, as it is written.
pub(super) fn reply(result: Result<Answer, Error>) -> proto::CallReply {
    let reply = match result {
        Ok(Answer::Registered(registered)) => {
            Reply::Registered(wire::register_response(&registered))
        }
        Ok(Answer::Claimed(claim)) => Reply::Claimed((&claim).into()),
        Ok(Answer::Settled(settled)) => Reply::Settled((&settled).into()),
        Ok(Answer::Extended(leases)) => Reply::Extended(wire::extend_response(&leases)),
        Ok(Answer::Controlled(reply, rest)) => {
            Reply::Controlled(proto::Controlled { response: Some((&reply).into()), rest })
        }
        Ok(Answer::Done(last)) => Reply::Done(proto::Done { last }),
        Err(error) => Reply::Error(failure::message(&error)),
    };
    proto::CallReply { reply: Some(reply) }
}

/// What became of the calls of a command.
pub(super) struct Replies {
    /// One for each, in order.
    pub(super) all: Vec<proto::CallReply>,
}

/// What the state machine answered.
///
/// # Errors
/// Why it refused the command as a whole.
pub(super) fn replies(bytes: &Bytes, name: failure::Names<'_>) -> Result<Replies, Error> {
    let reply = proto::CoordinatorReply::decode(bytes.clone());
    let reply = reply.map_err(|error| lost(error.to_string()))?;
    match reply.refused {
        Some(refused) => Err(failure::read(&refused, name)),
        None => Ok(Replies { all: reply.replies }),
    }
}

/// The answer to one call.
pub(super) fn answer(message: proto::CallReply, name: failure::Names<'_>) -> Result<Answer, Error> {
    let message = message.reply.ok_or_else(|| lost("there is no answer".to_owned()))?;
    Ok(match message {
        Reply::Registered(message) => Answer::Registered(wire::registered(message)?),
        Reply::Claimed(message) => Answer::Claimed(message.try_into()?),
        Reply::Settled(message) => Answer::Settled(message.try_into()?),
        Reply::Extended(message) => Answer::Extended(wire::extended(message)?),
        Reply::Controlled(message) => {
            let response = message.response.unwrap_or_default();
            Answer::Controlled(response.try_into()?, message.rest)
        }
        Reply::Done(message) => Answer::Done(message.last),
        Reply::Error(error) => return Err(failure::read(&error, name)),
    })
}

/// An answer that the state machine of this build does not give.
pub(super) fn lost(problem: String) -> Error {
    Error::Backend {
        operation: format!("read what the state machine answered: {problem}"),
        code: Code::Internal,
        source: None,
    }
}
