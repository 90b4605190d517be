//! A network of its own for the processes of a test, and what breaks it.
//!
//! Each node is a network namespace with one interface to a bridge, which stands in a
//! namespace too; the test itself is on the bridge as one more node, [`Network::host`].
//! Rules of nftables on the bridge drop the packets of pairs that are cut: nobody is
//! told, as in a network that is broken. Open connections stay open and go on when
//! the cut heals. ARP always passes, as it would be cached.
//!
//! [`Network::lose`] has other rules lose some of all packets between nodes.
//!
//! Of a network [with lines](Network::start_with_lines) this process itself carries the
//! packets between the nodes and the bridge, over TAP interfaces instead of veth: the
//! [`Line`] of a node says how late, how often and how fast. Cuts and loss are as before.
//!
//! What single connections suffer (delay, loss, flipped bits) is a matter of
//! [`FaultProxy`](crate::FaultProxy); what processes do, of [`Process`]:
//! `pause`, `resume`, `kill9`.

mod cuts;
mod lines;
mod place;
mod tap;
mod tools;

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Process, ProcessCommand};

pub use cuts::Cuts;
pub use lines::Line;
use lines::Lines;
use place::Place;
use tools::Tools;

/// More than this is no cluster that a test needs.
const MAX_NODES: usize = 16;

/// So many nodes on one bridge; all of it is gone when this is dropped, save processes
/// that still run there.
///
/// It needs root, the programs `ip` and `nft`, and a kernel that lets it.
#[derive(Debug)]
pub struct Network {
    size: usize,
    tools: Tools,
    place: Place,
    lines: Option<Lines>,
}

impl Network {
    /// Makes a network in which everybody reaches everybody; `None`, after a `SKIP`
    /// line, for who is not root or may not do it here, or where a program is missing.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses, with what it said.
    ///
    /// # Panics
    /// Where a program is missing and `SHEAF_REQUIRE_SERVERS` is `1`, and for more than
    /// 16 nodes or none.
    pub fn start(size: usize) -> Result<Option<Network>, Error> {
        Self::start_as(size, false)
    }

    /// The same, with a line to each node that [`Network::set_line`] makes bad. The kernel
    /// needs `tun` too.
    ///
    /// # Errors
    /// As [`Network::start`].
    ///
    /// # Panics
    /// As [`Network::start`].
    pub fn start_with_lines(size: usize) -> Result<Option<Network>, Error> {
        if !Path::new(tap::DEVICE).exists() {
            crate::services::say(&format!("SKIP lines of networks: there is no {}", tap::DEVICE));
            return Ok(None);
        }
        Self::start_as(size, true)
    }

