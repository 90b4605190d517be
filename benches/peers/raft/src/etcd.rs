//! Puts and linearizable gets of etcd, over one connection to one server.

use etcd_client::{Client, KvClient};

use crate::{KEYS, Load, Result, key, measure};

/// What each request needs.
type Shared = (KvClient, std::sync::Arc<str>);

pub async fn run(load: &Load) -> Result<()> {
    let client = Client::connect([&load.endpoint], None).await?.kv_client();
    let value: std::sync::Arc<str> = "v".repeat(load.size).into();
    if load.puts {
        return measure::drive(load, (client, value), put).await;
    }
    // What is read is there.
    let puts = futures::future::try_join_all(
        (0..KEYS.min(1_000)).map(|number| put((client.clone(), value.clone()), number)),
    );
    puts.await?;
    measure::drive(load, (client, value), get).await
}

async fn put((mut client, value): Shared, number: u64) -> Result<()> {
    client.put(key(number), value.as_bytes(), None).await?;
    Ok(())
}

async fn get((mut client, _): Shared, number: u64) -> Result<()> {
    let answer = client.get(key(number % 1_000), None).await?;
    if answer.kvs().len() == 1 { Ok(()) } else { Err("a key that was put is not there".into()) }
}
