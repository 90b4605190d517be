//! What the parent of several workers does next, whoever dies.

#[path = "../../workers/left.rs"]
mod decisions;

use std::collections::{BTreeMap, BTreeSet};

use decisions::{Left, Next};

const WORKERS: u32 = 3;
const PARTITIONS: u32 = 6;

fn of(partitions: &[u32]) -> BTreeSet<u32> {
    partitions.iter().copied().collect()
}

fn send(input: usize, attempt: u64, only: &[u32]) -> Option<Next> {
    Some(Next::Send { input, attempt, only: of(only) })
}

fn send_all(left: &mut Left) {
    for worker in 0..WORKERS {
        while let Some(Next::Send { input, .. }) = left.next(worker) {
            left.sent(input, worker, true);
            if left.has_sent(worker) {
                break;
            }
        }
    }
}

#[test]
fn nothing_is_read_before_everything_was_sent() {
    let mut left = Left::new(0..1, WORKERS, PARTITIONS);
    for worker in 0..WORKERS {
        assert_eq!(left.next(worker), send(0, 1, &[0, 1, 2, 3, 4, 5]));
    }
    left.sent(0, 0, true);
    left.sent(0, 1, true);
    assert_eq!(left.next(0), None);
    left.sent(0, 2, true);
    assert_eq!(left.next(0), Some(Next::Reduce { partition: 0, holder: 0 }));
}

#[test]
fn a_dead_worker_sends_again_and_the_others_only_what_it_held() {
    let mut left = Left::new(0..1, WORKERS, PARTITIONS);
    for worker in 0..WORKERS {
        left.next(worker);
    }
    left.sent(0, 0, true);
    left.worker_lost(1);
    // It was in the middle; worker 0 had sent all, and worker 2 still does.
    assert_eq!(left.next(1), send(0, 2, &[0, 1, 2, 3, 4, 5]));
    assert_eq!(left.next(0), send(0, 2, &[1, 4]));
    left.sent(0, 2, false);
    assert_eq!(left.next(2), send(0, 2, &[0, 1, 2, 3, 4, 5]));
}

#[test]
fn what_was_taken_by_a_worker_that_died_since_is_sent_again() {
    let mut left = Left::new(0..1, WORKERS, PARTITIONS);
    for worker in 0..WORKERS {
        left.next(worker);
    }
    left.worker_lost(1);
    // Worker 2 does not notice: the dead one took its rows before it died.
    left.sent(0, 2, true);
    assert!(!left.has_sent(2));
    assert_eq!(left.next(2), send(0, 2, &[1, 4]));
}

#[test]
fn a_result_outlives_the_worker_that_made_it() {
    let mut left = Left::new(0..2, WORKERS, PARTITIONS);
    send_all(&mut left);
    assert_eq!(left.next(1), Some(Next::Reduce { partition: 1, holder: 1 }));
    left.reduced(1, true);
    left.worker_lost(1);
    assert_eq!(left.next(0), send(0, 2, &[4]));
}

#[test]
fn an_idle_worker_helps_and_comes_back_where_the_holder_dies() {
    let mut left = Left::new(0..1, WORKERS, PARTITIONS);
    send_all(&mut left);
    for partition in [0, 3] {
        assert_eq!(left.next(0), Some(Next::Reduce { partition, holder: 0 }));
        left.reduced(partition, true);
    }
    let helps = Some(Next::Reduce { partition: 5, holder: 2 });
    assert_eq!(left.next(0), helps);
    // The fetch fails, for the holder is gone; nobody reads before it has the rows again.
    left.reduced(5, false);
    left.worker_lost(2);
    assert_eq!(left.next(0), send(0, 2, &[2, 5]));
    send_all(&mut left);
    left.sent(0, 0, true);
    assert_eq!(left.next(0), helps);
}

/// A made-up world that knows what every worker holds, where any worker may die
/// at any moment.
struct World {
    seed: u64,
    state: u64,
    left: Left,
    /// The shares that the holder of a partition has, by input.
    held: BTreeMap<u32, BTreeSet<(usize, u32)>>,
    /// What a worker is at, and the partitions that will have what it sends.
    tasks: BTreeMap<u32, (Next, BTreeSet<u32>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (held, tasks) = (BTreeMap::new(), BTreeMap::new());
        let left = Left::new(0..2, WORKERS, PARTITIONS);
        World { seed, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, left, held, tasks }
    }

    fn random(&mut self, below: u32) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        u32::try_from((self.state >> 20) % u64::from(below)).unwrap()
    }

    fn die(&mut self, worker: u32) {
        self.left.worker_lost(worker);
        self.held.retain(|partition, _| partition % WORKERS != worker);
        self.tasks.remove(&worker);
        for other in 0..WORKERS {
            // Some notice, others were done with it before.
            let notices = self.random(2) == 0;
            let Some((task, to)) = self.tasks.get_mut(&other) else { continue };
            to.retain(|partition| partition % WORKERS != worker);
            match task {
                Next::Send { input, .. } if notices => self.left.sent(*input, other, false),
                Next::Reduce { partition, holder } if *holder == worker => {
                    self.left.reduced(*partition, false);
                }
                _ => continue,
            }
            self.tasks.remove(&other);
        }
    }

    /// A worker ends its task, or begins one.
    fn go_on(&mut self, worker: u32) {
        match self.tasks.remove(&worker) {
            None => {
                let Some(next) = self.left.next(worker) else { return };
                let to = match &next {
                    Next::Send { only, .. } => only.clone(),
                    Next::Reduce { .. } => BTreeSet::new(),
                };
                self.tasks.insert(worker, (next, to));
            }
            Some((Next::Send { input, .. }, to)) => {
                for partition in to {
                    self.held.entry(partition).or_default().insert((input, worker));
                }
                self.left.sent(input, worker, true);
            }
            Some((Next::Reduce { partition, .. }, _)) => {
                let shares = self.held.get(&partition).map_or(0, BTreeSet::len);
                assert_eq!(shares, 2 * WORKERS as usize, "seed {}: {partition}", self.seed);
                self.left.reduced(partition, true);
            }
        }
    }
}

#[test]
fn whoever_dies_every_partition_is_read_with_all_its_rows() {
    for seed in 1..=500 {
        let mut world = World::new(seed);
        let (mut deaths, mut steps) = (4, 0);
        while !world.left.partitions.is_empty() {
            steps += 1;
            assert!(steps < 10_000, "seed {seed}: {:?} does not end", world.left);
            let worker = world.random(WORKERS);
            if deaths > 0 && world.random(12) == 0 {
                deaths -= 1;
                world.die(worker);
            } else {
                world.go_on(worker);
            }
        }
    }
}
