//! Nodes with a network each, which a test breaks, and load on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::netns::{Cuts, Line, Network};
use sheaf_testkit::{free_port, wait_for_async, wait_until};

use super::cluster::Cluster;
use super::load::{Load, SHORT_LEASE};
use crate::harness::{PATIENCE, SHEAF, serve_by};
use crate::remote::sized;

/// How long leaders may be silent: longer than a busy machine holds up a heartbeat.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) election: Duration,
    words: [&'static str; 4],
}

/// Where packets are under way for no time.
pub(super) const NEAR: Times = Times {
    election: Duration::from_secs(1),
    words: ["--election-timeout", "1s", "--heartbeat-interval", "100ms"],
};

/// Where there are many nodes, or much to do, on a machine that is busy already.
pub(super) const BUSY: Times = Times {
    election: Duration::from_secs(2),
    words: ["--election-timeout", "2s", "--heartbeat-interval", "200ms"],
};

/// Where they are for up to a tenth of a second, as between distant machines.
pub(super) const FAR: Times = Times {
    election: Duration::from_secs(3),
    words: ["--election-timeout", "3s", "--heartbeat-interval", "600ms"],
};

/// Elections that one fault may cost: one, and one more for a split vote.
pub(super) const TERMS: u64 = 4;

/// Less than this share of the time between faults is too little.
const AVAILABLE: f64 = 0.9;

/// A cluster whose nodes have a network each, with load on it.
pub(super) struct Scene {
    pub(super) network: Arc<Network>,
    pub(super) cluster: Cluster,
    pub(super) load: Load,
    pub(super) clock: SharedClock,
    election: Duration,
}

impl Scene {
    /// `None` where no networks can be made.
    pub(super) async fn start(size: usize) -> Option<Self> {
        let times = if size > 3 { BUSY } else { NEAR };
        Some(Self::start_on(Network::start(size).unwrap()?, times, &[]).await)
    }

    /// In this network, with more words for each node.
    pub(super) async fn start_on(network: Network, times: Times, words: &[&str]) -> Self {
        let (size, network) = (network.size(), Arc::new(network));
        // No two tests have the same network: any port of it is free.
        let port = free_port().unwrap().release().port();
        let addresses = (0..size).map(|node| SocketAddr::new(network.addr(node), port)).collect();
        let words = [&times.words[..], &["--insecure"], words].concat();
        let mut cluster = Cluster::plan(size, addresses, &words);
        for node in 0..size {
            let network = Arc::clone(&network);
            cluster.launch(Arc::new(move |words| {
                serve_by(network.command(node, SHEAF), words).spawn().unwrap()
            }));
        }
        cluster.leader().await;
        let load = Load::start_with(3, SHORT_LEASE, || cluster.client());
        wait_until(PATIENCE, "the load to begin", || load.completed() > 0).unwrap();
        let (clock, election) = (SystemClock::shared(), times.election);
        Scene { network, cluster, load, clock, election }
    }

    /// Who leads, in which term, once all know.
    pub(super) async fn leader(&self) -> (usize, u64) {
        let leader = self.cluster.leader().await;
        (leader, self.cluster.term(leader).await)
    }

    pub(super) fn others(&self, one: usize) -> Vec<usize> {
        (0..self.network.size()).filter(|other| *other != one).collect()
    }

    /// Sets the line of every node.
    pub(super) fn set_lines(&self, line: Line) {
        (0..self.network.size()).for_each(|node| self.network.set_line(node, line));
    }

    /// Lets so many elections' time go by: so long that whoever hears no leader asks for votes.
    pub(super) async fn elections(&self, count: u32) {
        // sleep: what is to happen meanwhile is nothing.
        self.clock.sleep(count * self.election).await;
    }

    /// Makes these cuts, and waits until a majority has a leader under which work goes on.
    pub(super) async fn cut(&self, what: &str, cuts: &Cuts, majority: &[usize]) -> (usize, u64) {
        self.begin(what, cuts);
        self.goes_on(what, majority).await
    }

