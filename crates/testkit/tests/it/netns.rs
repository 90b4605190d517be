//! Every cut of a network cuts what it says, and heals; packets are lost, late or doubled as said.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use sheaf_testkit::netns::{Cuts, Line, Network};
use sheaf_testkit::{Process, python};

const PATIENCE: Duration = Duration::from_secs(30);

/// Prints each datagram that comes, and echoes what comes over connections.
const NODE: &str = r#"
import socket, sys, threading
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("", 7000))
listener = socket.create_server(("", 7000))
def echo(connection):
    while data := connection.recv(4096):
        connection.sendall(data)
def accept():
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
print("ready", flush=True)
while True:
    print(datagrams.recv(4096).decode(), flush=True)
"#;

/// Sends one datagram with a text to every address.
const SEND: &str = r#"
import socket, sys
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for address in sys.argv[2:]:
    datagrams.sendto(sys.argv[1].encode(), (address, 7000))
"#;

/// Sends so many numbers to an address, one a millisecond.
const COUNT: &str = r#"
import socket, sys, time
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    datagrams.sendto(b"%d" % number, (sys.argv[1], 7000))
    time.sleep(0.001)
"#;

/// Sends so many bytes over a connection and says when all of them have come back.
const ECHO: &str = r#"
import socket, sys, threading, time
connection = socket.create_connection((sys.argv[1], 7000))
left = int(sys.argv[2])
began = time.monotonic()
threading.Thread(target=connection.sendall, args=(b"x" * left,), daemon=True).start()
while left:
    left -= len(connection.recv(65536))
print("millis", int((time.monotonic() - began) * 1000), flush=True)
"#;

/// Keeps one connection and says what a word on it does whenever it is asked to.
const TALK: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], 7000))
for number in range(2):
    connection.sendall(b"%d" % number)
    connection.recv(1)
    print("echoed", number, flush=True)
    if number == 0:
        while not open(sys.argv[2]).read():
            pass
"#;

struct Lab {
    network: Network,
    python: PathBuf,
    nodes: Vec<Process>,
    /// Counts rounds of datagrams.
    round: u32,
}

impl Lab {
    fn start(size: usize) -> Option<Lab> {
        Self::start_on(Network::start(size).unwrap()?)
    }

    fn start_on(network: Network) -> Option<Lab> {
        let (python, size) = (python()?, network.size());
        let start = |node| network.command(node, &python).args(["-c", NODE]).spawn().unwrap();
        let mut nodes: Vec<Process> = (0..size).map(start).collect();
        for node in &mut nodes {
            node.wait_for_line(PATIENCE, |line| (line == "ready").then_some(())).unwrap();
        }
        Some(Lab { network, python, nodes, round: 0 })
    }

    fn send(&self, from: usize, text: &str) {
        let all = (0..self.nodes.len()).filter(|to| *to != from);
        let all = all.map(|to| self.network.addr(to).to_string());
        let mut send = self
            .network
            .command(from, &self.python)
            .args(["-c", SEND, text])
            .args(all)
            .spawn()
            .unwrap();
        assert!(send.wait_exit(PATIENCE).unwrap().success(), "{}", send.stderr());
    }

    /// What the second node has received of so many numbers that the first one sends, once the
    /// network is whole again.
    fn count(&mut self, numbers: usize) -> Vec<usize> {
        let (to, numbers) = (self.network.addr(1).to_string(), numbers.to_string());
        let words = ["-c", COUNT, &to, &numbers];
        let mut send = self.network.command(0, &self.python).args(words).spawn().unwrap();
        assert!(send.wait_exit(PATIENCE).unwrap().success(), "{}", send.stderr());
        self.network.lose(0).unwrap();
        self.network.heal().unwrap();
        self.round += 1;
        let whole = format!("{} whole", self.round);
        self.send(0, &whole);
        self.nodes[1].wait_for_line(PATIENCE, |line| (line == whole).then_some(())).unwrap();
        let heard = self.nodes[1].stdout();
        let before = format!("{} whole", self.round - 1);
        let heard = heard.lines().skip_while(|line| self.round > 1 && *line != before);
        heard.filter_map(|line| line.parse().ok()).collect()
    }

