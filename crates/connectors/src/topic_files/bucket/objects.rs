//! Objects of a bucket by their names.

use std::path::Path as FilePath;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use sheaf_retry::Code;
use tokio::io::AsyncWriteExt as _;

use super::super::blobs::Blobs as _;
use super::Bucket;
use crate::error::Error;
use crate::topic_files::FilesSpec;

/// Names that one listing has, at most.
const MAX_LISTED: usize = 1_000_000;

/// The objects below the prefix of a bucket (feature `s3`).
///
/// Names are below the prefix, their parts apart by `/`.
#[derive(Debug)]
pub struct Objects {
    bucket: Bucket,
}

impl Objects {
    /// Sets up a client; nothing is called yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the place is no bucket, or a setting is of no use.
    pub fn open(spec: &FilesSpec) -> Result<Self, Error> {
        Ok(Objects { bucket: Bucket::connect(spec)? })
    }

    /// The names of all objects below the prefix, in no order.
    ///
    /// # Errors
    /// [`Error::Io`] with what the service says; [`Error::Invalid`] for more than a million.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let prefix = &self.bucket.prefix;
        let mut listed = self.bucket.store.list(Some(prefix));
        let mut names = Vec::new();
        let failed = |error| self.bucket.failed("list", "", error);
        while let Some(ObjectMeta { location, .. }) = listed.try_next().await.map_err(failed)? {
            let parts = location.prefix_match(prefix);
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            names.push(parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"));
            if names.len() > MAX_LISTED {
                return Err(Error::Invalid(format!(
                    "there are more than {MAX_LISTED} objects below {}; name a longer prefix",
                    self.bucket.place
                )));
            }
        }
        Ok(names)
    }

    /// Whether there is an object of this name; without a name, one that is called as the
    /// prefix.
    ///
    /// # Errors
    /// [`Error::Io`] with what the service says.
    pub async fn exists(&self, name: &str) -> Result<bool, Error> {
        match self.bucket.store.head(&self.path(name)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.bucket.failed("look at", name, error)),
        }
    }

    /// Copies an object into a file, a piece at a time.
    ///
    /// # Errors
    /// [`Error::Io`] with what the service or the disk says; `not_found` where there is none.
    pub async fn fetch(&self, name: &str, to: &FilePath) -> Result<(), Error> {
        let failed = |error| self.bucket.failed("read", name, error);
        let found = self.bucket.store.get(&self.path(name)?).await.map_err(failed)?;
        let (size, mut pieces) = (found.meta.size, found.into_stream());
        let written = |error| Error::io("write", to, error);
        let mut file = tokio::fs::File::create(to).await.map_err(written)?;
        let mut copied = 0;
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            copied += piece.len() as u64;
            file.write_all(&piece).await.map_err(written)?;
        }
        file.flush().await.map_err(written)?;
        if copied != size {
            let why = format!("{copied} of {size} bytes came");
            return Err(Error::external("read", self.place(name), Code::Unavailable, why));
        }
        Ok(())
    }

    /// Gives bytes a name, unless it is taken; whether it did. An object is there as a whole
    /// or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] with what the service says; the object may be there then.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        self.bucket.create(name, bytes).await
    }

    /// The name for people.
    pub fn place(&self, name: &str) -> String {
        self.bucket.place(name)
    }

    /// As the service has it: names that are listed are not encoded once more.
    fn path(&self, name: &str) -> Result<Path, Error> {
        let prefix = self.bucket.prefix.as_ref();
        let whole = match (prefix.is_empty(), name.is_empty()) {
            (_, true) => return Ok(self.bucket.prefix.clone()),
            (true, false) => name.to_owned(),
            (false, false) => format!("{prefix}/{name}"),
        };
        Path::parse(whole).map_err(|error| Error::Invalid(format!("{}: {error}", self.place(name))))
    }
}
