//! One sender's conversation: its chunks one way, credit and receipts the other.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::{Message, MessageStream};
use sheaf_retry::Code;

use crate::shuffle::engine::{Exchange, Promise, UnderWay};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Sender, Totals};
use crate::shuffle::wire::fragments::Gathering;
use crate::shuffle::wire::read_hexadecimal;
use crate::shuffle::wire::talk::{Answer, MAX_ANNOUNCED, Place, Said};

/// Memory for chunks that have credit and did not come yet; the first may be larger.
const MAX_CREDIT: u64 = 32 << 20;

/// How long a sender has credit that it does not use, where others wait for room.
const UNUSED: Duration = Duration::from_secs(5);

/// A conversation under way.
///
/// It never stops to read: nothing comes for which there was no credit, so that
/// no window of the connection is held by what waits for memory.
pub(super) struct Conversation {
    exchange: Exchange,
    _under_way: UnderWay,
    query: String,
    stage: u32,
    sender: Sender,
    begun: BTreeSet<u32>,
    /// Chunks that wait for credit, and those that have it.
    wanted: VecDeque<u64>,
    credited: VecDeque<u64>,
    /// So many of them have no room any more, and find some or not.
    lapsed: usize,
    /// What those that have credit take.
    credit: u64,
    /// When credit was given or used, as the clock says.
    used: Duration,
    promise: Promise,
    gathering: Gathering,
    is_told_full: bool,
    answers: VecDeque<Answer>,
    /// What is said after the answers.
    failure: Option<sheaf_flight::Error>,
    messages: MessageStream,
    is_over: bool,
}

