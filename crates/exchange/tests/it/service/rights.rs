//! Tokens: the same rights as over Flight.

use sheaf_exchange::service::{Compression, DataExchangeClient};
use sheaf_exchange::shuffle::{Error, Governor, ReadOptions};
use sheaf_flight::{
    ChannelPool, ClientConfig, ClientSecurity, Secret, Security, SecurityFiles, TokenSource,
};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::TempDir;

use super::world::{Worker, batch, key, options, rows, schema, sender};

fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

fn client_of(token: TokenSource) -> DataExchangeClient {
    let security = ClientSecurity { token, ..ClientSecurity::default() };
    let config = ClientConfig { security, ..ClientConfig::default() };
    let clock = SystemClock::shared();
    let pool = ChannelPool::new(config, clock.clone());
    DataExchangeClient::new(pool, clock, Governor::new(4 << 20), options(Compression::None))
}

fn client(name: &str) -> DataExchangeClient {
    client_of(TokenSource::Fixed(Secret::new(token(name))))
}

/// The code of each of the calls; `None` where it is allowed.
async fn codes(client: &DataExchangeClient, worker: &Worker) -> Vec<Option<Code>> {
    let uri = &worker.uri;
    let consume = ReadOptions { consume: true, ..ReadOptions::default() };
    let of = |result: Result<(), Error>| result.err().map(|error| error.code());
    let sender = sender(0, 1, 1);
    vec![
        of(client.stream_data(uri, &key(0), sender, schema(), rows(0, 9, 9)).await.map(drop)),
        of(client.send_results(uri, &key(1), sender, schema(), &[batch(0, 9)]).await.map(drop)),
        of(client.request_data(uri, &key(2), None, ReadOptions::default()).await.map(drop)),
        of(client.get_available_partitions(uri, "query:1", 3, false).await.map(drop)),
        of(client.request_data(uri, &key(2), None, consume).await.map(drop)),
        of(client.cleanup_query_data(uri, "query:9").await.map(drop)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_do_over_grpc_what_it_may_over_flight() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    let lines = [
        ("all", ""),
        ("reader", "allow=shuffle:r"),
        ("writer", "allow=shuffle:w"),
        ("changer", "allow=shuffle:rx"),
        ("elsewhere", "allow=batches:rwx"),
    ];
    let lines = lines.map(|(name, rest)| format!("{name} {} {rest}\n", token(name)));
    std::fs::write(&file, lines.concat()).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let files = SecurityFiles { tokens: Some(file), ..SecurityFiles::default() };
    let security = Security::open(files, SystemClock::shared()).unwrap();
    let worker = Worker::with(64 << 20, security).await;
    client("all")
        .send_results(&worker.uri, &key(2), sender(0, 1, 1), schema(), &[batch(0, 9)])
        .await
        .unwrap();

    let denied = Some(Code::PermissionDenied);
    let unknown = vec![Some(Code::Unauthenticated); 6];
    for (name, expected) in [
        ("reader", vec![denied, denied, None, None, denied, denied]),
        ("changer", vec![denied, denied, None, None, None, None]),
        ("elsewhere", vec![denied; 6]),
        ("nobody", unknown.clone()),
        ("writer", vec![None, None, denied, denied, denied, denied]),
        ("all", vec![None; 6]),
    ] {
        assert_eq!(codes(&client(name), &worker).await, expected, "{name}");
    }
    assert_eq!(codes(&client_of(TokenSource::None), &worker).await, unknown);
}
