//! What batches are called, and what they say of themselves.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_proto::BatchId;

use crate::error::Error;
use crate::gateway::DEAD_LETTERS;
use crate::tracker::TopicPartition;

/// What the metadata is written by; newer ones are refused.
const VERSION: u32 = 1;

/// Which messages a batch is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) of: TopicPartition,
    /// Where it begins.
    pub(super) start: i64,
    /// Where the next one begins.
    pub(super) next: i64,
    /// Whether it has dead letters, not rows.
    pub(super) is_dead: bool,
}

/// The same as it is kept with the payload.
#[derive(Debug, Deserialize, Serialize)]
struct Metadata {
    version: u32,
    topic: String,
    partition: i32,
    offset: i64,
    next_offset: i64,
    #[serde(default)]
    dead_letters: bool,
}

impl Extent {
    /// As the application's metadata of the first message of a payload.
    pub(super) fn to_metadata(&self) -> Bytes {
        let metadata = Metadata {
            version: VERSION,
            topic: self.of.topic.to_string(),
            partition: self.of.partition,
            offset: self.start,
            next_offset: self.next,
            dead_letters: self.is_dead,
        };
        Bytes::from(serde_json::to_vec(&metadata).unwrap_or_default())
    }

    /// Reads it back.
    pub(super) fn from_metadata(id: &BatchId, metadata: &[u8]) -> Result<Self, Error> {
        let strange = |why: String| {
            let what = "another program has put it, or another --group is needed";
            Error::Invalid(format!("payload {id} is not of this gateway: {why}; {what}"))
        };
        let read: Metadata =
            serde_json::from_slice(metadata).map_err(|error| strange(error.to_string()))?;
        if read.version > VERSION {
            let (found, known) = (read.version, VERSION);
            return Err(strange(format!("its version is {found}, this build knows {known}")));
        }
        if read.next_offset <= read.offset {
            return Err(strange(format!("it ends at {} before it begins", read.next_offset)));
        }
        let Metadata { topic, partition, offset, next_offset, dead_letters, .. } = read;
        let of = TopicPartition { topic: Arc::from(topic), partition };
        Ok(Extent { of, start: offset, next: next_offset, is_dead: dead_letters })
    }

    /// As the partition key of a registration: `TOPIC/PARTITION@START-NEXT`.
    pub(super) fn to_key(&self) -> String {
        format!("{}@{}-{}", self.of, self.start, self.next)
    }

    /// Where the next one begins, by the partition key of a registration.
    pub(super) fn next_of_key(id: &BatchId, key: &str) -> Result<i64, Error> {
        let next = key.rsplit_once('-').and_then(|(_, next)| next.parse().ok());
        next.ok_or_else(|| {
            Error::Invalid(format!(
                "batch {id} is not of this gateway: its partition key is {key:?}; another program \
                 has registered it, or another --group is needed"
            ))
        })
    }
}

/// What batches of a group are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) group: String,
    pub(super) queue: String,
}

impl Names {
    /// Of a batch of the chain.
    pub(super) fn link(&self, extent: &Extent) -> Result<BatchId, Error> {
        self.id(&extent.of.topic, extent.of.partition, extent.start)
    }

    /// Of dead letters beside rows.
    pub(super) fn beside(&self, extent: &Extent) -> Result<BatchId, Error> {
        let topic = format!("{}{DEAD_LETTERS}", extent.of.topic);
        self.id(&topic, extent.of.partition, extent.start)
    }

    fn id(&self, topic: &str, partition: i32, offset: i64) -> Result<BatchId, Error> {
        let id = format!("{}:{topic}:{partition}:{offset}", self.group);
        BatchId::try_new(&id).map_err(|error| {
            Error::Invalid(format!(
                "--register: batches would be named {id:?} (group, topic, partition, offset), and \
                 {error}; choose another --group"
            ))
        })
    }

    /// That every batch of a stream can have a name.
    pub(super) fn check(&self, stream: &str) -> Result<(), Error> {
        let longest = self.id(&format!("{stream}{DEAD_LETTERS}"), i32::MAX, i64::MAX);
        longest.map(drop)
    }

    /// The queue where a batch is registered.
    pub(super) fn queue(&self, extent: &Extent) -> String {
        match extent.is_dead {
            true => format!("{}{DEAD_LETTERS}", self.queue),
            false => self.queue.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent() -> Extent {
        let of = TopicPartition { topic: "a-b.c".into(), partition: 3 };
        Extent { of, start: 7, next: 12, is_dead: true }
    }

    #[test]
    fn an_extent_comes_back_from_metadata_and_its_end_from_a_key() {
        let names = Names { group: "g".to_owned(), queue: "q".to_owned() };
        let id = names.link(&extent()).unwrap();
        assert_eq!(id.as_str(), "g:a-b.c:3:7");
        assert_eq!(names.beside(&extent()).unwrap().as_str(), "g:a-b.c.dead-letters:3:7");
        assert_eq!(names.queue(&extent()), "q.dead-letters");
        assert_eq!(Extent::from_metadata(&id, &extent().to_metadata()).unwrap(), extent());
        assert_eq!(extent().to_key(), "a-b.c/3@7-12");
        assert_eq!(Extent::next_of_key(&id, &extent().to_key()).unwrap(), 12);
    }

    #[test]
    fn what_is_of_others_is_named() {
        let names = Names { group: "g".to_owned(), queue: "q".to_owned() };
        let id = names.link(&extent()).unwrap();
        let newer = r#"{"version":2,"topic":"t","partition":0,"offset":1,"next_offset":2}"#;
        let empty = r#"{"version":1,"topic":"t","partition":0,"offset":2,"next_offset":2}"#;
        for (metadata, why) in [("", "EOF"), (newer, "version is 2"), (empty, "before it begins")] {
            let error = Extent::from_metadata(&id, metadata.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("g:a-b.c:3:7") && error.contains(why), "{error}");
        }
        assert!(Extent::next_of_key(&id, "orders/3").unwrap_err().to_string().contains("orders/3"));
        let long = Names { group: "a group".to_owned(), ..names };
        assert!(long.check("t").unwrap_err().to_string().contains("--group"));
    }
}
