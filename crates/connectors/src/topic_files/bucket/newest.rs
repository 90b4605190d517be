//! The newest file of a folder that has very many.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, Result};

use crate::topic_files::names;

/// Names that one answer has.
pub(super) const PAGE: usize = 1_000;

/// The greatest beginning in a folder. A list of all its names would take a request
/// for each thousand; names can be asked for from any offset on, so that it is
/// found by steps that double, then halve.
pub(super) async fn newest(
    store: &dyn ObjectStore,
    folder: &Path,
    page: usize,
) -> Result<Option<i64>> {
    let mut listing = list(store, folder, None, page).await?;
    let Some(mut newest) = listing.newest else { return Ok(None) };
    // About as far as one page reaches.
    let mut step = newest;
    // No file begins behind this.
    let mut none_behind = i64::MAX;
    while !listing.is_whole {
        let middle = newest + step.min((none_behind - newest) / 2);
        listing = list(store, folder, Some(middle), page).await?;
        match listing.newest {
            Some(found) => {
                step = step.saturating_mul(2).max(1);
                newest = found;
            }
            None if middle == newest => return Ok(Some(newest)),
            None => {
                none_behind = middle;
                listing.is_whole = false;
            }
        }
    }
    Ok(Some(newest))
}

struct Listing {
    /// The greatest that was seen.
    newest: Option<i64>,
    /// There are no more.
    is_whole: bool,
}

/// One page of the files that begin behind an offset.
async fn list(
    store: &dyn ObjectStore,
    folder: &Path,
    behind: Option<i64>,
    page: usize,
) -> Result<Listing> {
    let listed = match behind {
        None => store.list(Some(folder)),
        Some(behind) => {
            let from = folder.clone().join(names::file(behind));
            store.list_with_offset(Some(folder), &from)
        }
    };
    let listed: Vec<_> = listed.take(page).try_collect().await?;
    let starts = listed.iter().filter_map(|of| names::start_of(of.location.filename()?));
    Ok(Listing { newest: starts.max(), is_whole: listed.len() < page })
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn the_newest_of_many_is_found_whatever_lies_between() {
        let folder = Path::from("p/topic/partition-0");
        for starts in [
            vec![],
            vec![0],
            vec![0, 1, 2],
            (0..40).collect(),
            (0..40).map(|n| n * 1_000_000_007).collect(),
            (0..9).chain([i64::MAX - 1, i64::MAX]).collect(),
        ] {
            let store = InMemory::new();
            let mut all: Vec<String> = starts.iter().map(|start| names::file(*start)).collect();
            all.push("_begin.json".to_owned());
            for name in all {
                store.put(&folder.clone().join(name), "x".into()).await.unwrap();
            }
            for page in [2, 3, 10, 1_000] {
                let found = newest(&store, &folder, page).await.unwrap();
                assert_eq!(found, starts.last().copied(), "{page}");
            }
        }
    }
}
