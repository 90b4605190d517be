//! A backup whose client stands still.

use super::*;
use sheaf_retry::{ManualClock, Timestamp};
use sheaf_store::{Options, PutOptions};

const PATIENCE: Duration = Duration::from_secs(30);

async fn large(store: &Store) {
    let column = arrow_array::Int64Array::from_iter_values(0..1 << 20);
    let rows = arrow_array::RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).unwrap();
    store.put_batches(None, rows.schema(), &[rows], PutOptions::DISK).await.unwrap();
}

/// It ends although nobody asks for its next part, and says so when somebody does.
#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let options = Options::new(clock.clone()).with_data_dir(home.path());
    let store = Store::open(options).await.unwrap();
    large(&store).await;
    let backup = Backup {
        store: Some(store.clone()),
        embedded: None,
        locations: Vec::new(),
        data_dir: home.path().to_path_buf(),
        mode: Mode::Flight,
        coordinator: String::new(),
        clock: clock.clone(),
        turn: Arc::new(Semaphore::new(1)),
    };
    let mut unread = backup.start().unwrap();
    let second = backup.start().map(drop).unwrap_err();
    assert_eq!(second.code(), Code::Overloaded, "{second}");
    let waits = |wanted: usize| {
        let clock = &clock;
        sheaf_testkit::wait_until_async(PATIENCE, "the backup to wait", move || async move {
            clock.sleepers() >= wanted
        })
    };
    // The store's own task, and the backup.
    waits(2).await.unwrap();
    assert_eq!(store.stats().holds, 1);
    clock.advance(LIFETIME);
    let free = || async { backup.turn.available_permits() == 1 };
    sheaf_testkit::wait_until_async(PATIENCE, "the backup to end", free).await.unwrap();
    assert_eq!(store.stats().holds, 0);
    let mut last = Ok(());
    while let Some(message) = unread.next().await {
        last = message.map(drop);
    }
    assert_eq!(last.unwrap_err().code(), Code::DeadlineExceeded);

    let read: Vec<_> = backup.start().unwrap().collect().await;
    assert!(read.len() > 8 && read.iter().all(Result::is_ok), "{}", read.len());
    assert_eq!(store.stats().holds, 0);
}
