//! The second phase: one attempt becomes the batch, once.

use std::fs;
use std::io;
use std::path::Path;

use sheaf_proto::BatchId;

use super::Shared;
use super::footer::Footer;
use super::layout;
use crate::error::Error;
use crate::format::FileFormat;
use crate::sink::{CommitKey, Committed};

impl Shared {
    /// Whether files of this format say themselves who wrote them.
    pub(super) fn has_footer(&self) -> bool {
        matches!(self.layout.format, FileFormat::Parquet | FileFormat::Ipc)
    }

    /// Makes a finished attempt the batch, or finds who was first.
    pub(super) fn publish(&self, key: &CommitKey, footer: &Footer) -> Result<Committed, Error> {
        let mine = self.layout.attempt(key);
        if self.has_footer() {
            let part = self.layout.part(&key.id);
            if create_name(&mine, &part)? {
                self.sync_parts()?;
                return Ok(self.answer(footer, &key.id, true));
            }
            return match self.find(&key.id)? {
                Some(winner) => Ok(winner),
                None => Err(vanished(&part)),
            };
        }
        let record = self.layout.record(&key.id);
        let created = create_name(&self.layout.proposal(key), &record)?;
        match self.find(&key.id)? {
            Some(winner) => Ok(Committed { created, ..winner }),
            None => Err(vanished(&record)),
        }
    }

    /// The winner, made durable and visible first where whoever decided it
    /// died before that.
    pub(super) fn find(&self, id: &BatchId) -> Result<Option<Committed>, Error> {
        if self.has_footer() {
            let Some(footer) = Footer::of_part(&self.layout, id)? else { return Ok(None) };
            self.sync_parts()?;
            return Ok(Some(self.answer(&footer, id, false)));
        }
        let record = self.layout.record(id);
        let Some(footer) = Footer::of_record(&record, id)? else { return Ok(None) };
        self.roll_forward(&footer, id)?;
        Ok(Some(self.answer(&footer, id, false)))
    }

    /// Carries out what a commit record decided: idempotent, by anybody.
    fn roll_forward(&self, footer: &Footer, id: &BatchId) -> Result<(), Error> {
        // The decision has to outlive a crash that the visible file outlives.
        self.commit_dir.sync().map_err(|e| Error::io("sync", &self.layout.commits, e))?;
        let part = self.layout.part(id);
        if !part.try_exists().map_err(|e| Error::io("look for", &part, e))? {
            let key = CommitKey { id: id.clone(), fence: footer.fence };
            match create_name(&self.layout.attempt(&key), &part) {
                Ok(_) => {}
                // Another process was faster and has cleaned up.
                Err(_) if part.exists() => {}
                Err(Error::Io { code: sheaf_retry::Code::NotFound, .. }) => {
                    return Err(vanished(&part));
                }
                Err(other) => return Err(other),
            }
        }
        self.sync_parts()
    }

    fn sync_parts(&self) -> Result<(), Error> {
        self.part_dir.sync().map_err(|e| Error::io("sync", &self.layout.dir, e))
    }

    fn answer(&self, footer: &Footer, id: &BatchId, created: bool) -> Committed {
        let place = self.layout.part(id).display().to_string();
        Committed { fence: footer.fence, rows: footer.rows, created, place }
    }

    /// Whether readers see the batch `encoded` (as in names).
    pub(super) fn is_visible(&self, encoded: &str) -> bool {
        let part = format!("part-{encoded}.{}", self.layout.format.extension());
        self.layout.dir.join(part).exists()
    }

    /// Whether a record has decided the batch while readers do not see it
    /// yet: then an attempt's file is the only copy.
    pub(super) fn is_owed(&self, encoded: &str) -> bool {
        let record = self.layout.commits.join(format!("{encoded}.json"));
        !self.has_footer() && record.exists() && !self.is_visible(encoded)
    }

    /// Commit records whose file is not visible yet are carried out.
    pub(super) fn finish_decided(&self) -> Result<(), Error> {
        if self.has_footer() {
            return Ok(());
        }
        for name in super::names(&self.layout.tmp)? {
            let Some((encoded, _)) = layout::attempt_of(&name) else { continue };
            let record = self.layout.commits.join(format!("{encoded}.json"));
            let Ok(text) = fs::read(&record) else { continue };
            let Ok(footer) = serde_json::from_slice::<Footer>(&text) else { continue };
            let Ok(id) = BatchId::try_new(&footer.batch_id) else { continue };
            if layout::encode(&id) == encoded && !self.layout.part(&id).exists() {
                self.find(&id)?;
            }
        }
        Ok(())
    }
}

/// Gives `from` the name `to` as well, unless that is taken; says whether it did.
///
/// A hard link, which is atomic and leaves the old name: a crash between the
/// two names loses neither. Where a file system has no hard links, a rename
/// that refuses to replace.
pub(crate) fn create_name(from: &Path, to: &Path) -> Result<bool, Error> {
    let linked = match fs::hard_link(from, to) {
        Err(e) if no_links(&e) => rename_new(from, to),
        other => other,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("commit", to, e)),
    }
}

fn no_links(error: &io::Error) -> bool {
    // EPERM is what Linux says for a file system without hard links.
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the file system has no hard links"))
}

fn vanished(path: &Path) -> Error {
    let text = "the batch was committed here, but its file has been removed; remove its record in \
                _commits too to write it again";
    Error::io("find", path, io::Error::other(text))
}
