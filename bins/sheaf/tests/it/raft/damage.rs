//! Logs that are not as they were written: torn at the end, and damaged in the middle.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use sheaf_retry::SystemClock;
use sheaf_testkit::wait_until;

use super::cluster::{Cluster, free_addresses, plainly};
use super::load::{self, Load};
use crate::harness::{PATIENCE, sheaf};
use crate::parts::Part;
use crate::remote::{seed, sized};

/// Before the body of each record: magic, length, offset, what was on disk, checksum.
pub(super) const HEAD: usize = 28;
const MAGIC: &[u8] = b"SHRL";

/// The newest file of a node's log.
pub(super) fn newest_segment(cluster: &Cluster, index: usize) -> PathBuf {
    let folder = cluster.data(index).join("raft").join("log");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap()
}

/// Where the whole records of a file begin, and where the last of them ends.
pub(super) fn records(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    loop {
        let at = starts[starts.len() - 1];
        match bytes.get(at..at + HEAD) {
            Some(head) if &head[..4] == MAGIC => {
                let length = u32::from_le_bytes(head[4..8].try_into().unwrap());
                let next = at + HEAD + usize::try_from(length).unwrap();
                if next > bytes.len() {
                    return starts;
                }
                starts.push(next);
            }
            _ => return starts,
        }
    }
}

/// A record as the next write would have begun with it: a copy of the last one, in its
/// place, with so many bytes of it on disk, and one of them wrong where wanted.
fn torn_write(bytes: &[u8], kept: u64, is_garbled: bool) -> Vec<u8> {
    let starts = records(bytes);
    let (from, end) = (starts[starts.len() - 2], starts[starts.len() - 1]);
    let mut record = bytes[from..end].to_vec();
    let before = u64::from_le_bytes(record[8..16].try_into().unwrap());
    let offset = before + u64::try_from(end - from).unwrap();
    record[8..16].copy_from_slice(&offset.to_le_bytes());
    // The checksum is of the place before: this is no whole record, however long it is.
    let kept = usize::try_from(kept).unwrap() % record.len() + 1;
    if is_garbled {
        record[kept / 2] ^= 0x40;
    }
    record.truncate(kept);
    record
}

/// A follower is killed while it writes, and what it was writing is on its disk in part,
/// or wrongly. It cuts that off and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn soak_raft_follower_with_a_torn_write_goes_on() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(4, || cluster.client());
    let (clock, seed) = (SystemClock::shared(), seed());
    for round in 0..sized(4, 60) {
        // sleep: this is the load between two kills.
        clock.sleep(Duration::from_millis(700)).await;
        let leader = cluster.leader().await;
        let follower = (leader + 1 + usize::from(round % 4 > 1)) % 3;
        let term = cluster.term(leader).await;
        cluster.kill(follower);
        let path = newest_segment(&cluster, follower);
        let bytes = fs::read(&path).unwrap();
        let torn = torn_write(&bytes, seed.wrapping_mul(round + 1) >> 7, round % 2 == 1);
        let end = records(&bytes).pop().unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        // What the kill itself tore is part of the end too.
        file.set_len(u64::try_from(end).unwrap()).unwrap();
        (&file).write_all(&torn).unwrap();
        cluster.start_again(follower);
        let log = cluster.nodes[follower].process.stderr();
        assert!(log.contains("a write that was never acknowledged"), "{log}");
        assert_eq!(cluster.term(leader).await, term, "it came back without an election");
    }
    let (batches, _) = load.settle(&cluster.client()).await;
    eprintln!("{batches} batches, {}", cluster.agree().await);

    // Of one node the last writes are lost in a power cut, and the others have them.
    for lost in [1, seed % 97 + 2, seed % 4_001 + 100] {
        let follower = (cluster.leader().await + 1) % 3;
        cluster.kill_all(|cluster| {
            let file = OpenOptions::new().write(true).open(newest_segment(cluster, follower));
            let file = file.unwrap();
            file.set_len(file.metadata().unwrap().len().saturating_sub(lost)).unwrap();
        });
        cluster.leader().await;
        assert_eq!(load::completed(&cluster.client()).await, batches, "after {lost} bytes");
        eprintln!("{lost} bytes lost: {}", cluster.agree().await);
    }
}

