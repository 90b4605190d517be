//! etcd, alone and as a cluster that loses its leader.

use std::time::Duration;

use sheaf_testkit::{EtcdCluster, wait_for};

#[test]
fn one_server_keeps_what_it_acknowledged() {
    let Some(mut etcd) = EtcdCluster::start(1).unwrap() else { return };
    assert_eq!(etcd.get(0, "a").unwrap(), None);
    etcd.put(0, "a", b"first").unwrap();
    etcd.kill9(0).unwrap();
    assert!(etcd.get(0, "a").is_err());
    etcd.restart(0).unwrap();
    etcd.wait_until_healthy(0).unwrap();
    assert_eq!(etcd.get(0, "a").unwrap().as_deref(), Some(&b"first"[..]));
}

#[test]
fn a_cluster_goes_on_without_its_leader() {
    let Some(mut etcd) = EtcdCluster::start(3).unwrap() else { return };
    assert_eq!(etcd.endpoints().len(), 3);
    let minute = Duration::from_secs(60);
    let leader = wait_for(minute, "a leader", || etcd.leader()).unwrap();
    etcd.put(leader, "a", b"first").unwrap();
    let other = (leader + 1) % 3;
    assert_eq!(etcd.get(other, "a").unwrap().as_deref(), Some(&b"first"[..]));
    etcd.kill9(leader).unwrap();
    wait_for(minute, "another leader", || etcd.leader().filter(|new| *new != leader)).unwrap();
    wait_for(minute, "a put", || etcd.put(other, "a", b"second").ok()).unwrap();
    etcd.restart(leader).unwrap();
    etcd.wait_until_healthy(leader).unwrap();
    assert_eq!(etcd.get(leader, "a").unwrap().as_deref(), Some(&b"second"[..]));
}
