//! Bytes of payloads, by the name of the token that they were put with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_proto::storage::v1::PayloadRecord;

use crate::error::Error;
use crate::metrics::OwnerBytes;
use crate::options::PutBy;

/// What one message counts beside its bytes: its record in the file, and in
/// memory.
const PER_MESSAGE: u64 = 64;

/// Bytes that count against a quota: those of headers and bodies, and whatever
/// else is stored of each message.
pub(crate) fn counted(bytes: u64, metadata_bytes: u64, messages: u64) -> u64 {
    bytes + metadata_bytes + messages * PER_MESSAGE
}

/// The same of what is stored.
pub(crate) fn counted_of(record: &PayloadRecord) -> u64 {
    let metadata = record.messages.iter().map(|message| message.app_metadata.len() as u64);
    counted(record.bytes, metadata.sum(), record.messages.len() as u64)
}

/// Who has how much. A name is here only while it has something.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    bytes: Mutex<HashMap<Arc<str>, u64>>,
    gauge: OwnerBytes,
}

impl Ledger {
    /// Shows what it counts in this gauge.
    pub(crate) fn new(gauge: OwnerBytes) -> Arc<Self> {
        Arc::new(Ledger { bytes: Mutex::default(), gauge })
    }

    /// What is counted for a name now.
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.bytes().get(name).copied().unwrap_or(0)
    }

    fn bytes(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        // Each change below is one of a number.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, name: &str, bytes: u64) {
        let labels = [("owner", name.to_owned())];
        if bytes == 0 {
            self.gauge.remove(&labels);
        } else {
            self.gauge.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

/// The bytes of one payload, or of one on its way, that count for a name; given
/// back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    by: PutBy,
    bytes: u64,
}

impl Share {
    /// Nothing so far.
    pub(crate) fn new(ledger: &Arc<Ledger>, by: PutBy) -> Self {
        Share { ledger: Arc::clone(ledger), by, bytes: 0 }
    }

    /// Of a payload that is stored already, whatever the quota is now.
    pub(crate) fn stored(ledger: &Arc<Ledger>, name: Arc<str>, bytes: u64) -> Self {
        let mut share = Share::new(ledger, PutBy { name, quota_bytes: None });
        // Without a quota there is nothing to refuse.
        drop(share.reach(bytes));
        share
    }

    /// Has at least so many bytes counted from here on.
    pub(crate) fn reach(&mut self, bytes: u64) -> Result<(), Error> {
        let needed = bytes.saturating_sub(self.bytes);
        if needed == 0 {
            return Ok(());
        }
        let mut all = self.ledger.bytes();
        let used = all.get(&self.by.name).copied().unwrap_or(0);
        let sum = used.saturating_add(needed);
        if let Some(quota) = self.by.quota_bytes.filter(|quota| sum > *quota) {
            let name = self.by.name.to_string();
            return Err(Error::QuotaFull { name, needed: bytes, used: used - self.bytes, quota });
        }
        all.insert(Arc::clone(&self.by.name), sum);
        self.ledger.show(&self.by.name, sum);
        drop(all);
        self.bytes += needed;
        Ok(())
    }

    /// Whose it is.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.by.name
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut all = self.ledger.bytes();
        let left = all.get(&self.by.name).copied().unwrap_or(0).saturating_sub(self.bytes);
        if left == 0 {
            all.remove(&self.by.name);
        } else {
            all.insert(Arc::clone(&self.by.name), left);
        }
        self.ledger.show(&self.by.name, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(quota: Option<u64>) -> PutBy {
        PutBy { name: "ci".into(), quota_bytes: quota }
    }

    #[test]
    fn shares_of_one_name_count_together_and_are_given_back() {
        let ledger = Ledger::new(OwnerBytes::default());
        let (mut one, mut two) =
            (Share::new(&ledger, by(Some(10))), Share::new(&ledger, by(Some(10))));
        one.reach(4).unwrap();
        one.reach(6).unwrap();
        one.reach(5).unwrap();
        two.reach(4).unwrap();
        assert_eq!(ledger.of("ci"), 10);
        let error = two.reach(5).unwrap_err();
        assert!(
            matches!(error, Error::QuotaFull { needed: 5, used: 6, quota: 10, .. }),
            "{error:?}"
        );
        Share::new(&ledger, PutBy { name: "other".into(), quota_bytes: Some(3) }).reach(3).unwrap();
        assert_eq!((ledger.of("ci"), ledger.of("other")), (10, 0));
        drop(one);
        two.reach(10).unwrap();
        // What is stored counts beyond a quota that was lowered since.
        let stored = Share::stored(&ledger, "ci".into(), 90);
        assert_eq!(ledger.of("ci"), 100);
        assert!(two.reach(11).is_err());
        drop((stored, two));
        assert_eq!(ledger.of("ci"), 0);
    }

    #[test]
    fn the_gauge_has_only_names_that_have_something() {
        let gauge = OwnerBytes::default();
        let ledger = Ledger::new(gauge.clone());
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("bytes", "Bytes", gauge);
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.lines().filter(|line| line.starts_with("bytes")).collect::<Vec<_>>().join("\n")
        };
        let share = Share::stored(&ledger, "ci".into(), 7);
        assert_eq!(shown(), "bytes{owner=\"ci\"} 7");
        drop(share);
        assert_eq!(shown(), "");
    }
}