/// A file of a node, with one bit wrong at this share of it.
fn flip(path: &PathBuf, part: usize) {
    let mut bytes = fs::read(path).unwrap();
    let starts = records(&bytes);
    // In the body of a record that others were written behind.
    let at = starts[starts.len() / part] + HEAD + 1;
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// What was acknowledged is damaged on one node: it says so and does not start, the
/// others go on, and what it says to do helps.
#[tokio::test(flavor = "multi_thread")]
async fn raft_node_with_a_damaged_log_does_not_start_and_is_replaced() {
    let mut cluster = Cluster::plan(3, free_addresses(4), &[]);
    cluster.launch_founders();
    let leader = cluster.leader().await;
    let load = Load::start(4, || cluster.client());
    let clock = SystemClock::shared();
    // sleep: this is the load before.
    clock.sleep(Duration::from_secs(2)).await;
    let follower = (leader + 1) % 3;
    cluster.kill(follower);
    let path = newest_segment(&cluster, follower);
    flip(&path, 2);
    let damaged = fs::read(&path).unwrap();
    let words = cluster.nodes[follower].words.clone();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut node = Part::launch(plainly(), &words);
    let status = node.process.wait_exit(PATIENCE).unwrap();
    let text = node.process.stderr();
    assert_eq!(status.code(), Some(9), "{text}");
    assert!(text.contains("is damaged at byte") && !text.contains("panicked"), "{text}");
    assert!(text.contains(path.to_str().unwrap()) && text.contains("another id"), "{text}");
    assert!(text.contains("error: ") && text.contains("help: the other nodes have"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "left as it was");
    cluster.leave_out(follower);
    let before = load.completed();
    wait_until(PATIENCE, "the others to go on", || load.completed() > before).unwrap();
    cluster.assert_calm(cluster.leader().await).await;

    replace(&mut cluster, follower).await;
    let (batches, _) = load.settle(&cluster.client()).await;
    eprintln!("{batches} batches, {}", cluster.agree().await);
}

/// As the message says: the node is taken out, and one under another id comes.
pub(super) async fn replace(cluster: &mut Cluster, lost: usize) {
    let at = cluster.uri(cluster.leader().await);
    sheaf(&["raft", "remove", &(lost + 1).to_string(), "--server", &at]).ok();
    let new = cluster.launch(plainly());
    let (id, uri) = ((new + 1).to_string(), cluster.uri(new));
    sheaf(&["raft", "add-learner", &id, &uri, "--server", &at]).ok();
    wait_until(PATIENCE, "it to be promoted", || {
        sheaf(&["raft", "promote", &id, "--server", &at]).code() == 0
    })
    .unwrap();
}

/// A follower comes back without what it had acknowledged: its leader says so and does
/// not count on it, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn raft_follower_that_lost_what_it_acknowledged_is_named_and_replaced() {
    let mut cluster = Cluster::plan(3, free_addresses(4), &[]);
    cluster.launch_founders();
    let leader = cluster.leader().await;
    let load = Load::start(4, || cluster.client());
    let clock = SystemClock::shared();
    // sleep: this is the load before.
    clock.sleep(Duration::from_secs(2)).await;
    let follower = (leader + 1) % 3;
    cluster.kill(follower);
    let path = newest_segment(&cluster, follower);
    let bytes = fs::read(&path).unwrap();
    let starts = records(&bytes);
    // Between two records: the file is as it was some time ago.
    let end = u64::try_from(starts[starts.len() / 2]).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(end).unwrap();
    cluster.start_again(follower);
    let named = format!("node {} had entry", follower + 1);
    wait_until(PATIENCE, "the leader to say so", || {
        let log = cluster.nodes[leader].process.stderr();
        log.lines().any(|line| line.contains(&named) && line.contains("its log was lost"))
    })
    .unwrap();
    assert_eq!(cluster.leader().await, leader, "{}", cluster.last_words());
    let before = load.completed();
    wait_until(PATIENCE, "the others to go on", || load.completed() > before).unwrap();
    cluster.assert_calm(leader).await;
    cluster.leave_out(follower);

    replace(&mut cluster, follower).await;
    let (batches, _) = load.settle(&cluster.client()).await;
    eprintln!("{batches} batches, {}", cluster.agree().await);
}
