//! The state in a namespace of Valkey, as something to move from and to.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::Value;
use sheaf_coordinator::migration::{
    Endpoint, Head, Migration, Phase, Queue, Record, Waited, in_use,
};
use sheaf_coordinator::{Error, Fence, State};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use crate::checks;
use crate::config::{Durability, Settings};
use crate::coordinator::Builder;
use crate::error::{damaged, unexpected};
use crate::link::{Link, Refusal};
use crate::pack::{self, Packed};
use crate::query::{history, queue_names, queue_stats};
use crate::unpack::{self, BASE, Reader};
use crate::work::{bytes, list};

/// Records that one call reads.
const EXPORT_PER_CALL: usize = 256;
/// Records that one call writes: some milliseconds, of a server that nobody else
/// asks for batches of this namespace.
const IMPORT_PER_CALL: usize = 64;
/// Keys that are looked at for one to forget.
const FORGET_PER_CALL: i64 = 1_000;

/// See the module. While it is moved, every [`ValkeyCoordinator`] on it refuses
/// calls.
///
/// [`ValkeyCoordinator`]: crate::ValkeyCoordinator
#[derive(Debug)]
pub struct ValkeyEndpoint {
    link: Arc<Link>,
    settings: Settings,
}

impl Builder {
    /// Connects to move a state from here or to here. What is written there is on
    /// disk, where the server keeps an append-only file, before a source is given up.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn endpoint(self) -> Result<ValkeyEndpoint, Error> {
        let mut settings = self.settings;
        settings.connections = 1;
        settings.check()?;
        let packed = pack::settings(&settings.engine);
        let link = Link::connect(&settings, packed.clone()).await?;
        checks::server(&link, &settings).await?;
        if settings.durability == Durability::Async {
            let mut safer = settings.clone();
            safer.durability = Durability::Fsynced;
            // Refused where it keeps no such file: what it can do is then all there is.
            if checks::server(&link, &safer).await.is_ok() {
                link.close().await;
                let link = Link::connect(&safer, packed).await?;
                return Ok(ValkeyEndpoint { link, settings: safer });
            }
        }
        Ok(ValkeyEndpoint { link, settings })
    }
}

/// What it is called in messages: without user and password.
pub(crate) fn name(settings: &Settings) -> String {
    let database = settings.address.database();
    let database = if database == 0 { String::new() } else { format!("/{database}") };
    format!("{}{database} (namespace {})", settings.address, settings.namespace)
}

/// What the script says of a state.
struct Look {
    phase: Phase,
    /// As it is stored.
    mark: Bytes,
    /// Where a state that is being filled has come to in the source.
    reached: u64,
    batches: u64,
    leases: u64,
    last_fence: Fence,
}

/// The version that stands for a phase.
fn version(phase: &Phase) -> &'static str {
    match phase {
        Phase::Serving => "1",
        Phase::Draining(_) => "1001",
        Phase::Frozen(_) => "1002",
        Phase::Moved(_) => "1003",
        Phase::Filling(_) => "1004",
    }
}

impl ValkeyEndpoint {
    /// Ends the connection.
    pub async fn close(&self) {
        self.link.close().await;
    }

