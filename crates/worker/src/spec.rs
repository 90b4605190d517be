//! From what a store says of a payload to what a coordinator is told.

use sheaf_coordinator::BatchSpec;
use sheaf_store::{PayloadInfo, PutReceipt};

/// Something stored that can be registered as a batch.
///
/// ```
/// use arrow_array::{Int64Array, RecordBatch};
/// use sheaf_coordinator::BatchSpec;
/// use sheaf_flight::ipc::encode_batches;
/// use sheaf_retry::{RetryPolicy, SystemClock};
/// use sheaf_store::{Options, PutOptions, Store};
/// use sheaf_worker::ToSpec as _;
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let store = Store::open(Options::new(SystemClock::shared())).await?;
/// let column = std::sync::Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
/// let rows = RecordBatch::try_from_iter([("n", column)])?;
/// let messages = encode_batches(rows.schema(), &[rows])?.into_iter().map(Ok);
/// let stream = Box::pin(futures::stream::iter(messages));
/// let receipt = store.put(None, stream, PutOptions::MEMORY).await?;
/// let spec = BatchSpec { retry: Some(RetryPolicy::none()), ..receipt.to_spec() };
/// assert_eq!((spec.rows, spec.checksum), (3, receipt.checksum));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ToSpec {
    /// A batch of the default queue with all that is known of the payload:
    /// workers check it against that. No location is named, which means the
    /// store beside the coordinator.
    fn to_spec(&self) -> BatchSpec;
}

/// A receipt does not say what the fingerprint of the schema is; the checksum,
/// which it does say, is over the schema too.
impl ToSpec for PutReceipt {
    fn to_spec(&self) -> BatchSpec {
        BatchSpec {
            rows: self.rows,
            bytes: self.bytes,
            checksum: self.checksum.clone(),
            ..BatchSpec::new(self.batch_id.clone())
        }
    }
}

impl ToSpec for PayloadInfo {
    fn to_spec(&self) -> BatchSpec {
        BatchSpec {
            rows: self.rows,
            bytes: self.bytes,
            checksum: self.checksum.clone(),
            schema_fingerprint: self.schema_fingerprint.clone(),
            ..BatchSpec::new(self.id.clone())
        }
    }
}
