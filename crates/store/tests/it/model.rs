//! Random calls against a store that is nothing but a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sheaf_flight::Message;
use sheaf_flight::ipc::Compression;
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{Budget, Options, PutOptions, Store};
use sheaf_testkit::TempDir;

use crate::support::{batch, get, get_as_put, messages, options, put, rows};

#[derive(Clone, Debug)]
enum Step {
    Put { name: u8, content: u8, disk: bool, codec: u8 },
    Get { name: u8, as_put: bool },
    Delete { name: u8 },
    Pin { name: u8, pinned: bool },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..6_u8;
    let step = prop_oneof![
        6 => (name.clone(), 0..3_u8, any::<bool>(), 0..3_u8)
            .prop_map(|(name, content, disk, codec)| Step::Put { name, content, disk, codec }),
        4 => (name.clone(), any::<bool>())
            .prop_map(|(name, as_put)| Step::Get { name, as_put }),
        2 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name, any::<bool>()).prop_map(|(name, pinned)| Step::Pin { name, pinned }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

struct Kept {
    content: u8,
    disk: bool,
    pinned: bool,
}

const CODECS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

/// Reads what was `put` under a name, byte for byte or as it is kept.
async fn compare(store: &Store, name: &str, as_put: bool, put: Option<&Vec<Message>>) {
    let got = match as_put {
        true => get_as_put(store, name).await,
        false => get(store, name).await,
    };
    match (got, put) {
        (Ok(got), Some(put)) if as_put => assert_eq!(got, *put),
        (Ok(got), Some(put)) => assert_eq!(rows(&got).await, rows(put).await),
        (Err(error), None) => assert_eq!(error.code(), Code::NotFound),
        (got, _) => panic!("{name}: {got:?}"),
    }
}

async fn run(steps: Vec<Step>) {
    let folder = TempDir::new().unwrap();
    // Room for about two payloads: most are spilled.
    let options = |budget| -> Options { options(folder.path()).with_budget(budget) };
    let contents: Vec<Vec<Message>> = (0..3_i64)
        .map(|seed| messages(&[batch(seed, 20 + usize::try_from(seed).unwrap()), batch(seed, 4)]))
        .collect();
    let mut model: BTreeMap<u8, Kept> = BTreeMap::new();
    let mut store = Store::open(options(Budget::new(16_000))).await.unwrap();
    for step in steps {
        match step {
            Step::Put { name, content, disk, codec } => {
                let how = if disk { PutOptions::DISK } else { PutOptions::MEMORY };
                let how = how.compressed(CODECS[usize::from(codec)]);
                let result =
                    put(&store, &name.to_string(), &contents[usize::from(content)], how).await;
                match model.get_mut(&name) {
                    None => {
                        assert!(result.unwrap().created);
                        model.insert(name, Kept { content, disk, pinned: false });
                    }
                    Some(kept) if kept.content == content => {
                        assert!(!result.unwrap().created);
                        kept.disk |= disk;
                    }
                    Some(_) => assert_eq!(result.unwrap_err().code(), Code::AlreadyExists),
                }
            }
            Step::Get { name, as_put } => {
                let put = model.get(&name).map(|kept| &contents[usize::from(kept.content)]);
                compare(&store, &name.to_string(), as_put, put).await;
            }
            Step::Delete { name } => {
                let result = store.delete(&name.to_string().parse().unwrap()).await;
                match model.get(&name) {
                    None => assert_eq!(result.unwrap_err().code(), Code::NotFound),
                    Some(kept) if kept.pinned => {
                        assert_eq!(result.unwrap_err().code(), Code::FailedPrecondition);
                    }
                    Some(_) => {
                        result.unwrap();
                        model.remove(&name);
                    }
                }
            }
            Step::Pin { name, pinned } => {
                let id = name.to_string().parse().unwrap();
                let result = if pinned { store.pin(&id).await } else { store.unpin(&id).await };
                assert_eq!(result.is_ok(), model.contains_key(&name));
                if let Some(kept) = model.get_mut(&name) {
                    kept.pinned = pinned;
                }
            }
            Step::Restart => {
                store.close().await;
                drop(store);
                let budget = Budget::new(16_000);
                store = Store::open(options(Arc::clone(&budget))).await.unwrap();
                assert_eq!(budget.used(), 0);
                model.retain(|_, kept| kept.disk);
            }
        }
        let stats = store.stats();
        assert!(stats.memory_bytes <= 16_000, "{stats:?}");
        let pinned = model.values().filter(|kept| kept.pinned).count() as u64;
        assert_eq!((stats.payloads, stats.pinned), (model.len() as u64, pinned));
        assert_eq!(stats.quarantined, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map_that_forgets_only_what_it_may(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }

    #[test]
    fn batches_of_any_length_come_back(rows in prop::collection::vec((any::<i16>(), 0..200_usize), 1..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            let store = Store::open(options(folder.path()).with_budget(Budget::new(1 << 20))).await.unwrap();
            let batches: Vec<_> = rows.iter().map(|(seed, rows)| batch((*seed).into(), *rows)).collect();
            let sent = messages(&batches);
            put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
            store.close().await;
            let store = Store::open(options(folder.path())).await.unwrap();
            assert_eq!(get(&store, "x").await.unwrap(), sent);
            let all = store.read(&"x".parse().unwrap(), &Default::default()).await.unwrap();
            let (_, all) = sheaf_flight::ipc::decode_stream(all, Default::default()).await.unwrap();
            let all: Vec<_> = futures::TryStreamExt::try_collect(all).await.unwrap();
            assert_eq!(all, batches);
        });
    }
}
