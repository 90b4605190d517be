//! Health and metrics, as their readers see them.

use prometheus_client::registry::Registry;
use sheaf_raft_transport::{
    Config, Error, FlightTransport, Lane, RaftTransport as _, WindowConfig,
};
use sheaf_retry::SystemClock;

use crate::support::{PATIENCE, config, packet, pair};

#[tokio::test]
async fn health_names_the_server_the_peer_and_the_lanes_that_were_used() {
    let (one, _two) = pair().await;
    let health = |node: &crate::support::Node| {
        node.transport.health_status().into_iter().collect::<Vec<(String, bool)>>()
    };
    let known = |names: &[(&str, bool)]| {
        names.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect::<Vec<_>>()
    };
    assert_eq!(health(&one), known(&[("peer 2", false), ("server", true)]));
    one.transport.call(2, Lane::Control, "vote", packet(1, 1), PATIENCE).await.unwrap();
    let up = known(&[("peer 2", true), ("peer 2 control", true), ("server", true)]);
    assert_eq!(health(&one), up);
    let silent = FlightTransport::try_new(config(3), SystemClock::shared()).unwrap();
    assert!(!silent.health_status()["server"]);
}

#[tokio::test]
async fn metrics_are_read_by_name_and_from_a_registry() {
    let (one, _two) = pair().await;
    let mut registry = Registry::default();
    one.transport.metrics().register(&mut registry);
    one.transport.call(2, Lane::Control, "vote", packet(1, 92), PATIENCE).await.unwrap();
    let failed = one.transport.call(2, Lane::Control, "fail", packet(1, 1), PATIENCE).await;
    assert!(failed.is_err());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "sheaf_raft_transport_messages_sent_total 2",
        "sheaf_raft_transport_messages_received_total 1",
        "sheaf_raft_transport_bytes_sent_total 109",
        "sheaf_raft_transport_bytes_received_total 100",
        "sheaf_raft_transport_errors_total{reason=\"stale_fence\"} 1",
        "sheaf_raft_transport_in_flight_requests 0",
        "sheaf_raft_transport_in_flight_bytes 0",
        "sheaf_raft_transport_round_trip_seconds_count 1",
        "sheaf_raft_transport_reconnects_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(one.transport.metrics().counter("messages_sent"), Some(2));
    assert_eq!(one.transport.metrics().counter("nothing"), None);
}

#[test]
fn everything_that_is_wrong_with_a_configuration_is_told_at_once() {
    let wrong = Config {
        max_message_bytes: 16 << 20,
        window: WindowConfig { requests: 0, ..WindowConfig::default() },
        reply_timeout: std::time::Duration::ZERO,
        ..Config::new("no spaces, please", 1)
    };
    let error = FlightTransport::try_new(wrong, SystemClock::shared()).unwrap_err();
    let Error::Config { problems } = &error else { panic!("{error}") };
    for word in ["cluster_id", "window.requests", "window.bytes", "reply_timeout"] {
        assert!(problems.iter().any(|problem| problem.starts_with(word)), "{word}: {error}");
    }
    assert!(Config::new("fine", 1).validate().is_ok());
}
