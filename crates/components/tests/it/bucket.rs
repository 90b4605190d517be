//! Files in a bucket, of a real service.

use std::sync::Arc;

use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_testkit::S3Server;

use crate::common::{
    all, goes_on_from_everywhere, numbers, received, sink_of, source, source_of, start,
};

fn storage(server: &S3Server) -> Value {
    json!({
        "endpoint": server.url(),
        "region": "eu-west-1",
        "accessKeyId": "me",
        "secretAccessKey": {"command": ["echo", "secret"]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_wrote_into_a_bucket_a_source_reads_and_goes_on_in() {
    let Some(server) = S3Server::start().unwrap() else { return };
    server.create_bucket("lake").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for format in ["parquet", "csv", "json", "ipc"] {
        let path = format!("s3://lake/{format}/rows");
        let config = json!({"path": path, "format": format, "storage": storage(&server)});
        for given in [[1, 2, 3], [2, 3, 4]] {
            let host = Host::plain();
            let mut sink = sink_of("file", config.clone(), dir.path(), &host).await.unwrap();
            for number in given {
                let first = i64::try_from(number).unwrap() * 10;
                sink.write(&received(number, first, 10)).await.unwrap();
            }
            assert_eq!(sink.flush().await.unwrap(), 3);
        }
        let config = json!({"path": path, "batchRows": 4, "storage": storage(&server)});
        let read = all(source("file", config.clone(), start(dir.path())).await.as_mut()).await;
        let mut read = numbers(&read, "n");
        read.sort_unstable();
        assert_eq!(read, (10..50).collect::<Vec<_>>(), "{format}");
        goes_on_from_everywhere("file", config, dir.path(), "n").await;
    }
    // A pattern has the same files, and nothing that was fetched stays.
    let config = json!({"path": "s3://lake/cs*/rows/*.csv", "storage": storage(&server)});
    let read = all(source("file", config, start(dir.path())).await.as_mut()).await;
    assert_eq!(numbers(&read, "n").len(), 40);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_is_told_without_secrets() {
    let Some(server) = S3Server::start().unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let host = Host { environment: Arc::new(|_| Some("hunter2".into())), ..Host::plain() };
    let mut storage = storage(&server);
    storage["secretAccessKey"] = json!({"env": "SECRET"});
    let config = json!({"path": "s3://nothing/x.csv", "storage": storage});
    let mut source = source_of("file", config, start(dir.path()), &host).await.unwrap();
    let error = source.next().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
