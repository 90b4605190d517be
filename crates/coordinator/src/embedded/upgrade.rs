//! The way from each version of the records to the next.
//!
//! The `meta` value says with which version every record can be read. A file
//! of a newer one is refused; one of an older is brought to this build's step
//! by step at open, before a record is loaded:
//!
//! - [`STEPS`] is the one place where a change of the records is written down.
//! - A step works in transactions of some thousand records. It passes over
//!   those that it has brought on already, so that it can be cut off between
//!   any two and run again.
//! - The number in `meta` is raised in a transaction after the last one: a
//!   crash repeats one step at the most.
//! - A record that is damaged stays as it is, for quarantine.
//!
//! While a step runs the file has records of both versions: this build reads
//! them, and the older one refuses the newer records.

use prost::Message as _;
use redb::{Database, ReadableTable as _};
use sheaf_proto::storage::v1::{CoordinatorMeta, QueueRecord};

use super::disk::{BATCHES, META, META_KEY, QUEUES};

/// Records of one transaction.
const GROUP: usize = 10_000;

/// The way to one version from the one before.
pub(super) struct Step {
    to: u32,
    what: &'static str,
    run: fn(&Database) -> Result<(), redb::Error>,
}

/// Every step there is, in order.
const STEPS: [Step; 1] = [Step {
    to: 2,
    what: "limits of queues, turns of tenants, batches that wait: all empty in what is there",
    run: |database| mark(database, 2),
}];

/// Brings a file to this build's version; a new one has none.
pub(super) fn upgrade(
    database: &Database,
    name: &str,
    meta: &mut CoordinatorMeta,
) -> Result<(), redb::Error> {
    take(database, name, meta, &STEPS)
}

fn take(
    database: &Database,
    name: &str,
    meta: &mut CoordinatorMeta,
    steps: &[Step],
) -> Result<(), redb::Error> {
    let found = meta.version;
    for step in steps.iter().filter(|step| found > 0 && step.to > found) {
        tracing::info!(file = name, to = step.to, what = step.what, "records are brought on");
        (step.run)(database)?;
        let write = database.begin_write()?;
        let next = CoordinatorMeta { version: step.to, ..meta.clone() };
        write.open_table(META)?.insert(META_KEY, next.encode_to_vec().as_slice())?;
        write.commit()?;
        *meta = next;
    }
    Ok(())
}

/// Gives every record the number `to`: nothing else of it changes.
fn mark(database: &Database, to: u8) -> Result<(), redb::Error> {
    let mut from = Some(0);
    while let Some(first) = from {
        let write = database.begin_write()?;
        {
            let mut batches = write.open_table(BATCHES)?;
            let (mut changed, mut seen, mut last) = (Vec::new(), 0, 0);
            for entry in batches.range(first..)?.take(GROUP) {
                let (sequence, value) = entry?;
                (seen, last) = (seen + 1, sequence.value());
                changed.extend(marked(value.value(), to).map(|value| (last, value)));
            }
            for (sequence, value) in changed {
                batches.insert(sequence, value.as_slice())?;
            }
            from = if seen == GROUP { last.checked_add(1) } else { None };
        }
        write.commit()?;
    }
    let write = database.begin_write()?;
    {
        let mut queues = write.open_table(QUEUES)?;
        let mut changed = Vec::new();
        for entry in queues.iter()? {
            let (name, value) = entry?;
            if let Ok(record) = QueueRecord::decode(value.value())
                && record.version < u32::from(to)
            {
                let record = QueueRecord { version: to.into(), ..record };
                changed.push((name.value().to_owned(), record.encode_to_vec()));
            }
        }
        for (name, value) in changed {
            queues.insert(name.as_str(), value.as_slice())?;
        }
    }
    write.commit()?;
    Ok(())
}

