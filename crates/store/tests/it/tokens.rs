//! Rights and quotas of tokens at the port of a store.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use sheaf_flight::{
    CallOptions, ChannelPool, ClientConfig, ClientSecurity, Exposure, FlightRouter, Listener,
    Secret, Security, SecurityFiles, Server, ServerHandle, TokenSource,
};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};
use sheaf_store::{
    ClientPut, Durability, FlightClient, NAMESPACE, Options, Store, StoreActions, StoreHandler,
};
use sheaf_testkit::TempDir;

use crate::support::{batch, id, messages, stream_of};

fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

struct Served {
    server: ServerHandle,
    store: Store,
}

/// Serves the store of a directory to tokens that are a name and words.
async fn serve(folder: &Path, lines: &[(&str, String)]) -> Served {
    let path = folder.join("tokens");
    let text = |(name, words): &(&str, String)| format!("{name} {} {words}\n", token(name));
    std::fs::write(&path, lines.iter().map(text).collect::<String>()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let clock = SystemClock::shared();
    let files = SecurityFiles { tokens: Some(path), ..SecurityFiles::default() };
    let security = Security::open(files, clock.clone()).unwrap();
    let options = Options::new(clock).with_data_dir(folder.join("data"));
    let store = Store::open(options).await.unwrap();
    let router = FlightRouter::builder()
        .handler(NAMESPACE, Arc::new(StoreHandler::new(store.clone(), Durability::Disk)))
        .actions(Arc::new(StoreActions::new(store.clone())))
        .build()
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).security(security).serve(listener).await.unwrap();
    Served { server, store }
}

impl Served {
    fn client(&self, name: &str) -> FlightClient {
        let token = TokenSource::Fixed(Secret::new(token(name)));
        let security = ClientSecurity { token, ..ClientSecurity::default() };
        let config = ClientConfig { security, ..ClientConfig::default() };
        let clock = SystemClock::shared();
        let pool = ChannelPool::new(config, clock.clone());
        FlightClient::with_pool(pool, &self.server.uri(), RetryPolicy::none(), clock).unwrap()
    }

    async fn stop(self) {
        self.server.drain(std::time::Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

fn size(seed: i64) -> u64 {
    messages(&[batch(seed, 200)]).iter().map(|message| message.len() as u64).sum()
}

async fn put(client: &FlightClient, name: &str, seed: i64) -> Result<(), sheaf_flight::Error> {
    let (name, rows) = (id(name), [batch(seed, 200)]);
    client.put(Some(&name), rows[0].schema(), &rows, ClientPut::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_under_eight_puts_and_over_a_restart() {
    let folder = TempDir::new().unwrap();
    let most = (0..8).map(size).max().unwrap();
    let quota = most * 3 + most / 2;
    let lines = [("ci", format!("quota={quota}")), ("free", String::new())];
    let served = serve(folder.path(), &lines).await;
    let client = served.client("ci");
    let puts = (0..8).map(|seed| {
        let client = client.clone();
        async move { put(&client, &format!("p{seed}"), seed).await }
    });
    let refused: Vec<_> = join_all(puts).await.into_iter().filter_map(Result::err).collect();
    assert!(refused.iter().all(|error| error.code() == Code::QuotaFull), "{refused:?}");
    // One at a time, the rest of what fits is put.
    for seed in 0..8 {
        let again = put(&client, &format!("p{seed}"), seed).await;
        assert!(again.map_or_else(|error| error.code() == Code::QuotaFull, |()| true));
    }
    let (held, stored) = (served.store.bytes_put_by("ci"), served.store.stats());
    // Each has three messages, which count something besides.
    assert_eq!((held, stored.payloads), (stored.bytes + 3 * 3 * 64, 3));
    put(&served.client("free"), "other", 9).await.unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&client.info(&id("other")).await.unwrap().app_metadata).unwrap();
    assert_eq!(told["put_by"], "free");
    served.stop().await;

    let served = serve(folder.path(), &lines).await;
    assert_eq!(served.store.bytes_put_by("ci"), held);
    let client = served.client("ci");
    let error = put(&client, "more", 20).await.unwrap_err();
    assert_eq!(error.code(), Code::QuotaFull, "{error}");
    for part in ["\"ci\"", &held.to_string(), &quota.to_string(), "quota="] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
    let listed = served.store.list(&Default::default(), None, 10).await.unwrap();
    let own = listed.payloads.iter().find(|info| info.put_by.as_deref() == Some("ci")).unwrap();
    client.delete(&own.id).await.unwrap();
    put(&client, "more", 20).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_token_reads_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let lines = [
        ("all", String::new()),
        ("reader", "allow=batches:r".to_owned()),
        ("putter", "allow=batches:rw".to_owned()),
    ];
    let served = serve(folder.path(), &lines).await;
    put(&served.client("all"), "a", 1).await.unwrap();
    let reader = served.client("reader");
    assert_eq!(reader.get_batch(&id("a")).await.unwrap(), batch(1, 200));
    reader.info(&id("a")).await.unwrap();
    reader.connection().action("StoreStats", Bytes::new(), &CallOptions::default()).await.unwrap();
    let refused = |error: sheaf_flight::Error, letter: &str| {
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        for part in ["\"reader\"", "\"batches\"", &format!("lacks {letter}")] {
            assert!(error.message().contains(part), "{part} in {error}");
        }
    };
    refused(put(&reader, "b", 2).await.unwrap_err(), "w");
    refused(reader.delete(&id("a")).await.unwrap_err(), "x");
    for action in ["PinBatch", "UnpinBatch"] {
        let body = Bytes::from_static(br#"{"batch_id":"a"}"#);
        let pin = reader.connection().action(action, body, &CallOptions::default()).await;
        refused(pin.unwrap_err(), "x");
    }
    let echo = messages(&[batch(3, 3)]);
    let options = CallOptions::default();
    let echoed =
        reader.connection().exchange(&["batches", "echo"], &options, stream_of(&echo)).await;
    refused(echoed.err().unwrap(), "w");
    // To register takes a right to the coordinator, however it is done.
    let putter = served.client("putter");
    put(&putter, "c", 4).await.unwrap();
    let batch = batch(5, 3);
    let registered = ClientPut::REGISTERED;
    let put = putter.put(Some(&id("d")), batch.schema(), &[batch], registered).await;
    let error = put.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    assert!(error.message().contains("lacks x") && error.message().contains("\"coordinator\""));
    assert_eq!(served.store.stats().payloads, 2);
    served.stop().await;
}