    /// Makes these cuts.
    pub(super) fn begin(&self, what: &str, cuts: &Cuts) {
        eprintln!("{what}: {cuts:?}");
        self.load.fault_begins();
        self.network.set(cuts).unwrap();
    }

    /// Waits until these have a leader under which work goes on.
    pub(super) async fn goes_on(&self, what: &str, majority: &[usize]) -> (usize, u64) {
        let led = async || {
            let leader = self.cluster.leads(majority).await?;
            let before = self.load.completed();
            // sleep: time in which a leader that counts gets something done.
            self.clock.sleep(self.election).await;
            (self.load.completed() > before).then_some(leader)
        };
        let led = wait_for_async(PATIENCE, "a majority to go on", led).await;
        led.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.cluster.last_words()))
    }

    /// Ends the cuts: soon there is a leader, and everybody follows it, in the term it had.
    pub(super) async fn heal(&self, what: &str, (leader, term): (usize, u64)) {
        let after = self.whole(what).await;
        let healed = self.clock.elapsed();
        self.follow(what, (leader, term)).await;
        let follow = after + self.clock.elapsed() - healed;
        eprintln!("{what}: a leader after {after:?}, all follow after {follow:?}");
        self.calm(what).await;
    }

    /// Ends cuts and loss; how soon there is a leader.
    pub(super) async fn whole(&self, what: &str) -> Duration {
        self.network.heal().unwrap();
        self.network.lose(0).unwrap();
        self.load.fault_ends();
        let healed = self.clock.elapsed();
        let all = self.cluster.asked();
        let led = wait_for_async(PATIENCE, "a leader", || self.cluster.leads(&all)).await;
        let after = self.clock.elapsed() - healed;
        let is_soon = led.is_ok() && after <= 3 * self.election;
        assert!(is_soon, "{what}: a leader after {after:?}: {}", self.cluster.last_words());
        after
    }

    /// Waits until everybody follows this one, in the term it had.
    pub(super) async fn follow(&self, what: &str, (leader, term): (usize, u64)) {
        let follows = async |index| {
            let status = self.cluster.status(index, false).await?;
            (status["leader"]["node_id"] == leader + 1).then_some(status["term"].as_u64())
        };
        for index in self.cluster.asked() {
            let what = format!("{what}: node {} to follow node {}", index + 1, leader + 1);
            let seen = wait_for_async(PATIENCE, &what, || follows(index)).await;
            let seen =
                seen.unwrap_or_else(|error| panic!("{error}: {}", self.cluster.last_words()));
            assert_eq!(seen, Some(term), "{what}: it came back without an election");
        }
    }

    /// Waits until all follow the same leader; who, and in which term.
    pub(super) async fn one_leader(&self, what: &str) -> (usize, u64) {
        let agreed = async || {
            let mut seen = Vec::new();
            for index in self.cluster.asked() {
                let status = self.cluster.status(index, false).await?;
                let leader = status["leader"]["node_id"].as_u64()?;
                seen.push((usize::try_from(leader).ok()? - 1, status["term"].as_u64()?));
            }
            seen.windows(2).all(|two| two[0] == two[1]).then(|| seen[0])
        };
        let agreed = wait_for_async(PATIENCE, "all to follow one leader", agreed).await;
        agreed.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.cluster.last_words()))
    }

    /// Some time without a fault, in which work goes on.
    pub(super) async fn calm(&self, what: &str) {
        let before = self.load.completed();
        // sleep: this is the load between two faults.
        self.clock.sleep(Duration::from_secs(sized(1, 5))).await;
        let goes_on = || self.load.completed() > before;
        let goes_on = wait_until(PATIENCE, "the work to go on", goes_on);
        goes_on.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.cluster.last_words()));
    }

    pub(super) async fn end(self) {
        let (batches, available) = self.load.settle(&self.cluster.client()).await;
        let digest = self.cluster.agree().await;
        eprintln!("{batches} batches, {:.1}% available, {digest}", available * 100.0);
        let is_enough = available >= AVAILABLE || !sheaf_testkit::soak();
        assert!(is_enough, "{:.1}% available outside of faults", available * 100.0);
    }
}
