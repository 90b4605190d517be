//! Why a backup cannot be made or used.

use std::path::{Path, PathBuf};

use sheaf_retry::{Code, Retryable};

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No manifest: it was broken off, or is something else.
    #[error(
        "{} is no complete backup: it has no MANIFEST.json, which is written last",
        .path.display()
    )]
    Incomplete {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not what was backed up.
    #[error("{} is damaged: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not match.
        detail: String,
    },
    /// A newer Sheaf wrote it.
    #[error(
        "{} is a backup of version {found}, this build reads up to {supported}: use the newer one",
        .path.display()
    )]
    Newer {
        /// The backup.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this build reads.
        supported: u32,
    },
    /// There is something of that name.
    #[error("{} is there already: a backup takes a new name", .path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("another process writes {}", .path.display())]
    Busy {
        /// The unfinished backup.
        path: PathBuf,
    },
    /// The server sends something that is no backup.
    #[error("the server sends no backup: {0}")]
    Stream(String),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A payload, or the new data directory.
    #[error(transparent)]
    Store(#[from] sheaf_store::Error),
    /// The coordinator's file.
    #[error(transparent)]
    Coordinator(#[from] sheaf_coordinator::Error),
}

impl Error {
    /// For `map_err`: what was tried with which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }

    /// A file that is not what it should be.
    pub(super) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Error::Damaged { path: path.to_path_buf(), detail: detail.into() }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Incomplete { .. } => Code::FailedPrecondition,
            Error::Damaged { .. } => Code::Corrupt,
            Error::Newer { .. } => Code::FormatNewer,
            Error::Exists { .. } => Code::AlreadyExists,
            Error::Busy { .. } => Code::DirectoryLocked,
            Error::Stream(_) => Code::MalformedData,
            Error::Io { source, .. } => source.code(),
            Error::Store(error) => error.code(),
            Error::Coordinator(error) => error.code(),
        }
    }
}
