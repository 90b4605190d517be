//! What sender and receiver say to each other in one conversation, as JSON in
//! `app_metadata`.

use serde::{Deserialize, Serialize};
use sheaf_flight::Message;

use super::fragments::Part;
use super::{Error, json, parse};

/// Chunks that a sender may have announced and not sent.
pub(in super::super) const MAX_ANNOUNCED: usize = 1 << 16;

/// What a sender says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum Said {
    /// With the schema message: where its chunks go.
    Begin { partitions: Vec<u32> },
    /// Bytes of the chunks that come next, in this order.
    Want(Vec<u64>),
    /// With a message of a dictionary or of a record batch.
    Chunk {
        partition: u32,
        sequence: u64,
        crc32c: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    },
    /// The end of a partition.
    Commit { partition: u32, chunks: u64, rows: u64 },
}

/// What a receiver says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Answer {
    /// To the begin.
    Begun(Vec<Place>),
    /// So many bytes more may be sent, which are whole chunks of those wanted.
    Credit(u64),
    /// There is no room for the next chunk; credit comes when there is.
    Full { needed: u64, used: u64, limit: u64 },
    /// Chunks before it were taken.
    Taken(Place),
    /// A partition was committed.
    Committed { partition: u32 },
    /// The conversation ends with an error, which is about this one.
    Failed { partition: u32 },
}

/// The chunk that is next of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Place {
    pub(in super::super) partition: u32,
    pub(in super::super) next_sequence: u64,
}

impl Said {
    /// The same with a message, or by itself with an empty one.
    pub(in super::super) fn with(&self, message: Message) -> Result<Message, Error> {
        Ok(Message { app_metadata: json(self)?, ..message })
    }

    pub(in super::super) fn read(message: &Message) -> Result<Self, Error> {
        parse("what a sender says", &message.app_metadata)
    }
}

impl Answer {
    pub(in super::super) fn message(&self) -> Result<Message, Error> {
        Ok(Message { app_metadata: json(self)?, ..Message::default() })
    }

    pub(in super::super) fn read(message: &Message) -> Result<Self, Error> {
        parse("what a receiver says", &message.app_metadata)
    }
}
