//! A cluster of six.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_testkit::{Cluster, Error, Flavour};

const PATIENCE: Duration = Duration::from_secs(60);
/// A key, and the slot that the specification of the cluster gives for it.
const KEY: (&str, u16) = ("123456789", 12739);

fn fails_over_and_comes_back(flavour: Flavour, args: &[&str]) {
    let Some(mut cluster) = Cluster::start(flavour, args).unwrap() else { return };
    assert_eq!(cluster.addrs().into_iter().collect::<BTreeSet<_>>().len(), 6);
    let primaries: BTreeSet<_> =
        [0, 8000, 16383].map(|slot| cluster.primary_of_slot(slot).unwrap()).into();
    assert_eq!(primaries.len(), 3);
    for node in cluster.nodes() {
        let info = node.command(&["CLUSTER", "INFO"]).unwrap();
        let info = info.text().unwrap();
        assert!(info.contains("cluster_state:ok"), "{info}");
        assert!(info.contains("cluster_known_nodes:6"), "{info}");
    }

    let slot = cluster.slot_of(KEY.0).unwrap();
    assert_eq!(slot, KEY.1);
    let first = cluster.primary_of_slot(slot).unwrap();
    let node = cluster.node(first).unwrap();
    node.command(&["SET", KEY.0, "bound"]).unwrap();
    node.command(&["WAIT", "1", "30000"]).unwrap();
    let other = cluster.primary_of_slot(0).unwrap();
    let moved = cluster.node(other).unwrap().command(&["GET", KEY.0]).unwrap_err();
    assert!(matches!(&moved, Error::Refused { message, .. }
        if *message == format!("MOVED {slot} {first}")));

    assert_eq!(cluster.kill_primary_of_slot(slot).unwrap(), first);
    let second = cluster.wait_for_failover(slot, first, PATIENCE).unwrap();
    cluster.wait_until_ok(PATIENCE).unwrap();
    assert_eq!(cluster.primary_of_slot(slot).unwrap(), second);
    let node = cluster.node(second).unwrap();
    assert_eq!(node.command(&["GET", KEY.0]).unwrap().text(), Some("bound"));

    cluster.restart(first).unwrap();
    cluster.wait_until_ok(PATIENCE).unwrap();
    assert_eq!(cluster.primary_of_slot(slot).unwrap(), second, "it comes back as a replica");
    cluster.node(first).unwrap().wait_for_sync(second, PATIENCE).unwrap();
}

#[test]
fn a_replica_of_a_valkey_cluster_takes_over_and_the_old_primary_follows_it() {
    fails_over_and_comes_back(Flavour::Valkey, &[]);
}

#[test]
fn a_cluster_of_redis_with_a_password_does_the_same() {
    fails_over_and_comes_back(Flavour::Redis, &["--requirepass", "secret"]);
}

#[test]
fn a_cluster_that_misses_a_primary_is_not_well() {
    let Some(mut cluster) = Cluster::start(Flavour::Valkey, &[]).unwrap() else { return };
    let slot = 100;
    let primary = cluster.primary_of_slot(slot).unwrap();
    let replica = cluster.nodes().iter().find(|node| {
        let info = node.info("replication").unwrap();
        info.get("master_port").map(String::as_str) == Some(&primary.port().to_string())
    });
    let replica = replica.unwrap().addr();
    cluster.node(replica).unwrap().kill9().unwrap();
    cluster.kill_primary_of_slot(slot).unwrap();
    let error = cluster.wait_until_ok(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("Ready to accept connections"), "{error}");
    cluster.restart(primary).unwrap();
    cluster.wait_until_ok(PATIENCE).unwrap();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    assert!(matches!(cluster.restart(nowhere), Err(Error::Io { .. })));
}