    fn start_as(size: usize, has_lines: bool) -> Result<Option<Network>, Error> {
        assert!((1..=MAX_NODES).contains(&size), "{size} nodes, of 1 to {MAX_NODES}");
        let Some(tools) = Tools::find() else { return Ok(None) };
        let place = Place::take()?;
        // From here on what was made is undone.
        let mut network = Network { size, tools, place, lines: None };
        network.remove();
        match network.make(has_lines) {
            Ok(()) => Ok(Some(network)),
            Err(error) if tools::is_forbidden(&error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string);
                let why = why.unwrap_or_default();
                crate::services::say(&format!("SKIP network namespaces: {error}: {why}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The test itself, as a node to cut.
    pub fn host(&self) -> usize {
        self.size
    }

    /// Where a node is reached, from every node and from the test.
    ///
    /// # Panics
    /// Where there is no such node; so do all that take one.
    pub fn addr(&self, node: usize) -> IpAddr {
        assert!(node <= self.size, "node {node} of {}", self.size);
        self.place.addr(node).into()
    }

    /// A process to start on a node.
    pub fn command(&self, node: usize, program: impl AsRef<OsStr>) -> ProcessCommand {
        assert!(node < self.size, "node {node} of {}", self.size);
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
        // `ip` becomes the program: its process id is that of the program.
        Process::command(self.tools.ip())
            .args(["netns", "exec", &self.place.namespace(node)])
            .arg(program)
            .name(format!("{name}-{node}"))
    }

    /// Cuts exactly these from now on: cuts from before heal unless they are among them.
    /// It is one step for packets.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn set(&self, cuts: &Cuts) -> Result<(), Error> {
        cuts.assert_within(self.size);
        self.tools.rules(&self.place.hub(), &cuts.rules(self.size))
    }

    /// Ends all cuts.
    ///
    /// # Errors
    /// As [`Network::set`].
    pub fn heal(&self) -> Result<(), Error> {
        self.set(&Cuts::none())
    }

    /// Makes these cuts and heals all, so many times, and stays in each state so long.
    /// Returns healed.
    ///
    /// # Errors
    /// As [`Network::set`].
    pub fn flap(&self, cuts: &Cuts, times: u32, stay: Duration) -> Result<(), Error> {
        for _ in 0..times {
            self.set(cuts)?;
            std::thread::sleep(stay);
            self.heal()?;
            std::thread::sleep(stay);
        }
        Ok(())
    }

    /// From now on each packet between two nodes is lost with this probability; what the
    /// test sends and is sent arrives. It needs `CONFIG_NFT_NUMGEN`.
    ///
    /// # Errors
    /// As [`Network::set`].
    ///
    /// # Panics
    /// For 100 and more: those that lose all are cut.
    pub fn lose(&self, percent: u8) -> Result<(), Error> {
        assert!(percent < 100, "{percent} of 100 packets");
        self.tools.rules(&self.place.hub(), &cuts::loss(percent, self.size))
    }

    /// What happens on the line of a node from now on; what is under way arrives as was
    /// said when it was sent.
    ///
    /// # Panics
    /// Where the network has no lines.
    pub fn set_line(&self, node: usize, line: Line) {
        assert!(node < self.size, "node {node} of {}", self.size);
        let Some(lines) = &self.lines else { panic!("this network was started without lines") };
        lines.set(node, line);
    }

    fn make(&mut self, has_lines: bool) -> Result<(), Error> {
        let (hub, link) = (self.place.hub(), self.place.link());
        let host = cuts::port(self.size, self.size);
        let mut outside = vec![format!("netns add {hub}")];
        let mut inside = vec!["link add bridge type bridge".to_owned()];
        let mut ends = Vec::new();
        for node in 0..self.size {
            let (space, port) = (self.place.namespace(node), cuts::port(node, self.size));
            outside.push(format!("netns add {space}"));
            if has_lines {
                let [one, other] = self.place.ends(node);
                ends.push((end(&one)?, end(&other)?));
                outside.push(format!("link set {one} netns {space} name eth0"));
                outside.push(format!("link set {other} netns {hub} name {port}"));
            } else {
                outside.push(format!(
                    "link add {port} netns {hub} type veth peer name eth0 netns {space}"
                ));
            }
        }
        if has_lines {
            self.lines = Some(Lines::start(ends)?);
        }
        outside.push(format!("link add {host} netns {hub} type veth peer name {link}"));
        outside.push(format!("addr add {}/24 dev {link}", self.place.addr(self.size)));
        outside.push(format!("link set {link} up"));
        for node in 0..=self.size {
            let port = cuts::port(node, self.size);
            inside.push(format!("link set {port} master bridge up"));
        }
        inside.push("link set bridge up".to_owned());
        self.tools.ip_batch(None, &outside)?;
        self.tools.ip_batch(Some(&hub), &inside)?;
        for node in 0..self.size {
            let addr = format!("addr add {}/24 dev eth0", self.place.addr(node));
            let up = ["link set lo up".to_owned(), addr, "link set eth0 up".to_owned()];
            self.tools.ip_batch(Some(&self.place.namespace(node)), &up)?;
        }
        self.heal()
    }

    /// Takes away what is there, be it of a process that was killed before it could.
    fn remove(&self) {
        self.tools.remove(&["link", "del", &self.place.link()]);
        for node in 0..MAX_NODES {
            let space = self.place.namespace(node);
            if place::exists(&space) {
                self.tools.remove(&["netns", "del", &space]);
            }
        }
        if place::exists(&self.place.hub()) {
            self.tools.remove(&["netns", "del", &self.place.hub()]);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.lines = None;
        self.remove();
    }
}

/// One end of a line.
fn end(name: &str) -> Result<OwnedFd, Error> {
    tap::open(name).map_err(Error::io(format!("make the interface {name}")))
}

/// One address of the range that is set apart for tests of networks.
fn test_addr(place: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, place, last)
}
