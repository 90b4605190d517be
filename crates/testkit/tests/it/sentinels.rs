//! A primary under sentinels.

use std::net::SocketAddr;
use std::time::Duration;

use sheaf_testkit::{Flavour, Sentinels};

const PATIENCE: Duration = Duration::from_secs(60);

/// Kills the primary; the two addresses, that of the new one last.
fn fails_over(all: &mut Sentinels) -> (SocketAddr, SocketAddr) {
    assert_eq!((all.addrs().len(), all.servers().len()), (3, 2));
    let first = all.primary().unwrap();
    all.server(first).unwrap().command(&["SET", "sheaf", "bound"]).unwrap();
    all.server(first).unwrap().command(&["WAIT", "1", "30000"]).unwrap();

    assert_eq!(all.kill_primary().unwrap(), first);
    let second = all.wait_for_failover(first, PATIENCE).unwrap();
    assert_ne!(first, second);
    assert_eq!(all.primary().unwrap(), second);
    let server = all.server(second).unwrap();
    assert_eq!(server.command(&["GET", "sheaf"]).unwrap().text(), Some("bound"));
    server.command(&["SET", "sheaf", "bound again"]).unwrap();
    (first, second)
}

#[test]
fn sentinels_promote_the_replica_of_a_valkey_that_was_killed_and_take_it_back() {
    let Some(mut all) = Sentinels::start(Flavour::Valkey, &[]).unwrap() else { return };
    let (first, second) = fails_over(&mut all);
    // It comes back as the primary that it was, and has to be told otherwise.
    all.server(first).unwrap().restart().unwrap();
    all.wait_until_whole(PATIENCE).unwrap();
    let log = all.sentinel(0).unwrap().stdout();
    assert_eq!(all.primary().unwrap(), second, "one failover: {log}");
    let server = all.server(first).unwrap();
    assert_eq!(server.command(&["GET", "sheaf"]).unwrap().text(), Some("bound again"));
}

#[test]
fn sentinels_know_the_password_and_promote_a_redis_too() {
    let args = ["--requirepass", "secret"];
    let Some(mut all) = Sentinels::start(Flavour::Redis, &args).unwrap() else { return };
    fails_over(&mut all);
}

#[test]
fn two_sentinels_of_three_are_enough() {
    let Some(mut all) = Sentinels::start(Flavour::Valkey, &[]).unwrap() else { return };
    all.sentinel(0).unwrap().kill9().unwrap();
    assert!(all.sentinel(3).is_none());
    let first = all.kill_primary().unwrap();
    all.wait_for_failover(first, PATIENCE).unwrap();
}
