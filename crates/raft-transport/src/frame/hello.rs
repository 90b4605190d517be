//! The first frame of a stream: who it is, and which protocol it speaks.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{PROTOCOL_VERSION, Reason};
use crate::Error;

/// What both ends tell each other before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Versions of the protocol that it speaks, the oldest and the newest.
    pub(crate) versions: (u8, u8),
    pub(crate) cluster_id: String,
}

impl Hello {
    pub(crate) fn of(cluster_id: &str) -> Self {
        let versions = (PROTOCOL_VERSION, PROTOCOL_VERSION);
        Hello { versions, cluster_id: cluster_id.to_owned() }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(2 + self.cluster_id.len());
        bytes.put_u8(self.versions.0);
        bytes.put_u8(self.versions.1);
        bytes.put_slice(self.cluster_id.as_bytes());
        bytes.freeze()
    }

    pub(crate) fn read(mut bytes: Bytes) -> Result<Self, Error> {
        let short = |_| Error::frame(Reason::Malformed, "a hello of less than two bytes");
        let oldest = bytes.try_get_u8().map_err(short)?;
        let newest = bytes.try_get_u8().map_err(short)?;
        let cluster_id = String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::frame(Reason::Malformed, "the cluster id of a hello is no text"))?;
        Ok(Hello { versions: (oldest, newest), cluster_id })
    }

    /// Whether both can talk.
    ///
    /// # Errors
    /// [`Reason::Version`], [`Reason::Cluster`].
    pub(crate) fn check(&self, own: &Hello) -> Result<(), Error> {
        if self.cluster_id != own.cluster_id {
            let other: String = self.cluster_id.chars().take(64).collect();
            let text = format!(
                "the caller is of cluster {other:?}, this node of cluster {:?}",
                own.cluster_id
            );
            return Err(Error::frame(Reason::Cluster, text));
        }
        let (oldest, newest) = self.versions;
        if newest < own.versions.0 || oldest > own.versions.1 {
            let text = format!(
                "the caller speaks versions {oldest} to {newest}, this node {} to {}",
                own.versions.0, own.versions.1
            );
            return Err(Error::frame(Reason::Version, text));
        }
        Ok(())
    }
}
