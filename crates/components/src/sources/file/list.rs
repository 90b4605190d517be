//! Which files there are, and where.

use std::path::{Path, PathBuf};

use sheaf_connectors::{FileFormat, Objects};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Storage;
use sheaf_retry::{Code, Retryable as _};

use crate::failure::{failed, lost, refused};
use crate::host::Host;

/// Files that one source looks at, at most.
const MAX_FILES: usize = 1_000_000;

/// Where files are.
pub(super) enum Place {
    /// On this machine: a file, a folder or a pattern.
    Local(PathBuf),
    /// In a bucket: below a prefix, those that a pattern tells, or all that are right there.
    Bucket { objects: Objects, pattern: Option<String>, fetched: PathBuf },
}

impl Place {
    pub(super) async fn open(
        path: &str,
        storage: &Storage,
        host: &Host,
        state_dir: &Path,
    ) -> Result<Self, ComponentError> {
        if let Some((scheme, rest)) = path.split_once("://") {
            return match scheme {
                "file" => Ok(Place::Local(rest.into())),
                "s3" => {
                    let (prefix, pattern) = split(rest);
                    let place = format!("s3://{prefix}");
                    let objects = crate::bucket::open(&place, storage, host).await?;
                    Ok(Place::Bucket { objects, pattern, fetched: state_dir.join("fetched") })
                }
                _ => Err(refused(format!(
                    "config.path: {path} is at a place that is not known: write a path of this \
                     machine or s3://BUCKET/KEY"
                ))),
            };
        }
        if *storage != Storage::default() {
            return Err(refused(format!(
                "config.storage is for files in a bucket, and {path} is none: leave it out"
            )));
        }
        Ok(Place::Local(path.into()))
    }

    /// The names of all files, in their order.
    pub(super) async fn list(&self) -> Result<Vec<String>, ComponentError> {
        match self {
            Place::Local(path) => {
                let path = path.clone();
                let list = move || local(&path);
                let mut names = tokio::task::spawn_blocking(list).await.map_err(lost)??;
                names.sort();
                Ok(names)
            }
            Place::Bucket { objects, pattern, .. } => {
                let unlisted = || failed("the objects of the bucket cannot be listed");
                if pattern.is_none() && objects.exists("").await.map_err(unlisted())? {
                    return Ok(vec![String::new()]);
                }
                let mut names = objects.list().await.map_err(unlisted())?;
                let pattern = pattern.as_deref().unwrap_or("*");
                names.retain(|name| is_of(pattern, name));
                names.sort();
                Ok(names)
            }
        }
    }

    /// The path of a file on this machine, and what takes it away again where it was fetched.
    pub(super) async fn fetch(
        &self,
        name: &str,
    ) -> Result<(String, Option<tempfile::TempPath>), ComponentError> {
        match self {
            Place::Local(_) => Ok((name.to_owned(), None)),
            Place::Bucket { objects, fetched, .. } => {
                // With the ends of its name, which tell the format.
                let place = objects.place(name);
                let ends = place.rsplit('/').next().unwrap_or_default();
                let ends = ends.split_once('.').map_or("", |(_, ends)| ends);
                let path = fetched.with_extension(ends);
                let copied = objects.fetch(name, &path).await;
                copied.map_err(failed(format!("{place} cannot be fetched")))?;
                let text = path.to_string_lossy().into_owned();
                let kept = tempfile::TempPath::try_from_path(path);
                let kept = kept.map_err(|error| unreadable(Path::new(&text), error))?;
                Ok((text, Some(kept)))
            }
        }
    }
}

/// The part of a place in a bucket that is no pattern, and the pattern.
fn split(place: &str) -> (String, Option<String>) {
    let parts: Vec<&str> = place.split('/').collect();
    match parts.iter().position(|part| part.contains('*')) {
        None => (place.to_owned(), None),
        Some(at) => (parts[..at].join("/"), Some(parts[at..].join("/"))),
    }
}

