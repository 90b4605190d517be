//! T10: one damaged record on disk fails alone, and the rest of the house works.

use redb::{Database, ReadableTable as _, TableDefinition};
use sheaf_coordinator::State;
use sheaf_retry::Code;

use crate::harness::{PATIENCE, Server};
use crate::remote::{Remote, id};

const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_record_fails_and_the_others_are_done() {
    let mut server = Server::start(&["--workers", "0"]);
    Remote::at(server.ready.url("flight").unwrap()).put(0..20).await;
    assert_eq!(server.process.terminate(PATIENCE).unwrap().code(), Some(0));
    let Server { folder, process, .. } = server;
    drop(process);
    {
        let database = Database::create(folder.path().join("data/coordinator.redb")).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut records = write.open_table(RECORDS).unwrap();
            let mut bytes = records.get(7).unwrap().unwrap().value().to_vec();
            let last = bytes.len() - 8;
            bytes[last] ^= 0x55;
            records.insert(7, bytes.as_slice()).unwrap();
        }
        write.commit().unwrap();
    }
    let out = format!("parquet:{}", folder.path().join("out").display());
    let server = Server::start_in(folder, &["--workers", "2", "--sink", &out]);
    let remote = Remote::at(server.ready.url("flight").unwrap());
    // The work goes on, with what was there and with what comes.
    remote.put(20..30).await;
    sheaf_testkit::wait_for_async(PATIENCE, "all others to be completed", || async {
        (remote.count(State::Completed).await == 29).then_some(())
    })
    .await
    .unwrap();
    let failed = remote.list(State::Failed).await;
    let [damaged] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(damaged.error.as_ref().unwrap().code, Code::Corrupt);
    let others: Vec<_> =
        remote.list(State::Completed).await.into_iter().map(|batch| batch.spec.id).collect();
    let missing: Vec<_> = (0..30).map(id).filter(|id| !others.contains(id)).collect();
    assert_eq!(missing, std::slice::from_ref(&damaged.spec.id), "it is the one that was damaged");
    // People see it where they look for failures.
    let shown = server.run(&["batches", "show", damaged.spec.id.as_str(), "--json"]).json();
    assert_eq!(
        (&shown[0]["state"], &shown[0]["error"]["code"]),
        (&"failed".into(), &"corrupt".into())
    );
}
