//! A Valkey behind a bad network.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sheaf_testkit::{
    Error, Fault, FaultProxy, Flavour, ReplyLoss, Valkey, ValkeyConnection, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing has to happen before a test believes it.
const QUIET: Duration = Duration::from_millis(150);

fn socket(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn through(proxy: &FaultProxy) -> ValkeyConnection {
    ValkeyConnection::open(proxy.addr(), None).unwrap()
}

fn number(server: &Valkey, key: &str) -> Option<i64> {
    server.command(&["GET", key]).unwrap().integer()
}

#[test]
fn a_lost_reply_is_that_of_a_request_that_was_done() {
    for flavour in Flavour::ALL {
        let Some(server) = Valkey::options(flavour).start().unwrap() else { continue };
        let proxy = FaultProxy::start(server.addr()).unwrap();
        let lost = proxy.lose_replies("INCR", 2, ReplyLoss::Cut);
        for done in 1..=2 {
            let mut connection = through(&proxy);
            connection.command(&["SET", "other", "1"]).unwrap();
            let error = connection.command(&["INCR", "n"]).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert_eq!((lost.hits(), number(&server, "n")), (done, Some(done as i64)));
        }
        assert_eq!(through(&proxy).command(&["INCR", "n"]).unwrap().integer(), Some(3));
        wait_until(PATIENCE, "the connections to be over", || proxy.open() == 0).unwrap();
    }
}

#[test]
fn replies_before_the_lost_one_arrive_however_the_requests_are_cut() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let lost = proxy.lose_replies("needle", 1, ReplyLoss::Cut);
    let mut stream = socket(&proxy);
    // The mark is at the end of a request of many pieces, cut in two itself.
    let value = format!("{}needle", "x".repeat(100_000));
    let requests = format!(
        "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n${}\r\n{value}\r\n\
         *2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
        value.len()
    );
    let middle = requests.find("edle").unwrap();
    stream.write_all(&requests.as_bytes()[..middle]).unwrap();
    let mut first = [0; 4];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b":1\r\n");
    stream.write_all(&requests.as_bytes()[middle..]).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    assert_eq!((rest.len(), lost.hits()), (0, 1));
    let kept = server.command(&["STRLEN", "long"]).unwrap().integer();
    assert_eq!(kept, Some(100_006));
}

#[test]
fn a_connection_may_fall_silent_instead() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let lost = proxy.lose_replies("mine", 1, ReplyLoss::Silence);
    let mut stream = socket(&proxy);
    stream.write_all(b"*2\r\n$4\r\nINCR\r\n$4\r\nmine\r\n").unwrap();
    wait_until(PATIENCE, "the reply to be lost", || lost.hits() == 1).unwrap();
    stream.write_all(b"*2\r\n$4\r\nINCR\r\n$4\r\nmine\r\n").unwrap();
    let both = || number(&server, "mine") == Some(2);
    wait_until(PATIENCE, "requests to go on", both).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_eq!(through(&proxy).command(&["INCR", "mine"]).unwrap().integer(), Some(3));
}

#[test]
fn an_outage_ends_and_clients_that_come_again_are_served() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let mut cut = through(&proxy);
    cut.command(&["PING"]).unwrap();
    proxy.set(Fault::Cut);
    assert!(cut.command(&["PING"]).is_err());
    assert!(through(&proxy).command(&["PING"]).is_err());
    proxy.set(Fault::None);
    let mut waits = socket(&proxy);
    let mut answer = [0; 7];
    proxy.set(Fault::Silent);
    waits.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    waits.set_read_timeout(Some(QUIET)).unwrap();
    assert!(waits.read(&mut answer).is_err(), "nothing comes during the outage");
    proxy.set(Fault::None);
    waits.set_read_timeout(Some(PATIENCE)).unwrap();
    waits.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}