    /// How long so many bytes take from the first node to the second and back.
    fn echo(&self, bytes: usize) -> Duration {
        let (to, bytes) = (self.network.addr(1).to_string(), bytes.to_string());
        let words = ["-c", ECHO, &to, &bytes];
        let mut echo = self.network.command(0, &self.python).args(words).spawn().unwrap();
        let millis = |line: &str| line.strip_prefix("millis ").and_then(|text| text.parse().ok());
        Duration::from_millis(echo.wait_for_line(PATIENCE, millis).unwrap())
    }

    /// Whom each node's datagrams reach under these cuts, as `01 1 2`.
    fn reach(&mut self, cuts: &Cuts) -> String {
        self.round += 1;
        let (round, size) = (self.round, self.nodes.len());
        self.network.set(cuts).unwrap();
        (0..size).for_each(|from| self.send(from, &format!("{round} cut {from}")));
        // What is sent over the healed network comes after all that passed before.
        self.network.heal().unwrap();
        (0..size).for_each(|from| self.send(from, &format!("{round} whole {from}")));
        let mut reached = vec![String::new(); size];
        for (to, node) in self.nodes.iter_mut().enumerate() {
            for (from, reached) in reached.iter_mut().enumerate() {
                if from != to {
                    let whole = format!("{round} whole {from}");
                    node.wait_for_line(PATIENCE, |line| (line == whole).then_some(())).unwrap();
                }
                let cut = format!("{round} cut {from}");
                if from == to || node.stdout().lines().any(|line| line == cut) {
                    reached.push_str(&to.to_string());
                }
            }
        }
        reached.join(" ")
    }
}

#[test]
fn cuts_drop_what_they_name_and_nothing_else() {
    let Some(mut lab) = Lab::start(5) else { return };
    for (cuts, expected) in [
        (Cuts::none(), "01234 01234 01234 01234 01234"),
        (Cuts::isolate(1, 5), "0234 1 0234 0234 0234"),
        (Cuts::between(0, 4), "0123 01234 01234 01234 1234"),
        (Cuts::one_way(0, 4), "0123 01234 01234 01234 01234"),
        (Cuts::partition(&[&[0, 1], &[2, 3, 4]]), "01 01 234 234 234"),
        (Cuts::bridge(2, 5), "012 012 01234 234 234"),
        (Cuts::majorities_ring(5), "014 012 123 234 034"),
    ] {
        assert_eq!(lab.reach(&cuts), expected, "{cuts:?}");
    }
}

#[test]
fn a_connection_stands_still_while_it_is_cut_and_goes_on_when_it_heals() {
    let Some(mut lab) = Lab::start(2) else { return };
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let go = folder.path().join("go");
    std::fs::write(&go, "").unwrap();
    let mut talk = lab
        .network
        .command(1, &lab.python)
        .args(["-c", TALK, &lab.network.addr(0).to_string()])
        .arg(&go)
        .spawn()
        .unwrap();
    talk.wait_for_line(PATIENCE, |line| (line == "echoed 0").then_some(())).unwrap();
    // One direction is enough to stop it: what it sends arrives, no answer does.
    lab.network.set(&Cuts::one_way(0, 1)).unwrap();
    std::fs::write(&go, "go").unwrap();
    let quiet = Duration::from_millis(300);
    talk.wait_for_line(quiet, |line| (line == "echoed 1").then_some(())).unwrap_err();
    lab.network.flap(&Cuts::isolate(0, 2), 2, Duration::from_millis(50)).unwrap();
    talk.wait_for_line(PATIENCE, |line| (line == "echoed 1").then_some(())).unwrap();
    assert!(talk.wait_exit(PATIENCE).unwrap().success());
    // A process that is stopped keeps its connections, and is killed by its id.
    lab.nodes[0].pause().unwrap();
    lab.nodes[0].resume().unwrap();
    assert!(lab.nodes[0].kill9().unwrap().code().is_none());
}

