//! The identifier of a batch at a sink.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use sheaf_dataflow::{ComponentError, Received, Start};
use sheaf_proto::{BatchId, MAX_ID_LENGTH};
use sheaf_retry::Code;

use crate::failure::{failed_as, refused};

/// Characters that are left of an identifier that is too long.
const SHOWN: usize = 100;

/// What identifiers of batches begin with.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    sink: String,
    run: u64,
}

impl Identity {
    pub(crate) fn of(start: &Start, run: u64) -> Self {
        Identity { sink: format!("{}.{}.{}", start.pipeline, start.component, start.instance), run }
    }

    /// Whose batches these are: pipeline, component and instance.
    pub(crate) fn sink(&self) -> &str {
        &self.sink
    }

    /// The identifier of a batch: the same when it is sent again in the same run.
    ///
    /// The number alone would not do. A sender that lost its state counts from the beginning,
    /// and other rows under an old number must not pass for rows that are written: so what
    /// the rows are is a part of it.
    ///
    /// Over a durable edge it has a name already, in every run.
    pub(crate) fn id(&self, received: &Received) -> Result<BatchId, ComponentError> {
        if let Some(lease) = &received.lease {
            return BatchId::try_new(&lease.id).map_err(|error| {
                refused(format!("a batch is called {:?}", lease.id)).because(error)
            });
        }
        let Received { from, from_instance, sequence, .. } = received;
        let (digest, run) = (digest(&received.batch)?, self.run);
        let text = format!("{}:{run}:{from}.{from_instance}:{sequence}:{digest:032x}", self.sink);
        let text = if text.len() > MAX_ID_LENGTH { shortened(&text) } else { text };
        BatchId::try_new(&text).map_err(|error| {
            refused("pipeline and component have names of which no identifier can be made")
                .because(error)
        })
    }

    /// A number of 63 bits for the same.
    pub(crate) fn number(&self, received: &Received) -> Result<i64, ComponentError> {
        let id = self.id(received)?;
        let hash = twox_hash::XxHash3_64::oneshot(id.as_str().as_bytes());
        Ok((hash >> 1).cast_signed())
    }
}

/// The beginning, for people, and a digest of all of it.
fn shortened(text: &str) -> String {
    let digest = twox_hash::XxHash3_128::oneshot(text.as_bytes());
    let beginning: String = text.chars().take(SHOWN).collect();
    format!("{beginning}:{digest:032x}")
}

/// A digest of the rows and their columns.
fn digest(batch: &RecordBatch) -> Result<u128, ComponentError> {
    struct Hashing(twox_hash::XxHash3_128);

    impl std::io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let failed = || failed_as(Code::InvalidArgument, "rows cannot be written as Arrow IPC");
    let hashing = Hashing(twox_hash::XxHash3_128::new());
    let mut writer = StreamWriter::try_new(hashing, batch.schema_ref()).map_err(failed())?;
    writer.write(batch).map_err(failed())?;
    let hashing = writer.into_inner().map_err(failed())?;
    Ok(hashing.0.finish_128())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use sheaf_dataflow::BatchLease;

    use super::*;

    pub(crate) fn start(dir: &std::path::Path) -> Start {
        Start {
            pipeline: "sales".into(),
            component: "out".into(),
            instance: 0,
            replicas: 1,
            state_dir: dir.to_owned(),
            offset: None,
        }
    }

    pub(crate) fn received(sequence: u64, first: i64, rows: usize) -> Received {
        let n = Int64Array::from_iter_values((first..).take(rows));
        let text = StringArray::from_iter_values((first..).take(rows).map(|n| format!("row {n}")));
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(n) as arrow_array::ArrayRef),
            ("text", Arc::new(text) as _),
        ]);
        let batch = batch.unwrap();
        Received { batch, from: "in".into(), from_instance: 0, sequence, lease: None }
    }

    #[test]
    fn a_batch_is_known_again_and_no_other_passes_for_it() {
        let start = start(std::path::Path::new("/"));
        let first = Identity::of(&start, 1);
        let id = |identity: &Identity, received: &Received| identity.id(received).unwrap();
        let one = received(7, 0, 3);
        assert_eq!(id(&first, &one), id(&first, &received(7, 0, 3)));
        // Rows of a greater batch, as a slice of it.
        let slice = Received { batch: received(7, -2, 9).batch.slice(2, 3), ..one.clone() };
        assert_eq!(id(&first, &one), id(&first, &slice));
        assert_eq!(first.number(&one).unwrap(), first.number(&slice).unwrap());
        let other_sender = Received { from: "other".into(), ..one.clone() };
        for other in [received(8, 0, 3), received(7, 1, 3), received(7, 0, 2), other_sender] {
            assert_ne!(id(&first, &one), id(&first, &other));
        }
        assert_ne!(id(&first, &one), id(&Identity::of(&start, 2), &one));
    }

    #[test]
    fn over_a_durable_edge_a_batch_keeps_its_name_in_every_run() {
        let start = start(std::path::Path::new("/"));
        let lease = |id: &str| Some(BatchLease { id: id.into(), fence: 7 });
        let one = Received { lease: lease("p:a:b:0-0:00:1"), ..received(7, 0, 3) };
        let again = Received { sequence: 1, ..one.clone() };
        let (first, second) = (Identity::of(&start, 1), Identity::of(&start, 2));
        assert_eq!(first.id(&one).unwrap().as_str(), "p:a:b:0-0:00:1");
        assert_eq!(first.number(&one).unwrap(), second.number(&again).unwrap());
        let wrong = Received { lease: lease("no name"), ..one };
        assert!(first.id(&wrong).unwrap_err().to_string().contains("no name"));
    }

    #[test]
    fn names_of_any_length_have_identifiers() {
        let long = "x".repeat(63);
        let start = Start {
            pipeline: long.clone(),
            component: long.clone(),
            ..start(std::path::Path::new("/"))
        };
        let identity = Identity::of(&start, u64::MAX);
        let from = |sequence| Received { from: long.as_str().into(), ..received(sequence, 0, 1) };
        let (first, second) = (from(u64::MAX), from(u64::MAX - 1));
        assert_ne!(identity.id(&first).unwrap(), identity.id(&second).unwrap());
        assert_eq!(identity.id(&first).unwrap(), identity.id(&from(u64::MAX)).unwrap());
    }
}
