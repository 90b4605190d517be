//! Senders and a receiver in processes of their own: many at once, and a reader
//! that is slower than they are.

use std::time::Duration;

use futures::future::try_join_all;
use sheaf_exchange::shuffle::{Error, ExchangeOptions, ReadOptions};
use sheaf_testkit::Process;

use super::world::{LONG, Worker, client, column, key, options, rows, schema, sender};

/// What a process is, in its environment; see [`a_process_of_its_own`].
const ROLE: &str = "SHEAF_TEST_ROLE";
/// Only bounds how long a broken test hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Numbers that a process is told, in this order.
#[derive(Clone, Copy, Default)]
struct Told {
    /// Bytes of the receiver, and whether its reader waits until they are used up.
    memory: i64,
    is_slow: i64,
    /// The first of so many senders of this process, of all senders; rows of each.
    first: i64,
    count: i64,
    senders: i64,
    rows: i64,
}

impl Told {
    fn write(self) -> String {
        let Told { memory, is_slow, first, count, senders, rows } = self;
        [memory, is_slow, first, count, senders, rows].map(|one| one.to_string()).join(",")
    }

    fn read(text: &str) -> Self {
        let numbers: Vec<i64> = text.split(',').map(|one| one.parse().unwrap()).collect();
        let [memory, is_slow, first, count, senders, rows] = numbers[..] else { panic!("{text}") };
        Told { memory, is_slow, first, count, senders, rows }
    }
}

/// This test binary again: as a receiver, or as senders to the receiver that it names.
fn start(told: Told, receiver: Option<&str>) -> Process {
    let role = format!("{} {}", told.write(), receiver.unwrap_or_default());
    Process::command(std::env::current_exe().unwrap())
        .name(if receiver.is_some() { "senders" } else { "receiver" })
        .args(["--exact", "shuffle::processes::a_process_of_its_own", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .spawn()
        .unwrap()
}

/// Not a test of its own: what a process does that the tests below have started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests start it"]
#[allow(clippy::print_stdout, reason = "so a process says what came of it")]
async fn a_process_of_its_own() {
    #[allow(clippy::disallowed_methods, reason = "so a test binary is told what it is")]
    let Ok(role) = std::env::var(ROLE) else { return };
    let (told, receiver) = role.split_once(' ').unwrap();
    let told = Told::read(told);
    let said = match receiver {
        "" => receive(told).await,
        uri => send(told, uri).await.unwrap(),
    };
    println!("\nresult {said} {}", peak_bytes());
}

#[allow(clippy::print_stdout, reason = "so a server says that it is up")]
async fn receive(told: Told) -> String {
    let worker = Worker::with_memory(told.memory as u64).await;
    println!("\nready flight={}", worker.uri);
    let pages = ExchangeOptions { page_bytes: told.memory as u64 / 2, ..options() };
    let client = client(pages).with_local(worker.uri.clone(), worker.exchange.clone());
    let read = ReadOptions { pipelined: true, consume: true, wait: LONG, ..ReadOptions::default() };
    let mut reader =
        client.request_data_from_worker(&worker.uri, &key(0), None, read).await.unwrap();
    let is_full = || async {
        let there = worker.exchange.get_available_partitions("query:1", 3).unwrap();
        let used = worker.budget.used() + (64 << 10);
        there.partitions[0].ready || used > worker.budget.limit()
    };
    let mut seen = vec![false; (told.senders * told.rows) as usize];
    loop {
        if told.is_slow == 1 {
            // The slowest reader that there is: it goes on when nobody else can.
            sheaf_testkit::wait_until_async(LONG, "memory to be full", is_full).await.unwrap();
        }
        let Some(batch) = reader.next().await.unwrap() else { break };
        for number in column(&batch, 1) {
            assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
        }
    }
    // Senders are still to hear that their commits were taken.
    worker.handle.drain(LONG).await;
    seen.iter().filter(|seen| **seen).count().to_string()
}

async fn send(told: Told, uri: &str) -> Result<String, Error> {
    // What the senders of a process hold is theirs to bound, for each.
    let pending_bytes = (8 << 20) / told.count as usize;
    let client = client(ExchangeOptions { pending_bytes, ..options() });
    let sends = (told.first..told.first + told.count).map(|index| {
        let client = client.clone();
        async move {
            let rows = rows(index * told.rows, (index + 1) * told.rows, 4_000);
            let sender = sender(index as u32, 1, told.senders as u32);
            client.send_data_to_worker(uri, &key(0), sender, schema(), rows).await
        }
    });
    let sent = try_join_all(sends).await?;
    Ok(sent.iter().map(|one| one.bytes).sum::<u64>().to_string())
}

/// The most memory that this process had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// Rows or bytes, and memory, that a process says at its end.
fn result(process: &mut Process) -> [u64; 2] {
    let status = process.wait_exit(PATIENCE).unwrap();
    let said = process.stdout();
    assert!(status.success(), "{status}\n{said}\n{}", process.stderr());
    let line = said.lines().find_map(|line| line.strip_prefix("result ")).unwrap();
    let mut numbers = line.split(' ').map(|one| one.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

#[test]
fn two_hundred_and_fifty_six_senders_in_four_processes_do_not_stop_each_other() {
    const SENDERS: i64 = 256;
    const MEMORY: i64 = 2 << 20;
    // Less than what is sent, so that senders have to wait for each other.
    let told = Told { memory: MEMORY, senders: SENDERS, rows: 1_000, ..Told::default() };
    let mut receiver = start(told, None);
    let uri = receiver.wait_ready(PATIENCE).unwrap().url("flight").unwrap().to_owned();
    let starts = (0..4).map(|at| Told { first: at * 64, count: 64, ..told });
    let mut senders: Vec<Process> = starts.map(|told| start(told, Some(&uri))).collect();
    let bytes: u64 = senders.iter_mut().map(|one| result(one)[0]).sum();
    assert!(bytes > 4 * MEMORY as u64, "{bytes} bytes were sent");
    assert_eq!(result(&mut receiver)[0], 256_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_reader_bounds_the_memory_of_both_processes() {
    const MEMORY: i64 = 8 << 20;
    const ROWS: i64 = 4_500_000;
    let told = Told { memory: MEMORY, is_slow: 1, senders: 1, count: 1, rows: ROWS, first: 0 };
    let mut idle = start(Told { rows: 1, ..told }, None);
    let uri = idle.wait_ready(PATIENCE).unwrap().url("flight").unwrap().to_owned();
    let mut small = start(Told { rows: 1, ..told }, Some(&uri));
    let (small, idle) = (result(&mut small)[1], result(&mut idle)[1]);

    let mut receiver = start(told, None);
    let uri = receiver.wait_ready(PATIENCE).unwrap().url("flight").unwrap().to_owned();
    let [bytes, sender] = result(&mut start(told, Some(&uri)));
    let [rows, receiver] = result(&mut receiver);
    assert_eq!(rows, ROWS as u64);
    let memory = MEMORY as u64;
    assert!(bytes > 20 * memory, "{bytes} bytes were sent");
    // Beside the partition, a window of the connection and pages that are not given back.
    let (more, most) = (receiver - idle, 4 * memory);
    assert!(more < most, "{more} bytes more in the receiver than with nothing to receive");
    let more = sender - small;
    assert!(more < most, "{more} bytes more in the sender than with nothing to send");
    println!("bytes {bytes}: receiver {idle} -> {receiver}, sender {small} -> {sender}");
}
