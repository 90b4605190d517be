//! Payloads that are held: nothing goes meanwhile, everything afterwards.

use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{Code, ManualClock, Retryable as _};
use sheaf_store::{
    Error, NewDataDirectory, Options, PutOptions, Store, check_payload, payload_name,
};

use crate::support::{advance, batch, clock, get, gone, id, messages, put};

const MINUTE: Duration = Duration::from_secs(60);

async fn open() -> (Store, Arc<ManualClock>) {
    let clock = clock();
    let mut options = Options::new(clock.clone());
    options.ttl = MINUTE;
    (Store::open(options).await.unwrap(), clock)
}

#[tokio::test]
async fn while_payloads_are_held_none_expires_and_none_is_deleted() {
    let (store, clock) = open().await;
    put(&store, "a", &messages(&[batch(1, 5)]), PutOptions::MEMORY).await.unwrap();
    put(&store, "b", &messages(&[batch(2, 5)]), PutOptions::MEMORY).await.unwrap();
    let hold = store.hold(2 * MINUTE).unwrap();
    for _ in 0..10 {
        advance(&clock, MINUTE).await;
        hold.renew().unwrap();
        let error = store.delete(&id("a")).await.unwrap_err();
        assert_eq!(error.code(), Code::Overloaded, "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
    }
    // Neither was used since, and both are past their time.
    assert_eq!((store.stats().payloads, store.stats().holds), (2, 1));
    let other = store.hold(MINUTE).unwrap();
    drop(hold);
    assert!(store.delete(&id("a")).await.is_err(), "one hold is enough");
    drop(other);
    gone(&store, "a").await;
    gone(&store, "b").await;
    assert_eq!(store.stats().holds, 0);
}

#[tokio::test]
async fn a_hold_that_nobody_renews_ends_and_says_so() {
    let (store, clock) = open().await;
    put(&store, "a", &messages(&[batch(1, 5)]), PutOptions::MEMORY).await.unwrap();
    let hold = store.hold(2 * MINUTE).unwrap();
    advance(&clock, MINUTE).await;
    store.info(&id("a")).unwrap();
    advance(&clock, MINUTE).await;
    gone(&store, "a").await;
    let lost = hold.renew().unwrap_err();
    assert!(matches!(lost, Error::HoldLost { .. }), "{lost}");
    assert_eq!(store.stats().holds, 0);
    drop(hold);
    let holds: Vec<_> = (0..16).map(|_| store.hold(MINUTE).unwrap()).collect();
    let refused = store.hold(MINUTE).unwrap_err();
    assert_eq!(refused.code(), Code::Overloaded, "{refused}");
    drop(holds);
    store.hold(MINUTE).unwrap();
}

/// In memory, on disk, pinned and with a name that does not fit a file.
#[tokio::test]
async fn the_files_of_payloads_make_another_store() {
    let (home, clock) = (tempfile::tempdir().unwrap(), clock());
    let options = Options::new(clock.clone()).with_data_dir(home.path().join("old"));
    let store = Store::open(options).await.unwrap();
    let long = ":".repeat(200);
    let names = ["disk", "memory", "pinned", long.as_str()];
    let sent = messages(&[batch(1, 500), batch(2, 300)]);
    for name in names {
        let how = if name == "memory" { PutOptions::MEMORY } else { PutOptions::DISK };
        put(&store, name, &sent, how).await.unwrap();
    }
    for name in ["memory", "pinned"] {
        store.pin(&id(name)).await.unwrap();
    }
    clock.advance(MINUTE);
    let new = NewDataDirectory::create(&home.path().join("new")).unwrap();
    for name in names {
        let files = store.files(&id(name)).await.unwrap();
        assert_eq!(files[0].name, payload_name(&id(name)));
        let pinned = usize::from(["memory", "pinned"].contains(&name));
        assert_eq!(files.len(), 1 + pinned, "{name}");
        for file in files {
            std::fs::write(new.path(&file.name).unwrap(), &file.content).unwrap();
        }
        let checked =
            check_payload(&new.path(&payload_name(&id(name))).unwrap(), &payload_name(&id(name)));
        let (checked, info) = (checked.unwrap(), store.info(&id(name)).unwrap());
        assert_eq!(
            (checked.id, checked.checksum, checked.bytes),
            (info.id, info.checksum, info.bytes)
        );
    }
    let options = || Options::new(clock.clone()).with_data_dir(home.path().join("new"));
    let early = Store::open(options()).await.unwrap_err();
    assert_eq!(early.code(), Code::DirectoryLocked, "{early}");
    new.finish().unwrap();
    let copy = Store::open(options()).await.unwrap();
    assert_eq!((copy.stats().payloads, copy.stats().pinned), (4, 2));
    for name in names {
        assert_eq!(get(&copy, name).await.unwrap(), sent);
        let (old, new) = (store.info(&id(name)).unwrap(), copy.info(&id(name)).unwrap());
        assert_eq!(old.created_at, new.created_at, "{name}");
    }
    assert!(matches!(store.files(&id("nobody")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let (home, clock) = (tempfile::tempdir().unwrap(), clock());
    let options = Options::new(clock).with_data_dir(home.path());
    let store = Store::open(options).await.unwrap();
    put(&store, "a", &messages(&[batch(1, 500)]), PutOptions::DISK).await.unwrap();
    store.close().await;
    let name = payload_name(&id("a"));
    let path = home.path().join(&name);
    check_payload(&path, &name).unwrap();
    let misnamed = check_payload(&path, &payload_name(&id("b"))).unwrap_err();
    assert_eq!(misnamed.code(), Code::Corrupt, "{misnamed}");
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    for at in (0..whole.len()).step_by(97) {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        std::fs::write(&path, changed).unwrap();
        if let Err(error) = check_payload(&path, &name) {
            assert_eq!(error.code(), Code::Corrupt, "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            found += 1;
        }
    }
    // The padding between messages is covered by nothing but the list of a backup.
    assert!(found * 10 > whole.len() / 97 * 8, "{found} of {}", whole.len() / 97);
}
