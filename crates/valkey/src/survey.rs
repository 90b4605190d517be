//! A look at a server that changes nothing there.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::Value;
use sheaf_coordinator::Error;
use sheaf_coordinator::migration::Phase;
use sheaf_retry::SharedClock;

use crate::checks;
use crate::coordinator::Builder;
use crate::link::Link;

/// Calls of which the median is the latency.
const CALLS: usize = 7;

/// What a server is, and whether a coordinator can be on it.
///
/// In a Cluster it is the server that has the keys of the namespace.
#[derive(Debug)]
pub struct Survey {
    /// `Valkey` or `Redis`.
    pub server: &'static str,
    /// Its version, such as `8.1.0`.
    pub version: String,
    /// How long answers to `PING` took, sorted.
    pub took: Vec<Duration>,
    /// What it does when its memory is full, such as `noeviction`.
    pub policy: String,
    /// Bytes of memory that it uses.
    pub used_bytes: u64,
    /// Bytes of memory that it may use; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// Whether it keeps an append-only file.
    pub is_appending: bool,
    /// Whether its last snapshot and its last write to the append-only file went well.
    pub is_saving: bool,
    /// `master`, or `slave` for a replica.
    pub role: String,
    /// Replicas that are connected to it.
    pub replicas: u64,
    /// Whether there is something in the namespace.
    pub is_in_use: bool,
    /// Why [`Builder::connect`] would refuse it.
    pub refused: Option<Error>,
}

impl Builder {
    /// Connects, looks at the server, and goes away again. Nothing is written,
    /// and no script is loaded.
    ///
    /// # Errors
    /// As [`Builder::connect`] where the server does not answer or does not let
    /// this user in; what else it refuses is in [`Survey::refused`].
    pub async fn survey(self, clock: &SharedClock) -> Result<Survey, Error> {
        let mut settings = self.settings;
        settings.connections = 1;
        settings.check()?;
        let link = Link::connect(&settings, Bytes::new()).await?;
        let surveyed = async {
            let refused = checks::server(&link, &settings).await.err();
            look(&link, &crate::endpoint::name(&settings), refused, clock).await
        };
        let surveyed = surveyed.await;
        link.close().await;
        surveyed
    }
}

async fn look(
    link: &Link,
    name: &str,
    refused: Option<Error>,
    clock: &SharedClock,
) -> Result<Survey, Error> {
    let text = link.command_of("INFO", Vec::new()).await?.as_string().unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    let info: HashMap<&str, &str> = pairs.collect();
    let get = |name: &str| info.get(name).copied().unwrap_or_default();
    let number = |name: &str| get(name).parse::<u64>().unwrap_or(0);
    let (server, version) = match get("valkey_version") {
        "" => ("Redis", get("redis_version")),
        version => ("Valkey", version),
    };
    let fine = |name: &str| matches!(get(name), "" | "ok");
    let used = link.command_of("EXISTS", vec![link.key("m").into()]).await?;
    let moving = link.command_of("GET", vec![link.key("mv").into()]).await?;
    let phase = Phase::decode(&moving.into_bytes().unwrap_or_default())?;
    let refused = refused.or_else(|| phase.refusal(name));
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let before = clock.elapsed();
        link.command_of("PING", Vec::<Value>::new()).await?;
        took.push(clock.elapsed().saturating_sub(before));
    }
    took.sort_unstable();
    Ok(Survey {
        server,
        version: version.to_owned(),
        took,
        policy: get("maxmemory_policy").to_owned(),
        used_bytes: number("used_memory"),
        limit_bytes: Some(number("maxmemory")).filter(|limit| *limit > 0),
        is_appending: get("aof_enabled") == "1",
        is_saving: fine("rdb_last_bgsave_status") && fine("aof_last_write_status"),
        role: get("role").to_owned(),
        replicas: number("connected_slaves"),
        is_in_use: used.as_u64().unwrap_or(0) > 0,
        refused,
    })
}
