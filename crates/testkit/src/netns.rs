//! A network of its own for the processes of a test, and what breaks it.
//!
//! Each node is a network namespace with one interface to a bridge, which stands in a
//! namespace too; the test itself is on the bridge as one more node, [`Network::host`].
//! Rules of nftables on the bridge drop the packets of pairs that are cut: nobody is
//! told, as in a network that is broken. Open connections stay open and go on when
//! the cut heals. ARP always passes, as it would be cached.
//!
//! What single connections suffer (delay, loss, flipped bits) is a matter of
//! [`FaultProxy`](crate::FaultProxy); what processes do, of [`Process`]:
//! `pause`, `resume`, `kill9`.

mod cuts;
mod place;
mod tools;

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use crate::{Error, Process, ProcessCommand};

pub use cuts::Cuts;
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
        assert!((1..=MAX_NODES).contains(&size), "{size} nodes, of 1 to {MAX_NODES}");
        let Some(tools) = Tools::find() else { return Ok(None) };
        let place = Place::take()?;
        // From here on what was made is undone.
        let network = Network { size, tools, place };
        network.remove();
        match network.make() {
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

    fn make(&self) -> Result<(), Error> {
        let (hub, link) = (self.place.hub(), self.place.link());
        let host = cuts::port(self.size, self.size);
        let mut outside = vec![format!("netns add {hub}")];
        let mut inside = vec!["link add bridge type bridge".to_owned()];
        for node in 0..self.size {
            let (space, port) = (self.place.namespace(node), cuts::port(node, self.size));
            outside.push(format!("netns add {space}"));
            outside.push(format!(
                "link add {port} netns {hub} type veth peer name eth0 netns {space}"
            ));
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
        self.remove();
    }
}

/// One address of the range that is set apart for tests of networks.
fn test_addr(place: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, place, last)
}
