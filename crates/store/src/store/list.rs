//! Listing payloads.

use std::ops::Bound;
use std::sync::Arc;

use sheaf_proto::BatchId;

use super::Store;
use super::entry::Entry;
use crate::error::Error;
use crate::options::{Filter, Page};

/// Payloads of one page at most.
pub const MAX_PAGE: usize = 10_000;
/// Owners are asked about so many payloads at once.
const ASK: usize = 1_000;

impl Store {
    /// Payloads in the order of their names, those after `cursor`, at most
    /// `limit` (1 to [`MAX_PAGE`]) of them.
    ///
    /// A page may be short, even empty, and still have a next one: a filter
    /// looks at so many names at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of range; [`Error::Stream`] where the
    /// filter has a status and the owner does not answer.
    pub async fn list(
        &self,
        filter: &Filter,
        cursor: Option<&BatchId>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.inner.check_open()?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::Invalid(format!(
                "a page has 1 to {MAX_PAGE} payloads, not {limit}"
            )));
        }
        let (entries, next) = self.candidates(filter, cursor, limit);
        let mut payloads = Vec::with_capacity(entries.len());
        let Some(status) = filter.status else {
            payloads.extend(entries.iter().map(|entry| entry.info()));
            return Ok(Page { payloads, next });
        };
        for some in entries.chunks(ASK) {
            let asked: Vec<_> = some.iter().map(|entry| entry.asked()).collect();
            let standings = self.inner.options.owner.standings(&asked).await?;
            let admitted =
                some.iter().zip(standings).filter(|(_, standing)| status.admits(*standing));
            payloads.extend(admitted.map(|(entry, _)| entry.info()));
        }
        Ok(Page { payloads, next })
    }

    /// What the index knows of the filter, and where to go on.
    fn candidates(
        &self,
        filter: &Filter,
        cursor: Option<&BatchId>,
        limit: usize,
    ) -> (Vec<Arc<Entry>>, Option<BatchId>) {
        let now = self.inner.now();
        let prefix = filter.prefix.as_str();
        let start = match cursor {
            Some(cursor) if cursor.as_str() >= prefix => Bound::Excluded(cursor.as_str()),
            _ => Bound::Included(prefix),
        };
        let state = self.inner.index.state();
        let mut entries = Vec::new();
        let mut last = None;
        for (looked, (id, entry)) in
            state.entries.range::<str, _>((start, Bound::Unbounded)).enumerate()
        {
            if !id.as_str().starts_with(prefix) {
                return (entries, None);
            }
            if entries.len() == limit || looked == MAX_PAGE {
                return (entries, last);
            }
            last = Some(id.clone());
            let age = now.since(entry.as_put().created_at).as_millis();
            let admitted = !entry.is_condemned()
                && filter.min_age_ms.is_none_or(|min| age >= u128::from(min))
                && filter.max_age_ms.is_none_or(|max| age <= u128::from(max))
                && filter.pinned.is_none_or(|pinned| pinned == entry.is_pinned());
            if admitted {
                entries.push(Arc::clone(entry));
            }
        }
        (entries, None)
    }
}