#[test]
fn the_test_itself_reaches_nodes_until_it_is_cut_off() {
    use std::net::TcpStream;

    let Some(lab) = Lab::start(1) else { return };
    let addr = (lab.network.addr(0), 7000).into();
    TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    lab.network.set(&Cuts::between(0, lab.network.host())).unwrap();
    TcpStream::connect_timeout(&addr, Duration::from_millis(300)).unwrap_err();
    lab.network.heal().unwrap();
    TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
}

#[test]
fn as_many_packets_between_nodes_are_lost_as_was_said() {
    use std::net::TcpStream;

    let Some(mut lab) = Lab::start(2) else { return };
    assert_eq!(lab.count(200), (0..200).collect::<Vec<_>>());
    lab.network.lose(30).unwrap();
    let some = lab.count(1_000).len();
    // Ten deviations to either side.
    assert!((555..845).contains(&some), "{some} of 1000 at a loss of 30%");
    lab.network.lose(95).unwrap();
    // To the test and back nothing is.
    let addr = (lab.network.addr(0), 7000).into();
    for _ in 0..20 {
        TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    }
    // Cuts and loss do not end each other.
    lab.network.heal().unwrap();
    let few = lab.count(200).len();
    assert!(few < 60, "{few} of 200 at a loss of 95%");
    assert_eq!(lab.count(50), (0..50).collect::<Vec<_>>());
}

#[test]
fn lines_delay_repeat_and_reorder_what_they_carry_and_are_as_slow_as_was_said() {
    let Some(network) = Network::start_with_lines(2).unwrap() else { return };
    let Some(mut lab) = Lab::start_on(network) else { return };
    let set = |lab: &Lab, line| (0..2).for_each(|node| lab.network.set_line(node, line));
    assert_eq!(lab.count(100), (0..100).collect::<Vec<_>>());
    assert!(lab.echo(4_000_000) > Duration::ZERO);

    let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(20));
    set(&lab, Line { delay, ..Line::default() });
    let took = lab.echo(1);
    assert!(took >= 4 * delay, "{took:?} there and back, over two lines each");
    set(&lab, Line { jitter, repeated_percent: 100, ..Line::default() });
    let found = lab.count(100);
    // What is still under way when the last word is heard is not counted.
    assert!(found.len() > 200, "{} of 100, each sent four times", found.len());
    assert!(found.windows(2).any(|two| two[0] > two[1]), "{found:?}");

    // Out over the slow line of the one and back over that of the other: the same bytes.
    set(&lab, Line { bytes_per_second: Some(200_000), ..Line::default() });
    let took = lab.echo(300_000);
    assert!(took >= Duration::from_secs(1), "{took:?} for 300 kB at 200 kB a second");
    set(&lab, Line::default());
    assert!(!lab.count(20).is_empty(), "and what was late before");
    lab.network.set(&Cuts::between(0, 1)).unwrap();
    let held = lab.count(20);
    assert_eq!(held, Vec::<usize>::new(), "lines are cut as others are");
}

#[test]
fn networks_are_apart_and_leave_nothing_behind() {
    let Some(one) = Network::start(2).unwrap() else { return };
    let other = Network::start(2).unwrap().unwrap();
    let all = [one.addr(0), one.addr(1), other.addr(0), other.addr(1)];
    assert_eq!(std::collections::BTreeSet::from(all).len(), 4);
    let IpAddr::V4(addr) = one.addr(0) else { panic!("{all:?}") };
    let name = format!("sheaf{}", addr.octets()[2]);
    // Another test may take the name next: whose it is shows when it was made.
    let mark = || {
        let made = |path: String| {
            let found = std::fs::metadata(path).ok();
            found.map(|found| (found.ino(), found.ctime(), found.ctime_nsec()))
        };
        let spaces = ["hub", "0", "1"].map(|space| made(format!("/run/netns/{name}-{space}")));
        let link = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
        (spaces, link)
    };
    let (spaces, link) = mark();
    assert!(spaces.iter().all(Option::is_some) && link.is_some(), "{spaces:?} {link:?}");
    drop(one);
    let (left, left_link) = mark();
    assert!(left_link.is_none() || left_link != link);
    for (before, after) in spaces.iter().zip(&left) {
        assert!(after.is_none() || after != before, "{spaces:?} {left:?}");
    }
}
