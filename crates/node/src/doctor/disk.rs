//! What the disk under a directory is, and how fast it says that it has written.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_retry::{Clock, Code, Retryable as _};

/// Writes with fsync of one measurement.
const SYNCS: usize = 20;
/// Bytes of each: what a small record takes on disk.
const SYNC_BYTES: usize = 4096;
/// No more of them are made once they have taken so long together.
const SYNC_PATIENCE: Duration = Duration::from_secs(3);

/// Why something could not be found out.
pub(super) type Failed = (Code, String);

/// What there is under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// Nothing yet; it would be made in this directory.
    Absent(PathBuf),
    /// Something else.
    Other,
    /// It cannot be looked at.
    Unknown(Failed),
}

/// The file system that a directory is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
    /// Files that can still be made; `None` where there is no limit.
    pub(super) free_files: Option<u64>,
}

/// A directory and its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirFacts {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) owner: Option<u32>,
    pub(super) mode: Option<u32>,
    pub(super) user: u32,
    pub(super) space: Option<Space>,
    /// Its kind, such as `ext4`, or a number where we know no name.
    pub(super) file_system: Option<String>,
    /// How long writes with fsync took, sorted; or why none can be made.
    pub(super) syncs: Result<Vec<Duration>, Failed>,
}

impl DirFacts {
    /// Looks at a directory. Blocks, on a dead network file system for long.
    pub(super) fn gather(path: &Path, clock: &dyn Clock) -> Self {
        let kind = kind(path);
        // What does not exist yet is on the disk of what it will be made in.
        let place = match &kind {
            Kind::Directory => Some(path),
            Kind::Absent(parent) => Some(parent.as_path()),
            Kind::Other | Kind::Unknown(_) => None,
        };
        let found = fs::metadata(path).ok();
        use std::os::unix::fs::MetadataExt as _;
        DirFacts {
            path: path.to_owned(),
            owner: found.as_ref().map(|found| found.uid()),
            mode: found.as_ref().map(|found| found.mode() & 0o7777),
            user: rustix::process::geteuid().as_raw(),
            space: place.and_then(space),
            file_system: place.and_then(file_system),
            syncs: match place {
                Some(place) => syncs(place, clock).map_err(|error| failed(&error)),
                None => Err((Code::NotFound, "there is no directory to write in".to_owned())),
            },
            kind,
        }
    }
}

pub(super) fn failed(error: &io::Error) -> Failed {
    (error.code(), error.to_string())
}

fn kind(path: &Path) -> Kind {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Kind::Directory,
        Ok(_) => Kind::Other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above =
                path.ancestors().skip(1).map(|parent| match parent.as_os_str().is_empty() {
                    true => Path::new("."),
                    false => parent,
                });
            match above.into_iter().find(|parent| parent.exists()) {
                Some(parent) if parent.is_dir() => Kind::Absent(parent.to_owned()),
                _ => Kind::Unknown(failed(&error)),
            }
        }
        Err(error) => Kind::Unknown(failed(&error)),
    }
}

fn space(place: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(place).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space {
        free: bytes(found.f_bavail),
        total: bytes(found.f_blocks),
        free_files: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// Numbers of `statfs(2)`, and what they are called.
#[cfg(target_os = "linux")]
const FILE_SYSTEMS: [(u32, &str); 16] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x00c3_6400, "ceph"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6a65_6a63, "virtiofs"),
];

#[cfg(target_os = "linux")]
fn file_system(place: &Path) -> Option<String> {
    let found = rustix::fs::statfs(place).ok()?;
    // The field has another width on every architecture; the numbers have 32 bits.
    #[allow(clippy::cast_possible_truncation, reason = "see above")]
    #[allow(clippy::unnecessary_cast, reason = "see above")]
    let number = found.f_type as u32;
    let named = FILE_SYSTEMS.iter().find(|(known, _)| *known == number);
    Some(named.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned()))
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> Option<String> {
    None
}

/// Durations of small writes with fsync, sorted, in a file without a name.
fn syncs(place: &Path, clock: &dyn Clock) -> io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(place)?;
    let (mut took, began) = (Vec::with_capacity(SYNCS), clock.elapsed());
    while took.len() < SYNCS && clock.elapsed().saturating_sub(began) < SYNC_PATIENCE {
        let before = clock.elapsed();
        // Where it was written before: the size stays, as in a database.
        file.rewind()?;
        file.write_all(&[0x5a; SYNC_BYTES])?;
        file.sync_data()?;
        took.push(clock.elapsed().saturating_sub(before));
    }
    took.sort_unstable();
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::SystemClock;

    #[test]
    fn a_directory_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let facts = DirFacts::gather(folder.path(), SystemClock::shared().as_ref());
        assert_eq!(facts.kind, Kind::Directory);
        assert!(!facts.syncs.unwrap().is_empty());
        let space = facts.space.unwrap();
        assert!(space.total >= space.free && space.total > 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_there_is_judged_by_what_it_would_be_made_in() {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let facts = DirFacts::gather(&folder.path().join("a/b"), clock.as_ref());
        assert_eq!(facts.kind, Kind::Absent(folder.path().to_owned()));
        assert!(facts.syncs.is_ok() && facts.owner.is_none());
        assert!(!folder.path().join("a").exists());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(DirFacts::gather(&file, clock.as_ref()).kind, Kind::Other);
        let below = DirFacts::gather(&file.join("x"), clock.as_ref());
        assert!(matches!(below.kind, Kind::Unknown(_)), "{below:?}");
        assert_eq!(kind(Path::new("not-there")), Kind::Absent(PathBuf::from(".")));
    }
}