/// Whether a name is of a pattern, part by part; those of writers are of none.
fn is_of(pattern: &str, name: &str) -> bool {
    let (patterns, names) = (pattern.split('/'), name.split('/'));
    patterns.clone().count() == names.clone().count()
        && patterns.zip(names).all(|(pattern, name)| {
            matches(pattern, name)
                && (!name.starts_with(['.', '_']) || pattern.starts_with(['.', '_']))
        })
}

/// The format that a name tells.
pub(super) fn format_of(name: &str) -> Option<FileFormat> {
    match Path::new(name).extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" | "pq" => Some(FileFormat::Parquet),
        "arrow" | "arrows" | "ipc" | "feather" => Some(FileFormat::Ipc),
        _ => None,
    }
}

fn local(path: &Path) -> Result<Vec<String>, ComponentError> {
    if path.is_dir() {
        return Ok(entries(path, "*")?
            .into_iter()
            .filter(|path| !path.is_dir())
            .map(text)
            .collect());
    }
    if !path.to_string_lossy().contains('*') || path.exists() {
        let there = path.try_exists().map_err(|error| unreadable(path, error))?;
        return Ok(there.then(|| text(path.to_owned())).into_iter().collect());
    }
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let part = part.as_os_str().to_string_lossy();
        let mut next = Vec::new();
        for folder in &found {
            if part.contains('*') {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                next.extend(entries(folder, &part)?);
            } else {
                next.push(folder.join(part.as_ref()));
            }
            if next.len() > MAX_FILES {
                return Err(too_many(path));
            }
        }
        found = next;
    }
    Ok(found.into_iter().filter(|path| path.is_file()).map(text).collect())
}

/// What is in a folder under names of this pattern. Names that begin with a dot or an
/// underscore are those of whoever writes there.
fn entries(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, ComponentError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let entry = entry.map_err(|error| unreadable(folder, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(['.', '_']) && !pattern.starts_with(['.', '_']) {
            continue;
        }
        if matches(pattern, &name) {
            found.push(if folder == Path::new(".") { name.as_ref().into() } else { entry.path() });
        }
        if found.len() > MAX_FILES {
            return Err(too_many(folder));
        }
    }
    Ok(found)
}

/// Whether a name is of a pattern, in which `*` stands for anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

fn unreadable(path: &Path, error: std::io::Error) -> ComponentError {
    let text = format!("the files at {} cannot be listed", path.display());
    ComponentError::new(error.code(), text).because(error)
}

fn too_many(path: &Path) -> ComponentError {
    let text = format!("there are more than {MAX_FILES} files at {}", path.display());
    ComponentError::new(Code::LimitExceeded, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("a.csv", "a.csv", true),
            ("a?csv", "a.csv", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_place_in_a_bucket_ends_where_its_pattern_begins() {
        let split = |place| split(place);
        assert_eq!(split("b/a/x.csv"), ("b/a/x.csv".into(), None));
        assert_eq!(split("b/a*/x.csv"), ("b".into(), Some("a*/x.csv".into())));
        for (pattern, name, expected) in [
            ("*", "x.csv", true),
            ("*", "a/x.csv", false),
            ("*", "_commits", false),
            ("a*/*.csv", "a1/x.csv", true),
            ("a*/*.csv", "a1/_x.csv", false),
        ] {
            assert_eq!(is_of(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_and_patterns_have_the_files_of_people_and_not_those_of_writers() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a1/x.csv", "a2/x.csv", "a2/y.json", "a2/_tmp.csv", "a2/.x.csv"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let found = |path: &str| {
            let mut found = local(&at(path)).unwrap();
            found.sort();
            let base = format!("{}/", dir.path().display());
            found.iter().map(|name| name.replace(&base, "")).collect::<Vec<_>>()
        };
        assert_eq!(found("a2"), ["a2/x.csv", "a2/y.json"]);
        assert_eq!(found("a*/x.csv"), ["a1/x.csv", "a2/x.csv"]);
        assert_eq!(found("*/*.json"), ["a2/y.json"]);
        assert_eq!(found("a2/y.json"), ["a2/y.json"]);
        assert_eq!(found("b/*.csv"), Vec::<String>::new());
        assert_eq!(found("a2/z.json"), Vec::<String>::new());
    }
}