impl Conversation {
    /// Begins with the first message, which has the schema.
    pub(super) async fn begin(
        exchange: Exchange,
        (query, stage): (String, u32),
        sender: Sender,
        mut messages: MessageStream,
    ) -> Result<Self, sheaf_flight::Error> {
        let empty = || Error::Protocol("the stream is empty; the schema comes first".to_owned());
        let schema = messages.try_next().await?.ok_or_else(empty)?;
        let Said::Begin { partitions } = Said::read(&schema)? else {
            let text = "the first message is no begin, which comes with the schema";
            return Err(Error::Protocol(text.to_owned()).into());
        };
        let under_way = exchange.under_way();
        let mut places = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let key = PartitionKey::try_new(&query, stage, partition)?;
            let next_sequence = exchange.begin(&key, sender, &schema)?;
            places.push(Place { partition, next_sequence });
        }
        let begun = places.iter().map(|place| place.partition).collect();
        let (promise, used) = (exchange.promise(), exchange.clock().elapsed());
        let answers = VecDeque::from([Answer::Begun(places)]);
        let (wanted, credited, lapsed, credit) = Default::default();
        let (is_told_full, failure, is_over) = (false, None, false);
        Ok(Conversation {
            exchange,
            _under_way: under_way,
            query,
            stage,
            sender,
            begun,
            wanted,
            credited,
            lapsed,
            credit,
            used,
            promise,
            gathering: Gathering::default(),
            is_told_full,
            answers,
            failure,
            messages,
            is_over,
        })
    }

    /// The answers, as a stream.
    pub(super) fn answers(self) -> MessageStream {
        let answers = stream::try_unfold(self, |mut this| async move {
            let answer = this.next().await?;
            Ok(answer.map(|message| (message, this)))
        });
        answers.boxed()
    }

    async fn next(&mut self) -> Result<Option<Message>, sheaf_flight::Error> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(Some(answer.message()?));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.is_over {
                return Ok(None);
            }
            // Before it looks: what is freed after that wakes it.
            let freed = self.exchange.freed();
            self.grant();
            if !self.answers.is_empty() || self.failure.is_some() {
                continue;
            }
            let has_room = self.credited.len() > self.lapsed;
            let now = self.exchange.clock().elapsed();
            let left = (self.used + UNUSED).saturating_sub(now);
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                () = self.exchange.clock().sleep(left), if has_room => {
                    self.lapse()?;
                    continue;
                }
                () = freed, if !self.wanted.is_empty() => continue,
            };
            match message.transpose()? {
                Some(message) => self.take(message),
                None => self.is_over = true,
            }
        }
    }

    /// Credit was not used for a while: where others wait, they get its room. The
    /// sender is not told: what it sends late finds room, or is refused.
    fn lapse(&mut self) -> Result<(), Error> {
        self.used = self.exchange.clock().elapsed();
        if !self.promise.has_rivals() {
            return Ok(());
        }
        if self.gathering.is_open() {
            // What came of it is memory that only the promise counts.
            let text = format!(
                "no fragment came for {} s, and others wait for its room: send the chunk again",
                UNUSED.as_secs()
            );
            return Err(Error::Flight(sheaf_flight::Error::new(Code::Unavailable, text)));
        }
        self.lapsed = self.credited.len();
        self.promise.void();
        self.exchange.say_freed();
        Ok(())
    }

    /// Gives credit for as many chunks as there is room for.
    fn grant(&mut self) {
        let mut credit = 0;
        let claim = self.exchange.claim(&self.query, self.stage, self.sender.index);
        while let Some(bytes) = self.wanted.front().copied() {
            let needed = Promise::needed(bytes);
            if self.credit > 0 && self.credit.saturating_add(needed) > MAX_CREDIT {
                break;
            }
            if let Err(full) = self.promise.add(bytes, claim) {
                if full.needed > full.limit {
                    self.failure = Some(Error::Memory(full).into());
                    break;
                }
                // Promises to others are no room either.
                let promised = full.used.saturating_sub(self.exchange.budget().used());
                self.exchange.want_room(full.needed.saturating_add(promised));
                if !self.is_told_full {
                    self.is_told_full = true;
                    let sheaf_flight::Full { needed, used, limit } = full;
                    self.answers.push_back(Answer::Full { needed, used, limit });
                }
                break;
            }
            self.is_told_full = false;
            self.credit = self.credit.saturating_add(needed);
            credit += bytes;
            self.credited.extend(self.wanted.pop_front());
        }
        if credit > 0 {
            self.used = self.exchange.clock().elapsed();
            self.answers.push_front(Answer::Credit(credit));
            // Those behind it are next.
            self.exchange.say_freed();
        }
    }

    fn take(&mut self, message: Message) {
        let said = match Said::read(&message) {
            Ok(said) => said,
            Err(error) => return self.fail(None, error),
        };
        let partition = match &said {
            Said::Chunk { partition, .. } | Said::Commit { partition, .. } => Some(*partition),
            Said::Begin { .. } | Said::Want(_) => None,
        };
        if let Err(error) = self.hear(said, message) {
            self.fail(partition, error);
        }
    }

    fn fail(&mut self, partition: Option<u32>, error: Error) {
        self.answers.extend(partition.map(|partition| Answer::Failed { partition }));
        self.failure = Some(error.into());
    }

    fn hear(&mut self, said: Said, message: Message) -> Result<(), Error> {
        match said {
            Said::Begin { .. } => Err(Error::Protocol("a second begin comes".to_owned())),
            Said::Want(chunks) => {
                if self.wanted.len() + self.credited.len() + chunks.len() > MAX_ANNOUNCED {
                    let text =
                        format!("more than {MAX_ANNOUNCED} chunks are announced and not sent");
                    return Err(Error::Protocol(text));
                }
                if chunks.contains(&0) {
                    let text = "a chunk of 0 bytes is announced; each has a header";
                    return Err(Error::Protocol(text.to_owned()));
                }
                self.wanted.extend(chunks);
                Ok(())
            }
            Said::Chunk { partition, sequence, crc32c, part } => {
                let found = (message.header.len() + message.body_len()) as u64;
                let bytes = part.map_or(found, |part| part.bytes);
                if part.is_some() && self.credited.front() != Some(&bytes) {
                    return Err(no_credit(partition, sequence, bytes));
                }
                let gathered = self.gathering.add((partition, sequence), part, message)?;
                self.used = self.exchange.clock().elapsed();
                let Some(message) = gathered else { return Ok(()) };
                if self.credited.pop_front() != Some(bytes) {
                    return Err(no_credit(partition, sequence, bytes));
                }
                let crc = read_hexadecimal(sequence, &crc32c)?;
                let key = self.key(partition)?;
                // Nobody takes the room in between but senders of single puts.
                match self.lapsed.checked_sub(1) {
                    Some(lapsed) => {
                        self.lapsed = lapsed;
                        self.exchange.admit(&key, self.sender, &message)?;
                    }
                    None => self.promise.kept(bytes),
                }
                self.credit = self.credit.saturating_sub(Promise::needed(bytes));
                self.exchange.push(&key, self.sender, sequence, Some(crc), message)?;
                let next_sequence = sequence + 1;
                self.answers.push_back(Answer::Taken(Place { partition, next_sequence }));
                Ok(())
            }
            Said::Commit { partition, chunks, rows } => {
                let key = self.key(partition)?;
                self.exchange.commit(&key, self.sender, Totals { chunks, rows })?;
                self.answers.push_back(Answer::Committed { partition });
                Ok(())
            }
        }
    }

    fn key(&self, partition: u32) -> Result<PartitionKey, Error> {
        if !self.begun.contains(&partition) {
            let text = format!("partition {partition} is none of those that were begun");
            return Err(Error::Protocol(text));
        }
        PartitionKey::try_new(&self.query, self.stage, partition)
    }
}

fn no_credit(partition: u32, sequence: u64, bytes: u64) -> Error {
    Error::Protocol(format!(
        "chunk {sequence} of partition {partition} has {bytes} bytes, for which there is no \
         credit: announce it, and wait"
    ))
}
