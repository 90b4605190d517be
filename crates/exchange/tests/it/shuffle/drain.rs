//! A worker that is to end.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::sync::oneshot;

use super::world::{LONG, Worker, batch, client, key, options, rows, schema, sender, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_was_killed_holds_up_no_drain_and_one_that_lives_ends() {
    let worker = Worker::new().await;
    let uri = worker.uri.clone();
    let send = |partition: u32, until: oneshot::Receiver<()>| {
        let (client, uri) = (client(options()), uri.clone());
        let last = stream::once(async move {
            until.await.unwrap();
            Ok(batch(20_000, 2_000))
        });
        tokio::spawn(async move {
            let (key, rows) = (key(partition), rows(0, 20_000, 2_000).chain(last));
            client.send_data_to_worker(&uri, &key, sender(0, 1, 1), schema(), Box::pin(rows)).await
        })
    };
    let (_never, until) = oneshot::channel();
    let dying = send(0, until);
    let (now, until) = oneshot::channel();
    let living = send(1, until);
    let both = || async { worker.exchange.open_attempts() == 2 };
    sheaf_testkit::wait_until_async(LONG, "both to begin", both).await.unwrap();
    worker.exchange.drain();
    dying.abort();
    now.send(()).unwrap();
    soon("the drain", worker.exchange.drained()).await;
    assert_eq!(worker.exchange.open_attempts(), 1);
    // Who lives was waited for.
    soon("the sender", living).await.unwrap().unwrap();
    assert!(worker.handle.drain(Duration::from_secs(10)).await.cut.is_empty());
}
