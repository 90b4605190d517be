//! Files that are put into a container, as an archive of tar.

use std::collections::BTreeSet;

use bytes::Bytes;

/// Who may read the files of a container: its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    user: u64,
    group: u64,
    mode: u32,
}

impl Owner {
    /// The user that an image names. A number is that user. A name is known to the image
    /// alone: then everybody in the container may read, which is this component and nobody
    /// else.
    pub(super) fn of_image(user: &str) -> Self {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if user.is_empty() {
            return Owner { user: 0, group: 0, mode: 0o600 };
        }
        match user.parse() {
            Ok(number) => {
                Owner { user: number, group: group.parse().unwrap_or(number), mode: 0o600 }
            }
            Err(_) => Owner { user: 0, group: 0, mode: 0o444 },
        }
    }
}

/// An archive of these files. Paths are from the root, without a slash in front.
///
/// # Errors
/// For a path that tar cannot hold.
pub(super) fn of<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    owner: Owner,
) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for (path, content) in files {
        // An engine makes folders that nobody names for itself alone.
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        for folder in above.filter(|folder| folders.insert(folder.to_string())) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            archive.append_data(&mut header, folder, std::io::empty())?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(owner.mode);
        header.set_uid(owner.user);
        header.set_gid(owner.group);
        archive.append_data(&mut header, path, content)?;
    }
    archive.into_inner().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_user_of_the_image() {
        let cases = [
            ("", (0, 0, 0o600)),
            ("65532", (65_532, 65_532, 0o600)),
            ("1:2", (1, 2, 0o600)),
            ("nobody", (0, 0, 0o444)),
        ];
        for (user, (uid, gid, mode)) in cases {
            let owner = Owner::of_image(user);
            let bytes = of([("run/sheaf/a.json", b"{}".as_slice())], owner).unwrap();
            let mut archive = tar::Archive::new(&bytes[..]);
            let entries: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
            let [run, sheaf, entry] = &entries[..] else { panic!("{}", entries.len()) };
            for folder in [run, sheaf] {
                assert_eq!(folder.header().mode().unwrap(), 0o755);
            }
            let header = entry.header();
            assert_eq!(entry.path().unwrap().to_str(), Some("run/sheaf/a.json"));
            let found = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
            assert_eq!(found, (uid, gid, mode), "{user}");
        }
    }
}
