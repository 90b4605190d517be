//! A server and its replica.

use std::time::Duration;

use sheaf_testkit::{Error, Flavour, Valkey};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_replica_has_everything_and_takes_over_when_it_is_told_to() {
    for flavour in Flavour::ALL {
        let options = Valkey::options(flavour).args(&["--requirepass", "secret"]);
        let Some(mut primary) = options.start().unwrap() else { continue };
        primary.command(&["SET", "sheaf", "bound"]).unwrap();
        let mut replica = Valkey::start_replica_of(&primary, &[]).unwrap();
        assert_eq!(replica.flavour(), flavour);
        assert_eq!(replica.command(&["GET", "sheaf"]).unwrap().text(), Some("bound"));
        let refused = replica.command(&["SET", "sheaf", "loose"]).unwrap_err();
        assert!(
            matches!(&refused, Error::Refused { message, .. } if message.starts_with("READONLY"))
        );

        let mut connection = primary.connect().unwrap();
        connection.command(&["SET", "sheaf", "bound twice"]).unwrap();
        assert_eq!(connection.command(&["WAIT", "1", "30000"]).unwrap().integer(), Some(1));

        primary.kill9().unwrap();
        replica.promote().unwrap();
        replica.command(&["SET", "more", "1"]).unwrap();
        assert_eq!(replica.command(&["GET", "sheaf"]).unwrap().text(), Some("bound twice"));
    }
}

#[test]
fn a_server_that_follows_nobody_is_not_waited_for_for_ever() {
    let Some(first) = Valkey::start(&[]).unwrap() else { return };
    let Some(second) = Valkey::start(&[]).unwrap() else { return };
    let error = second.wait_for_sync(first.addr(), Duration::from_millis(50)).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains(&format!("to follow {}", first.addr())), "{shown}");
    assert!(shown.contains("Ready to accept connections"), "its output is shown: {shown}");

    let (ip, port) = (first.addr().ip().to_string(), first.addr().port().to_string());
    second.command(&["REPLICAOF", &ip, &port]).unwrap();
    second.wait_for_sync(first.addr(), PATIENCE).unwrap();
}