    async fn ask(&self, arguments: Vec<Bytes>, durable: bool) -> Result<Look, Error> {
        let answer = self.link.call(&self.link.library().migrate, arguments, durable).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal))?;
        let mut next = || answer.next().unwrap_or(Value::Null);
        let (_version, mark) = (next(), bytes(next()));
        let phase = Phase::decode(&mark)?;
        let mut number = || next().as_string().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (reached, batches, leases) = (number(), number(), number());
        let fence = bytes(next());
        let mut reader = Reader(&fence);
        let mut fence = || Ok(pack::join(reader.u32()?, reader.u64()?));
        let last_fence = fence().map_err(damaged("read the last token"))?;
        Ok(Look { phase, mark, reached, batches, leases, last_fence })
    }

    async fn look(&self) -> Result<Look, Error> {
        self.ask(vec![Bytes::from_static(b"look")], false).await
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let name = name(&self.settings);
        if refusal.word == "moving" {
            let phase = Phase::decode(&refusal.bytes(0)).unwrap_or(Phase::Serving);
            return phase.refusal(&name).unwrap_or_else(|| in_use(&name));
        }
        let operation = format!("{name} was written by a newer version of this program");
        Error::Backend { operation, code: Code::FormatNewer, source: None }
    }

    /// Batches that are waited for, with their places.
    async fn places(&self, ids: &[BatchId]) -> Result<Vec<Waited>, Error> {
        let mut arguments = vec![Value::from(self.link.key("od"))];
        arguments.extend(ids.iter().map(|id| Value::from(id.as_str())));
        let scores = list(Some(self.link.command_of("ZMSCORE", arguments).await?));
        let place = |value: &Value| {
            let score = value.as_f64().unwrap_or(0.0);
            Reader(&score.to_le_bytes()).whole().unwrap_or(0)
        };
        let pairs = ids.iter().zip(&scores);
        Ok(pairs.map(|(id, value)| Waited { id: id.clone(), sequence: place(value) }).collect())
    }

    async fn record(&self, parts: [Value; 4]) -> Result<Record, Error> {
        let [id, fixed, state, place] = parts.map(bytes);
        let place = std::str::from_utf8(&place).ok().and_then(|text| text.parse().ok());
        let place: u64 = place.ok_or_else(|| unexpected("export"))?;
        let id = unpack::id(&id).map_err(damaged("read the name of a batch"))?;
        let read = unpack::record(&id, &fixed, &state, place);
        let (batch, rest) = match read.and_then(|batch| Ok((batch, unpack::rest(&state)?))) {
            Ok(read) => read,
            Err(_) => {
                let at = Timestamp::from_micros(place.saturating_add(BASE));
                return Ok(Record::damaged(place, Some(id), "its record could not be read", at));
            }
        };
        let (expires_at, waits) = rest;
        let waits_for = if batch.state == State::Waiting && !waits.is_empty() {
            self.places(&waits).await?
        } else {
            Vec::new()
        };
        Ok(Record { sequence: place, batch, expires_at, waits_for })
    }

    async fn import(&self, records: &[Record]) -> Result<(), Error> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut arguments = vec![Bytes::from(last.sequence.to_string())];
        for record in records {
            let spec = &record.batch.spec;
            let place = record.batch.registered_at.as_micros().saturating_sub(BASE);
            arguments.extend(pack::spec(self.link.prefix(), spec)?);
            arguments.push(pack::state(record));
            arguments.push(Bytes::from(place.to_string()));
        }
        let answer = self.link.call(&self.link.library().import, arguments, false).await?;
        answer.map(drop).map_err(|refusal| self.refused(&refusal))
    }

    /// Sets the limits and switches of a queue.
    async fn set_queue(&self, queue: &Queue) -> Result<(), Error> {
        let arguments = vec![
            Bytes::from_static(b"queue"),
            Bytes::from(queue.name.clone()),
            Bytes::from(u8::from(queue.paused).to_string()),
            Bytes::from(u8::from(queue.draining).to_string()),
            Bytes::from(queue.purged.to_string()),
            pack::queue_policy(&queue.policy),
        ];
        self.ask(arguments, false).await.map(drop)
    }

    /// Unlinks all keys but those that say what is going on.
    async fn unlink(&self) -> Result<(), Error> {
        let keep = [self.link.key("m"), self.link.key("mv")];
        let pattern = format!("{}*", self.link.prefix());
        let mut cursor = "0".to_owned();
        loop {
            let arguments = vec![
                Value::from(cursor.as_str()),
                "MATCH".into(),
                pattern.as_str().into(),
                "COUNT".into(),
                Value::Integer(FORGET_PER_CALL),
            ];
            let mut answer = list(Some(self.link.command_of("SCAN", arguments).await?)).into_iter();
            cursor = answer.next().and_then(|next| next.as_string()).unwrap_or_default();
            let keys = list(answer.next()).into_iter();
            let keys = keys.filter(|key| key.as_string().is_none_or(|key| !keep.contains(&key)));
            let keys: Vec<Value> = keys.collect();
            if !keys.is_empty() {
                self.link.command_of("UNLINK", keys).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Endpoint for ValkeyEndpoint {
    fn name(&self) -> String {
        name(&self.settings)
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn phase(&mut self) -> Result<Phase, Error> {
        Ok(self.look().await?.phase)
    }

    async fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        let now = self.look().await?;
        now.phase.check(phase, &self.name())?;
        let (mark, version) = (Bytes::from(phase.encode()), Bytes::from(version(phase)));
        let arguments = vec![Bytes::from_static(b"enter"), mark, now.mark, version];
        self.ask(arguments, true).await.map(drop)
    }

    async fn head(&mut self) -> Result<Head, Error> {
        let look = self.look().await?;
        let mut names = queue_names(&self.link).await?;
        names.sort_unstable();
        let queues = queue_stats(&self.link, &names).await?.into_iter().map(|stats| Queue {
            name: stats.queue,
            paused: stats.paused,
            draining: stats.draining,
            purged: stats.purged,
            policy: stats.policy,
        });
        let mut history = history(&self.link).await?;
        history.runs.retain(|run| run.id != 0);
        Ok(Head {
            batches: look.batches,
            leases: look.leases,
            last_fence: look.last_fence,
            history,
            queues: queues.collect(),
        })
    }

    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error> {
        let arguments =
            vec![Bytes::from(after.to_string()), Bytes::from(EXPORT_PER_CALL.to_string())];
        let answer = self.link.call(&self.link.library().export, arguments, false).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal))?;
        let mut values = list(answer.next()).into_iter();
        let mut records = Vec::with_capacity(values.len() / 4);
        while let (Some(id), Some(fixed), Some(state), Some(place)) =
            (values.next(), values.next(), values.next(), values.next())
        {
            records.push(self.record([id, fixed, state, place]).await?);
        }
        Ok(records)
    }

    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error> {
        let wanted = Phase::Filling(migration.clone());
        let now = self.look().await?;
        now.phase.check(&wanted, &self.name())?;
        if matches!(now.phase, Phase::Serving) {
            let mut token = Packed::default();
            token.fence(head.last_fence);
            let mark = Bytes::from(wanted.encode());
            let mut arguments = vec![Bytes::from_static(b"fill"), mark, now.mark, token.done()];
            let runs = head.history.runs.iter();
            arguments.extend(runs.map(|run| Bytes::from(format!("{}:{}", run.id, run.end))));
            self.ask(arguments, true).await?;
        }
        for queue in &head.queues {
            self.set_queue(queue).await?;
        }
        Ok(now.reached)
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        for part in records.chunks(IMPORT_PER_CALL) {
            self.import(part).await?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Error> {
        self.ask(vec![Bytes::from_static(b"look")], true).await.map(drop)
    }

    async fn discard(&mut self) -> Result<(), Error> {
        let now = self.look().await?;
        if !matches!(now.phase, Phase::Filling(_) | Phase::Moved(_)) {
            now.phase.check(&Phase::Serving, &self.name())?;
            return Err(in_use(&self.name()));
        }
        self.unlink().await?;
        let arguments = vec![Bytes::from_static(b"forget"), Bytes::new(), now.mark];
        self.ask(arguments, true).await.map(drop)
    }
}
