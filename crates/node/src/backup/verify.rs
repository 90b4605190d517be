//! Whether a backup is whole, to its last byte.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_coordinator::embedded::{Inspected, inspect};
use sheaf_store::{REGISTERED_FILE, check_payload, payload_name};

use super::error::Error;
use super::list::{LIST_FILE, each, is_payload, sum};
use super::manifest::{Manifest, Missing};
use super::{COORDINATOR_FILE, is_here};

/// Names of batches that a manifest tells.
const SHOWN: usize = 100;

/// Reads a backup and compares everything in it; what it is of. Blocks for as
/// long as it takes to read it twice.
///
/// # Errors
/// [`Error::Incomplete`] for one that was broken off, [`Error::Damaged`]
/// naming the file, [`Error::Newer`], [`Error::Io`].
pub fn verify(folder: &Path) -> Result<Manifest, Error> {
    let manifest = Manifest::read(folder)?;
    let list = folder.join(LIST_FILE);
    if sum(&list, LIST_FILE, |_| Ok(())).map_err(gone)?.checksum != manifest.files_checksum {
        return Err(Error::damaged(&list, "it does not match its checksum in MANIFEST.json"));
    }
    let (files, bytes, payloads) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    each(folder, |line| {
        let path = folder.join(&line.name);
        if sum(&path, &line.name, |_| Ok(())).map_err(gone)? != *line {
            return Err(Error::damaged(&path, "it does not match its checksum in FILES"));
        }
        if is_payload(&line.name) {
            check_payload(&path, &line.name)?;
            payloads.fetch_add(1, Ordering::Relaxed);
        }
        files.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(line.length, Ordering::Relaxed);
        Ok(())
    })?;
    let counted = [files, bytes, payloads].map(AtomicU64::into_inner);
    if counted != [manifest.files, manifest.bytes, manifest.payloads] {
        let detail =
            format!("{counted:?} files, bytes and payloads are not those of MANIFEST.json");
        return Err(Error::damaged(&list, detail));
    }
    let there = count(folder)?;
    if there != manifest.files {
        let detail = format!("it has {there} files, {} are in FILES", manifest.files);
        return Err(Error::damaged(folder, detail));
    }
    if let Some((found, missing)) = state(folder, &manifest)? {
        let path = folder.join(COORDINATOR_FILE);
        if (found.batches, found.live) != (manifest.batches, manifest.live) {
            return Err(Error::damaged(&path, "its batches are not those of MANIFEST.json"));
        }
        if missing != manifest.missing {
            let first = missing.batch_ids.first().map_or("", String::as_str);
            let detail =
                format!("payloads of {} batches are missing, such as {first}", missing.count);
            return Err(Error::damaged(folder, detail));
        }
    }
    Ok(manifest)
}

/// A file of the list that is not there is damage, not a wrong path.
fn gone(error: Error) -> Error {
    match error {
        Error::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => {
            Error::damaged(&path, "it is missing")
        }
        other => other,
    }
}

/// The coordinator's state, and the batches that are not over whose payload
/// should be in the backup and is not. `None` without a state.
pub(super) fn state(
    folder: &Path,
    manifest: &Manifest,
) -> Result<Option<(Inspected, Missing)>, Error> {
    if !manifest.has_state {
        return Ok(None);
    }
    let mut missing = Missing::default();
    let found = inspect(&folder.join(COORDINATOR_FILE), |batch| {
        let wanted = !batch.state.is_terminal()
            && manifest.has_payloads
            && is_here(&batch.locations, &manifest.locations);
        if wanted && !folder.join(payload_name(&batch.id)).exists() {
            missing.count += 1;
            if missing.batch_ids.len() < SHOWN {
                missing.batch_ids.push(batch.id.to_string());
            }
        }
    })?;
    Ok(Some((found, missing)))
}

/// Files of the data that there are, listed or not.
fn count(folder: &Path) -> Result<u64, Error> {
    let single = [COORDINATOR_FILE, REGISTERED_FILE];
    let mut count = single.iter().filter(|name| folder.join(name).exists()).count() as u64;
    let batches = folder.join("batches");
    if !batches.is_dir() {
        return Ok(count);
    }
    for shard in fs::read_dir(&batches).map_err(Error::io("read", &batches))? {
        let shard = shard.map_err(Error::io("read", &batches))?.path();
        for entry in fs::read_dir(&shard).map_err(Error::io("read", &shard))? {
            entry.map_err(Error::io("read", &shard))?;
            count += 1;
        }
    }
    Ok(count)
}
