//! The identifier of a batch at a sink.

use sheaf_dataflow::{ComponentError, Received, Start};
use sheaf_proto::{BatchId, MAX_ID_LENGTH};

use crate::failure::refused;

/// Characters that are left of an identifier that is too long.
const SHOWN: usize = 100;

/// What identifiers of batches begin with.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    sink: String,
}

impl Identity {
    pub(crate) fn of(start: &Start) -> Self {
        Identity { sink: format!("{}.{}.{}", start.pipeline, start.component, start.instance) }
    }

    /// Whose batches these are: pipeline, component and instance.
    pub(crate) fn sink(&self) -> &str {
        &self.sink
    }

    /// The identifier of a batch: the same when the same process sends it again.
    ///
    /// The number alone would not do. A sender that was started again counts from the beginning,
    /// and other rows under an old number must not pass for rows that are written, also where
    /// they are equal to those: so which process sent them is a part of it. No two processes
    /// have the same epoch, of one run or of two.
    ///
    /// Over a durable edge it has a name already, in every run.
    pub(crate) fn id(&self, received: &Received) -> Result<BatchId, ComponentError> {
        if let Some(lease) = &received.lease {
            return BatchId::try_new(&lease.id).map_err(|error| {
                refused(format!("a batch is called {:?}", lease.id)).because(error)
            });
        }
        let Received { from, from_instance, epoch, sequence, .. } = received;
        let text = format!("{}:{from}.{from_instance}:{epoch:016x}:{sequence}", self.sink);
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch, StringArray};
    use sheaf_dataflow::BatchLease;

    use super::*;

    pub(crate) fn start(dir: &std::path::Path) -> Start {
        Start {
            pipeline: "sales".into(),
            component: "out".into(),
            config: Default::default(),
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
        Received { batch, from: "in".into(), from_instance: 0, epoch: 9, sequence, lease: None }
    }

    #[test]
    fn a_batch_is_known_again_and_no_other_passes_for_it() {
        let identity = Identity::of(&start(std::path::Path::new("/")));
        let id = |received: &Received| identity.id(received).unwrap();
        let one = received(7, 0, 3);
        assert_eq!(id(&one), id(&received(7, 0, 3)));
        assert_eq!(identity.number(&one).unwrap(), identity.number(&one.clone()).unwrap());
        let other_sender = Received { from: "other".into(), ..one.clone() };
        let other_instance = Received { from_instance: 1, ..one.clone() };
        // Equal rows under the same number, of a process that was started again.
        let started_again = Received { epoch: 10, ..one.clone() };
        for other in [received(8, 0, 3), other_sender, other_instance, started_again] {
            assert_ne!(id(&one), id(&other));
            assert_ne!(identity.number(&one).unwrap(), identity.number(&other).unwrap());
        }
    }

    #[test]
    fn over_a_durable_edge_a_batch_keeps_its_name_in_every_run() {
        let start = start(std::path::Path::new("/"));
        let lease = |id: &str| Some(BatchLease { id: id.into(), fence: 7 });
        let one = Received { lease: lease("p:a:b:0-0:00:1"), ..received(7, 0, 3) };
        let again = Received { epoch: 10, sequence: 1, ..one.clone() };
        let (first, second) = (Identity::of(&start), Identity::of(&start));
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
        let identity = Identity::of(&start);
        let from = |sequence| Received { from: long.as_str().into(), ..received(sequence, 0, 1) };
        let (first, second) = (from(u64::MAX), from(u64::MAX - 1));
        assert_ne!(identity.id(&first).unwrap(), identity.id(&second).unwrap());
        assert_eq!(identity.id(&first).unwrap(), identity.id(&from(u64::MAX)).unwrap());
    }
}
