//! The Kafka broker.

use std::net::{TcpListener, TcpStream};

use sheaf_testkit::{KafkaBroker, wait_until};

/// Of the protocol: what every test of a gateway needs.
const NEEDED: [i16; 9] = [0, 1, 2, 3, 8, 9, 11, 18, 19];

#[test]
fn a_broker_answers_dies_and_comes_back_on_its_port() {
    let Some(mut broker) = KafkaBroker::start_own().unwrap() else { return };
    let known = broker.api_versions().unwrap();
    for key in NEEDED {
        assert!(known.iter().any(|api| api.key == key), "no request {key}: {known:?}");
    }
    assert!(broker.is_own());
    let addr = broker.addr();
    assert_eq!(broker.bootstrap(), addr.to_string());

    broker.kill9().unwrap();
    assert!(TcpStream::connect(addr).is_err(), "still listening after kill -9");
    assert!(broker.api_versions().is_err());
    broker.restart().unwrap();
    assert_eq!((broker.addr(), broker.api_versions().unwrap()), (addr, known));

    broker.stop().unwrap();
    assert!(broker.api_versions().is_err());
    broker.restart().unwrap();
    assert!(broker.process().unwrap().try_exit().unwrap().is_none());
    drop(broker);
    assert!(TcpListener::bind(addr).is_ok(), "its port outlives it");
}

#[test]
fn a_paused_broker_answers_when_it_may_go_on() {
    let Some(mut broker) = KafkaBroker::start_own().unwrap() else { return };
    let process = broker.process().unwrap();
    process.pause().unwrap();
    process.resume().unwrap();
    let answers = || broker.api_versions().is_ok();
    wait_until(std::time::Duration::from_secs(10), "an answer", answers).unwrap();
}

#[test]
fn two_brokers_have_different_ports() {
    let (Some(first), Some(second)) =
        (KafkaBroker::start_own().unwrap(), KafkaBroker::start_own().unwrap())
    else {
        return;
    };
    assert_ne!(first.addr(), second.addr());
}
