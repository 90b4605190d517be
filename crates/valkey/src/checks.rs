//! Whether a server can be trusted with batches.

use std::collections::HashMap;

use fred::prelude::Value;
use sheaf_coordinator::Error;
use sheaf_retry::Code;

use crate::config::{Durability, Settings};
use crate::link::Link;

/// Oldest versions whose scripts behave as these need: the first two numbers.
const OLDEST_VALKEY: (u32, u32) = (8, 0);
const OLDEST_REDIS: (u32, u32) = (7, 0);

/// Redis has WAITAOF from here on; every Valkey has it.
fn oldest_fsynced(name: &str) -> (u32, u32) {
    if name == "Redis" { (7, 2) } else { OLDEST_VALKEY }
}

fn refused(settings: &Settings, problem: String) -> Error {
    Error::Backend {
        operation: format!("use {}: {problem}", settings.address),
        code: Code::FailedPrecondition,
        source: None,
    }
}

async fn info(link: &Link, section: &'static str) -> Result<HashMap<String, String>, Error> {
    let text = link.command_of("INFO", vec![section.into()]).await?;
    let text = text.as_string().unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Checks version, eviction, persistence and, of a Cluster, its slots.
pub(crate) async fn server(link: &Link, settings: &Settings) -> Result<(), Error> {
    let server = info(link, "server").await?;
    let get = |name: &str| server.get(name).map_or("", String::as_str);
    let (name, found, oldest) = match get("valkey_version") {
        "" => ("Redis", get("redis_version"), OLDEST_REDIS),
        found => ("Valkey", found, OLDEST_VALKEY),
    };
    if version(found) < oldest {
        let (major, minor) = oldest;
        let problem = format!("{name} {found} is older than {major}.{minor}; upgrade it");
        return Err(refused(settings, problem));
    }
    let memory = info(link, "memory").await?;
    let policy = memory.get("maxmemory_policy").map_or("noeviction", String::as_str);
    let limited = memory.get("maxmemory").is_some_and(|limit| limit != "0");
    if policy != "noeviction" {
        let now = if limited { "may" } else { "would, once it has a maxmemory," };
        let problem = format!(
            "its maxmemory-policy is {policy}: it {now} drop batches that nobody has processed; \
             set `maxmemory-policy noeviction`"
        );
        return Err(refused(settings, problem));
    }
    let replication = info(link, "replication").await?;
    if replication.get("role").is_some_and(|role| role != "master") {
        let problem = "it is a replica; name its primary, or the Sentinels".to_owned();
        return Err(refused(settings, problem));
    }
    if settings.durability == Durability::Fsynced && version(found) < oldest_fsynced(name) {
        let problem = format!(
            "durability fsynced needs the command WAITAOF, which {name} {found} does not have; \
             upgrade it to 7.2, or use Valkey"
        );
        return Err(refused(settings, problem));
    }
    durability(link, settings, &replication).await?;
    if settings.address.is_cluster() {
        cluster(link, settings).await?;
    }
    Ok(())
}

async fn durability(
    link: &Link,
    settings: &Settings,
    replication: &HashMap<String, String>,
) -> Result<(), Error> {
    let persistence = info(link, "persistence").await?;
    let appends = persistence.get("aof_enabled").is_some_and(|on| on == "1");
    match settings.durability {
        Durability::Fsynced if !appends => Err(refused(
            settings,
            "durability fsynced needs its append-only file; set `appendonly yes`".to_owned(),
        )),
        Durability::Replicated
            if replication.get("connected_slaves").is_none_or(|count| count == "0") =>
        {
            Err(refused(
                settings,
                "durability replicated needs a replica, and none is connected; start one"
                    .to_owned(),
            ))
        }
        _ => {
            if !appends {
                tracing::warn!(address = %settings.address, "Valkey keeps no append-only file: \
                    what it has not saved is lost when it stops; set `appendonly yes`");
            }
            Ok(())
        }
    }
}

async fn cluster(link: &Link, settings: &Settings) -> Result<(), Error> {
    let text = link.command_of("CLUSTER", vec![Value::from("INFO")]).await?;
    let text = text.as_string().unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim_end().strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(':')).unwrap_or("unknown").to_owned()
    };
    let (state, assigned) = (value("cluster_state"), value("cluster_slots_assigned"));
    if state == "ok" {
        return Ok(());
    }
    let problem = format!(
        "its cluster_state is {state} with {assigned} of 16384 slots assigned; look at \
         `CLUSTER INFO` and repair it first"
    );
    Err(refused(settings, problem))
}
