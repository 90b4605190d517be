//! A bucket that speaks S3.

mod connect;
mod newest;
mod objects;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode};
use sheaf_retry::Code;

use super::blobs::{Blobs, Tail};
use crate::error::Error;

pub use objects::Objects;

/// Names of what is pending that are looked at in one go.
const MAX_NAMES: usize = 1_000;

/// Objects below a prefix, created by conditional writes.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For people: without credentials.
    place: String,
}

impl Bucket {
    #[cfg(test)]
    pub(super) fn on(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Bucket { store, prefix: prefix.into(), place: format!("memory:{prefix}") }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(name.split('/').map(Into::into)))
    }

    fn failed(&self, operation: &'static str, name: &str, error: object_store::Error) -> Error {
        use object_store::Error as Of;

        let code = match &error {
            Of::NotFound { .. } => Code::NotFound,
            Of::PermissionDenied { .. } => Code::PermissionDenied,
            Of::Unauthenticated { .. } => Code::Unauthenticated,
            Of::NotSupported { .. } | Of::NotImplemented { .. } => Code::Unimplemented,
            Of::InvalidPath { .. } | Of::UnknownConfigurationKey { .. } => Code::InvalidArgument,
            _ => Code::Unavailable,
        };
        Error::external(operation, self.place(name), code, error)
    }
}

#[async_trait]
impl Blobs for Bucket {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        let put = self.store.put_opts(&self.path(name), bytes.into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(true),
            // Of ours, where an answer was lost: the caller looks at it.
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", name, error)),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let read = async { self.store.get(&self.path(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name, error)),
        }
    }

    async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error> {
        let options = GetOptions { range: Some(GetRange::Suffix(most)), ..GetOptions::default() };
        let read = async {
            let found = self.store.get_opts(&self.path(name), options).await?;
            let size = found.meta.size;
            Ok(Tail { bytes: found.bytes().await?, size })
        };
        match read.await {
            Ok(tail) => Ok(Some(tail)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name, error)),
        }
    }

    async fn newest(&self, folder: &str) -> Result<Option<i64>, Error> {
        let newest = newest::newest(self.store.as_ref(), &self.path(folder), newest::PAGE).await;
        newest.map_err(|error| self.failed("list", folder, error))
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listed = self.store.list(Some(&self.path(folder))).take(MAX_NAMES);
        let listed: Result<Vec<_>, _> = listed.try_collect().await;
        let listed = listed.map_err(|error| self.failed("list", folder, error))?;
        Ok(listed.iter().filter_map(|of| Some(of.location.filename()?.to_owned())).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", name, error)),
        }
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }
}
