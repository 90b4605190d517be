//! Where payloads are looked for.

use sheaf_coordinator::BatchSpec;
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{Options, Store};
use sheaf_worker::{LocalPayloads, Payloads as _};

use crate::support::id;

#[tokio::test]
async fn only_what_should_be_here_is_lost_when_it_is_not() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let payloads = LocalPayloads::new(store).with_own(vec!["grpc://me:1".to_owned()]);
    let mut batch = BatchSpec::new(id("b"));
    for (locations, code) in [
        (vec![], Code::NotFound),
        (vec!["grpc://me:1".to_owned()], Code::NotFound),
        (vec!["grpc://me:1".to_owned(), "grpc://other:1".to_owned()], Code::Unavailable),
    ] {
        batch.locations = locations;
        let error = payloads.open(&batch).await.err().unwrap();
        assert_eq!(error.code(), code, "{:?}: {error}", batch.locations);
    }
}