/// A whole batch record of an older version with another number; `None` for
/// any other. The number is the first field, the checksum the last.
fn marked(bytes: &[u8], to: u8) -> Option<Vec<u8>> {
    let (rest, stored) = bytes.split_last_chunk::<4>()?;
    let (key, covered) = rest.split_last()?;
    let is_older = matches!(covered, [8, version, ..] if *version < to);
    let is_whole = *key == (5 << 3) | 5 && crc32c::crc32c(covered) == u32::from_le_bytes(*stored);
    (is_older && is_whole).then(|| {
        let mut new = bytes.to_vec();
        new[1] = to;
        let end = new.len() - stored.len();
        let crc = crc32c::crc32c(&new[..end - 1]);
        new[end..].copy_from_slice(&crc.to_le_bytes());
        new
    })
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase as _;

    use super::*;
    use crate::engine::RECORD_VERSION;

    fn record(version: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![8, version];
        bytes.extend_from_slice(body);
        let crc = crc32c::crc32c(&bytes);
        bytes.push((5 << 3) | 5);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn database(records: &[(u64, Vec<u8>)]) -> Database {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut batches = write.open_table(BATCHES).unwrap();
            for (sequence, value) in records {
                batches.insert(sequence, value.as_slice()).unwrap();
            }
            write.open_table(META).unwrap();
            let mut queues = write.open_table(QUEUES).unwrap();
            let queue = QueueRecord {
                version: 1,
                queue: "q".to_owned(),
                paused: true,
                ..QueueRecord::default()
            };
            queues.insert("q", queue.encode_to_vec().as_slice()).unwrap();
        }
        write.commit().unwrap();
        database
    }

    fn all(database: &Database) -> Vec<Vec<u8>> {
        let read = database.begin_read().unwrap();
        let batches = read.open_table(BATCHES).unwrap();
        batches.iter().unwrap().map(|entry| entry.unwrap().1.value().to_vec()).collect()
    }

    fn stored_version(database: &Database) -> u32 {
        let read = database.begin_read().unwrap();
        let meta = read.open_table(META).unwrap();
        let value = meta.get(META_KEY).unwrap().unwrap();
        CoordinatorMeta::decode(value.value()).unwrap().version
    }

    fn old() -> CoordinatorMeta {
        CoordinatorMeta { version: 1, epoch: 7, last_fence: 9, ..CoordinatorMeta::default() }
    }

    #[test]
    fn steps_are_numbered_without_gaps_up_to_the_version() {
        let numbers: Vec<u32> = STEPS.iter().map(|step| step.to).collect();
        assert_eq!(numbers, (2..=RECORD_VERSION).collect::<Vec<_>>());
    }

    #[test]
    fn every_record_is_brought_on_but_damaged_ones() {
        let mut damaged = record(1, b"damaged");
        damaged[4] ^= 1;
        let many = u64::try_from(GROUP).unwrap() + 5;
        let mut records: Vec<_> = (1..=many).map(|n| (n, record(1, b"body"))).collect();
        records[3].1 = damaged.clone();
        // Brought on before a crash.
        records[4].1 = record(2, b"body");
        let database = database(&records);
        let mut meta = old();
        upgrade(&database, "test", &mut meta).unwrap();
        assert_eq!((meta.version, meta.epoch, stored_version(&database)), (2, 7, 2));
        let all = all(&database);
        assert_eq!(all[3], damaged);
        let right = |(n, bytes): (usize, &Vec<u8>)| n == 3 || *bytes == record(2, b"body");
        assert!(all.iter().enumerate().all(right));
        let read = database.begin_read().unwrap();
        let queues = read.open_table(QUEUES).unwrap();
        let queue = QueueRecord::decode(queues.get("q").unwrap().unwrap().value()).unwrap();
        assert_eq!((queue.version, queue.paused), (2, true));
    }

    const TWO: Step = Step { to: 2, what: "two", run: |database| mark(database, 2) };
    const THREE: Step = Step { to: 3, what: "three", run: |database| mark(database, 3) };
    /// The process ends after the records, before the number is written.
    const CRASH: Step = Step {
        to: 3,
        what: "three, cut off",
        run: |database| {
            mark(database, 3)?;
            Err(redb::Error::DatabaseClosed)
        },
    };

    #[test]
    fn what_a_crash_left_half_way_is_finished_at_the_next_open() {
        let database = database(&[(1, record(1, b"a")), (2, record(1, b"b"))]);
        let mut meta = old();
        take(&database, "test", &mut meta, &[TWO, CRASH]).unwrap_err();
        assert_eq!((meta.version, stored_version(&database)), (2, 2));
        take(&database, "test", &mut meta, &[TWO, THREE]).unwrap();
        assert_eq!((meta.version, stored_version(&database)), (3, 3));
        assert_eq!(all(&database), [record(3, b"a"), record(3, b"b")]);
    }

    #[test]
    fn a_new_file_needs_no_steps() {
        let database = database(&[]);
        let mut meta = CoordinatorMeta::default();
        upgrade(&database, "test", &mut meta).unwrap();
        assert_eq!(meta, CoordinatorMeta::default());
    }
}
