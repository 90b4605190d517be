//! Whether every node comes to the same state, whatever way it comes.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sheaf_coordinator::migration::{Migration, Phase};
use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Control, Extension, LeaseRef, OnParentFailure, Outcome, PurgeFilter,
    QueuePolicy, RateLimit, Resolution, SettleRequest, Verdict, engine,
};
use sheaf_proto::raft::v1 as proto;
use sheaf_retry::{RetryPolicy, Timestamp};

use super::command::{self, Answer, Call};
use super::*;
use crate::machine::{Applied, DigestSoFar, StateMachine};

const QUEUES: [&str; 3] = ["default", "blue", "green"];

fn apply(machine: &mut EngineMachine, command: &Bytes) -> Bytes {
    machine.apply(Applied { index: 1, term: 1, command })
}

fn commands(now: u64, calls: &[Call]) -> Bytes {
    let calls: Vec<Vec<u8>> = calls.iter().map(Call::encode).collect();
    command::command(Timestamp::from_millis(now), calls.iter().map(Vec::as_slice))
}

fn lead(max_finished: usize) -> Call {
    // So small that what is forgotten first shows.
    let config = engine::Config {
        max_finished,
        max_failed: 40,
        keep_finished: Duration::from_secs(60),
        max_keys: 300,
        ..engine::Config::default()
    };
    Call::Lead { node: 1, run: 77, config: Box::new(config) }
}

/// Calls as many callers make them, with the leases that they were given.
struct Callers {
    random: StdRng,
    now: u64,
    number: u64,
    batches: u64,
    leases: Vec<LeaseRef>,
}

impl Callers {
    fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Callers { random, now: 1_760_000_000_000, number: 0, batches: 0, leases: Vec::new() }
    }

    fn id(&mut self) -> sheaf_proto::BatchId {
        let back = self.random.random_range(0..1_000);
        format!("b{}", self.batches.saturating_sub(back)).parse().unwrap()
    }

    fn spec(&mut self) -> BatchSpec {
        self.batches += 1;
        let id = format!("b{}", self.batches).parse().unwrap();
        let random = &mut self.random;
        let queue = (*QUEUES.choose(random).unwrap()).to_owned();
        let has_key = random.random_bool(0.2);
        let delay = [0, 0, 5, 60][random.random_range(0..4)];
        let retry = random.random_bool(0.5).then(|| RetryPolicy {
            max_retries: 2,
            base_ms: 700,
            ..RetryPolicy::default()
        });
        BatchSpec {
            queue,
            priority: random.random_range(-1..2),
            tenant: ["", "a", "b"][random.random_range(0..3)].to_owned(),
            rows: random.random_range(0..9),
            bytes: random.random_range(0..99),
            delay: Duration::from_secs(delay),
            expires_after: random.random_bool(0.2).then_some(Duration::from_secs(90)),
            dedup_key: if has_key {
                format!("k{}", random.random_range(0..40))
            } else {
                String::new()
            },
            dedup_window: Duration::from_secs(if has_key { 20 } else { 0 }),
            retry,
            ..BatchSpec::new(id)
        }
    }

    fn register(&mut self) -> Call {
        let count = *[1, 3, 400].choose(&mut self.random).unwrap();
        let mut specs: Vec<BatchSpec> = (0..count).map(|_| self.spec()).collect();
        if count == 3 && self.random.random_bool(0.5) {
            let parents = specs[..2].iter().map(|spec| spec.id.clone()).collect();
            specs[2].depends_on = parents;
            specs[2].on_parent_failure =
                *[OnParentFailure::Fail, OnParentFailure::Wait, OnParentFailure::Cancel]
                    .choose(&mut self.random)
                    .unwrap();
        }
        Call::Register(specs)
    }

    fn claim(&mut self) -> ClaimRequest {
        self.number += 1;
        let max = *[1, 10, 300].choose(&mut self.random).unwrap();
        let lease = Duration::from_secs(self.random.random_range(1..30));
        let queues = QUEUES.iter().filter(|_| self.random.random_bool(0.6));
        let queues = queues.map(|queue| (*queue).to_owned()).collect();
        let name = format!("r{}", self.number - u64::from(self.random.random_bool(0.1)));
        ClaimRequest {
            queues,
            start: self.random.random_bool(0.5),
            ..ClaimRequest::new("w", name, max, lease)
        }
    }

    fn lease(&mut self) -> Option<LeaseRef> {
        let at =
            (!self.leases.is_empty()).then(|| self.random.random_range(0..self.leases.len()))?;
        Some(self.leases.swap_remove(at))
    }

    fn settle(&mut self) -> Call {
        let mut request = SettleRequest::default();
        for _ in 0..self.random.random_range(1..60) {
            let Some(lease) = self.lease() else { break };
            let resolution = *[Resolution::Completed, Resolution::Failed, Resolution::Released]
                .choose(&mut self.random)
                .unwrap();
            let outputs = if resolution == Resolution::Completed && self.random.random_bool(0.1) {
                vec![self.spec()]
            } else {
                Vec::new()
            };
            let delay = Duration::ZERO;
            request.outcomes.push(Outcome { lease, resolution, error: None, outputs, delay });
        }
        if self.random.random_bool(0.3) {
            request.claim = Some(self.claim());
        }
        Call::Settle(request)
    }

    fn control(&mut self) -> Call {
        let queue = (*QUEUES.choose(&mut self.random).unwrap()).to_owned();
        let rate = self.random.random_bool(0.5).then_some(RateLimit { per_second: 9.0, burst: 40 });
        let policy = QueuePolicy {
            max_leased: self.random.random_bool(0.5).then_some(200),
            max_leased_per_tenant: self.random.random_bool(0.5).then_some(50),
            rate,
            max_live_bytes: None,
        };
        let purge = PurgeFilter { queue: Some(queue.clone()), ..PurgeFilter::default() };
        let control = match self.random.random_range(0..8) {
            0 => Control::Pause(queue),
            1 | 2 => Control::Resume(queue),
            3 => Control::Configure(queue, policy),
            4 => Control::Cancel((0..5).map(|_| self.id()).collect()),
            5 => Control::Requeue((0..5).map(|_| self.id()).collect()),
            6 => Control::RequeueFailed(queue),
            _ => Control::Purge(purge),
        };
        Call::Control(control, 0)
    }

    fn extend(&mut self) -> Call {
        let leases = self.leases.iter().take(3).cloned();
        let extension = |lease| Extension { lease, started: true, progress: None, duration: None };
        Call::Extend(leases.map(extension).collect())
    }

    fn next(&mut self) -> Bytes {
        // Mostly time stands still, so that much is due at the same moment.
        self.now += *[0, 0, 0, 1, 40, 3_000, 25_000].choose(&mut self.random).unwrap();
        let mut calls = Vec::new();
        for _ in 0..self.random.random_range(0..4) {
            calls.push(match self.random.random_range(0..20) {
                0..5 => self.register(),
                5..11 => Call::Claim(self.claim()),
                11..16 => self.settle(),
                16 | 17 => self.extend(),
                18 => self.control(),
                _ if self.random.random_bool(0.1) => lead(self.random.random_range(50..400)),
                _ => self.extend(),
            });
        }
        // A leader's clock that is behind.
        let back = self.random.random_range(0..2) * self.random.random_range(0..600_000);
        commands(self.now - back, &calls)
    }

    /// Takes the leases from what was answered.
    fn learn(&mut self, machine: &EngineMachine, reply: &Bytes) {
        let name = |text: &str| machine.name(text);
        for reply in command::replies(reply, &name).unwrap().all {
            let claim = match command::answer(reply, &name) {
                Ok(Answer::Claimed(claim)) => Some(claim),
                Ok(Answer::Settled(reply)) => reply.claim,
                _ => None,
            };
            for lease in claim.into_iter().flat_map(|claim| claim.leases) {
                self.leases.push(LeaseRef { id: lease.spec.id, fence: lease.fence });
            }
        }
        if self.leases.len() > 3_000 {
            self.leases.drain(..1_000);
        }
    }
}

/// The state of one machine in another, taken while commands go on.
fn copied(
    machine: &mut EngineMachine,
    callers: &mut Callers,
    twin: &mut EngineMachine,
) -> (EngineMachine, Vec<Bytes>) {
    let (mut parts, mut meanwhile) = (Vec::new(), Vec::new());
    machine.begin_snapshot().unwrap();
    while let Some(part) = machine.snapshot_part().unwrap() {
        parts.push(Ok(part));
        let command = callers.next();
        let reply = apply(machine, &command);
        assert!(apply(twin, &command) == reply);
        callers.learn(machine, &reply);
        meanwhile.push(command);
    }
    let mut other = EngineMachine::new();
    other.restore(&mut parts.into_iter()).unwrap();
    (other, meanwhile)
}

#[test]
fn machines_with_the_same_commands_are_the_same_also_by_a_snapshot() {
    let (seeds, steps) = if sheaf_testkit::soak() { (20, 10_000) } else { (1, 900) };
    for seed in 1..=seeds {
        let mut callers = Callers::new(seed);
        let (mut one, mut other) = (EngineMachine::new(), EngineMachine::new());
        let mut largest = 0;
        let first = commands(callers.now, &[lead(200)]);
        assert_eq!(apply(&mut one, &first), apply(&mut other, &first));
        for step in 0..steps {
            let command = callers.next();
            let reply = apply(&mut one, &command);
            assert!(apply(&mut other, &command) == reply, "seed {seed}, step {step}");
            callers.learn(&one, &reply);
            largest = largest.max(one.engine().len());
            if step % 300 == 299 {
                let (mut copy, meanwhile) = copied(&mut one, &mut callers, &mut other);
                meanwhile.iter().for_each(|command| drop(apply(&mut copy, command)));
                assert_eq!(copy.digest(), one.digest(), "seed {seed}, step {step}");
                // From here on the copy goes on in its place.
                other = copy;
            }
        }
        assert_eq!(one.digest(), other.digest(), "seed {seed}");
        largest = largest.max(one.engine().len());
        assert!(largest > 800, "there is something to compare: {largest}");
    }
}

#[test]
fn a_snapshot_is_what_the_state_was_at_its_beginning() {
    let mut callers = Callers::new(9);
    let (mut one, mut twin) = (EngineMachine::new(), EngineMachine::new());
    for _ in 0..200 {
        let command = callers.next();
        let reply = apply(&mut one, &command);
        apply(&mut twin, &command);
        callers.learn(&one, &reply);
    }
    let before = one.digest();
    let (mut copy, meanwhile) = copied(&mut one, &mut callers, &mut twin);
    // A new leader gives leases their time anew: that must not reach the copy either.
    assert!(!meanwhile.is_empty());
    assert_eq!(copy.digest(), before);
    assert_eq!(one.copied_digest(), before, "it was added up from the rows");
    assert_ne!(one.digest(), before);
}

#[test]
fn a_command_of_a_newer_version_stops_the_machine() {
    let mut machine = EngineMachine::new();
    apply(&mut machine, &commands(1_000, &[lead(200)]));
    let before = machine.engine().digest();
    let newer = proto::CoordinatorCommand { version: 9, now: 2_000, calls: Vec::new() };
    let known = commands(3_000, &[Call::Register(vec![BatchSpec::new("a".parse().unwrap())])]);
    for command in [newer.encode_to_vec().into(), known] {
        let reply = apply(&mut machine, &command);
        let error = command::replies(&reply, &|_| None).err().unwrap();
        assert_eq!(sheaf_retry::Retryable::code(&error), Code::FormatNewer, "{error}");
        assert!(error.to_string().contains("version 9"), "{error}");
    }
    assert_eq!(machine.engine().digest(), before, "nothing changed");
    let error = machine.begin_snapshot().unwrap_err();
    assert!(error.to_string().contains("version 9"), "{error}");
    assert!(machine.query(&sheaf_coordinator::Query::History, 1).is_err());
}

#[test]
fn bytes_that_are_no_command_change_nothing() {
    let mut machine = EngineMachine::new();
    apply(&mut machine, &commands(1_000, &[lead(200)]));
    let before = machine.digest();
    for bytes in [&b"\xff\xff"[..], b"", b"{}"] {
        let reply = apply(&mut machine, &Bytes::from_static(bytes));
        let error = command::replies(&reply, &|_| Some("command")).err().unwrap();
        assert_eq!(sheaf_retry::Retryable::code(&error), Code::InvalidArgument, "{error}");
    }
    assert_eq!(machine.digest(), before);
}

#[test]
fn a_digest_in_parts_is_that_of_one_state() {
    let mut machine = EngineMachine::new();
    let specs = |from: usize| {
        let spec = |n: usize| BatchSpec::new(format!("batch-{n}").parse().unwrap());
        Call::Register((from..from + 2_500).map(spec).collect())
    };
    apply(&mut machine, &commands(1_000, &[lead(200), specs(0)]));
    let mut so_far = DigestSoFar::default();
    assert_eq!(machine.digest_part(&mut so_far), None, "not all at once");
    let before = machine.digest();
    apply(&mut machine, &commands(2_000, &[specs(2_500)]));
    let mut parts = 1;
    let made = loop {
        parts += 1;
        if let Some(made) = machine.digest_part(&mut so_far) {
            break made;
        }
    };
    assert_eq!(made, machine.digest());
    assert_ne!(made, before);
    assert!(parts > 5, "it began anew: {parts}");
    assert_eq!(so_far.restarts, 1);
}

#[test]
fn a_digest_of_a_state_that_never_rests_is_begun_anew_and_takes_no_command_long() {
    let mut machine = EngineMachine::new();
    let specs = (0..1_500).map(|n| BatchSpec::new(format!("batch-{n}").parse().unwrap()));
    apply(&mut machine, &commands(1_000, &[lead(200), Call::Register(specs.collect())]));
    let mut so_far = DigestSoFar::default();
    for step in 0_u32..20 {
        assert_eq!(machine.digest_part(&mut so_far), None, "all of it in one step");
        assert_eq!(so_far.restarts, step);
        let spec = BatchSpec::new(format!("late-{step}").parse().unwrap());
        apply(&mut machine, &commands(2_000, &[Call::Register(vec![spec])]));
    }
    let made = (0..9).find_map(|_| machine.digest_part(&mut so_far));
    assert_eq!(made, Some(machine.digest()));
}

#[test]
fn a_damaged_snapshot_is_refused_and_what_was_there_stays() {
    let mut machine = EngineMachine::new();
    let spec = BatchSpec::new("a".parse().unwrap());
    apply(&mut machine, &commands(1_000, &[lead(200), Call::Register(vec![spec])]));
    let before = machine.digest();
    let mut taken = || {
        machine.begin_snapshot().unwrap();
        std::iter::from_fn(|| machine.snapshot_part().unwrap()).collect::<Vec<_>>()
    };
    let whole = taken();
    assert_eq!(whole.len(), 1, "all in one part");
    let rows = whole[0].num_rows();
    let mut other = EngineMachine::new();
    apply(&mut other, &commands(5_000, &[lead(100)]));
    let kept = other.digest();
    for (from, count) in [(0, rows - 1), (1, rows - 1), (0, 1), (0, 0)] {
        let part = whole[0].slice(from, count);
        let error = other.restore(&mut std::iter::once(Ok(part))).unwrap_err();
        assert!(error.to_string().starts_with("read a snapshot of the coordinator"), "{error}");
        assert_eq!(other.digest(), kept);
    }
    other.restore(&mut whole.into_iter().map(Ok)).unwrap();
    assert_eq!(other.digest(), before);
}

#[test]
fn tokens_are_above_all_before_after_a_move_and_after_a_leader_with_a_late_clock() {
    let mut machine = EngineMachine::new();
    let name = |_: &str| Some("field");
    let mut last = 0;
    let mut next = |machine: &mut EngineMachine, now: u64| {
        let id = format!("b{now}-{last}").parse().unwrap();
        let claim = ClaimRequest::new("w", format!("r{now}"), 1, Duration::from_secs(1));
        let calls = [lead(200), Call::Register(vec![BatchSpec::new(id)]), Call::Claim(claim)];
        let reply = apply(machine, &commands(now, &calls));
        let reply = command::replies(&reply, &name).unwrap().all.pop().unwrap();
        let Answer::Claimed(claim) = command::answer(reply, &name).unwrap() else { panic!() };
        let fence = claim.leases[0].fence.0;
        assert!(fence > last, "{fence} after {last}, at {now}");
        last = fence;
    };
    next(&mut machine, 5_000_000);
    next(&mut machine, 5_000_001);
    // Ten minutes behind.
    next(&mut machine, 4_400_000);
    let migration = Migration {
        id: "m".to_owned(),
        from: "a".to_owned(),
        to: "b".to_owned(),
        began_at: Timestamp::EPOCH,
    };
    let phases = [Phase::Frozen(migration.clone()), Phase::Moved(migration)];
    let calls: Vec<Call> = phases.map(|phase| Call::Enter { phase, run: 5 }).into();
    apply(&mut machine, &commands(1, &calls));
    apply(&mut machine, &commands(1, &[Call::Discard { run: 6 }]));
    assert!(machine.engine().is_empty(), "it was forgotten");
    next(&mut machine, 1);
}

/// Keys are forgotten a bounded number at a time: those that are left over count as long
/// in a copy as in what it is a copy of.
#[test]
fn keys_that_are_not_yet_forgotten_are_not_forgotten_by_a_snapshot() {
    let config = engine::Config { max_keys: 700, ..engine::Config::default() };
    let lead = Call::Lead { node: 1, run: 7, config: Box::new(config) };
    let keyed = |from: u32, count: u32| {
        let specs = (from..from + count).map(|n| BatchSpec {
            dedup_key: format!("k{n}"),
            dedup_window: Duration::from_secs(1),
            ..BatchSpec::new(format!("b{n}").parse().unwrap())
        });
        Call::Register(specs.collect())
    };
    let mut machine = EngineMachine::new();
    apply(&mut machine, &commands(1_000, &[lead, keyed(0, 700)]));
    apply(&mut machine, &commands(9_000, &[]));
    machine.begin_snapshot().unwrap();
    let parts: Vec<_> = std::iter::from_fn(|| machine.snapshot_part().transpose()).collect();
    let mut copy = EngineMachine::new();
    copy.restore(&mut parts.into_iter()).unwrap();
    let more = commands(9_000, &[keyed(1_000, 600)]);
    let reply = apply(&mut machine, &more);
    let name = |text: &str| machine.name(text);
    let answer = command::answer(command::replies(&reply, &name).unwrap().all.remove(0), &name);
    assert_eq!(sheaf_retry::Retryable::code(&answer.unwrap_err()), Code::Overloaded);
    assert!(apply(&mut copy, &more) == reply);
}

#[test]
fn a_node_that_stopped_sends_its_callers_to_another() {
    let problem = "write the log: the disk is full".to_owned();
    let stopped = crate::replica::Error::Stopped { problem, code: Code::DiskFull };
    let item::Failed::Error(error) = driver::failed(&stopped) else { panic!() };
    assert_eq!(sheaf_retry::Retryable::code(&error), Code::Unavailable, "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn leases_survive_a_new_leader_that_comes_after_they_were_over() {
    let mut machine = EngineMachine::new();
    let name = |_: &str| Some("field");
    let specs = vec![BatchSpec::new("a".parse().unwrap())];
    let claim = ClaimRequest::new("w", "r".to_owned(), 1, Duration::from_secs(30));
    let calls = [lead(200), Call::Register(specs), Call::Claim(claim)];
    let reply = apply(&mut machine, &commands(1_000, &calls));
    let reply = command::replies(&reply, &name).unwrap().all.pop().unwrap();
    let Answer::Claimed(claim) = command::answer(reply, &name).unwrap() else { panic!() };
    let [lease] = &claim.leases[..] else { panic!("{claim:?}") };
    let lease = LeaseRef { id: lease.spec.id.clone(), fence: lease.fence };
    apply(&mut machine, &commands(61_000, &[lead(200)]));
    let mut extend = |now| {
        let extension =
            Extension { lease: lease.clone(), started: true, progress: None, duration: None };
        let reply = apply(&mut machine, &commands(now, &[Call::Extend(vec![extension])]));
        let reply = command::replies(&reply, &name).unwrap().all.pop().unwrap();
        let Answer::Extended(all) = command::answer(reply, &name).unwrap() else { panic!() };
        all
    };
    let all = extend(90_000);
    assert_eq!(all[0].verdict, Verdict::Applied, "{all:?}");
    let all = extend(300_000);
    assert_eq!(all[0].verdict, Verdict::Stale, "without a new leader it is over: {all:?}");
}

/// A new leader gives leases their time anew: in a snapshot that was begun before, they
/// have the time that they had.
#[test]
fn a_snapshot_does_not_see_the_leases_of_a_later_leader() {
    let mut machine = EngineMachine::new();
    // More than one part of a snapshot.
    let specs = (0..3_000).map(|n| BatchSpec {
        locations: vec![format!("grpc://{}:1", "x".repeat(900))],
        ..BatchSpec::new(format!("b{n}").parse().unwrap())
    });
    let specs: Vec<_> = specs.collect();
    let mut calls: Vec<Call> =
        specs.chunks(1_000).map(|part| Call::Register(part.to_vec())).collect();
    calls.insert(0, lead(200));
    for n in 0..3 {
        let claim = ClaimRequest::new("w", format!("r{n}"), 1_000, Duration::from_secs(60));
        calls.push(Call::Claim(claim));
    }
    apply(&mut machine, &commands(1_000, &calls));
    let before = machine.digest();
    machine.begin_snapshot().unwrap();
    let first = machine.snapshot_part().transpose();
    apply(&mut machine, &commands(31_000, &[lead(200)]));
    let rest = std::iter::from_fn(|| machine.snapshot_part().transpose());
    let parts: Vec<_> = first.into_iter().chain(rest).collect();
    let mut copy = EngineMachine::new();
    copy.restore(&mut parts.into_iter()).unwrap();
    assert_eq!(copy.digest(), before);
}

#[test]
fn a_state_knows_which_entry_brought_its_time_or_up_to_which_one_a_snapshot_is() {
    let mut machine = EngineMachine::new();
    let apply = |machine: &mut EngineMachine, index, now| {
        let command = &commands(now, &[]);
        machine.apply(Applied { index, term: 1, command });
        machine.timed_at()
    };
    assert_eq!(machine.timed_at(), None);
    assert_eq!(apply(&mut machine, 4, 1_000), Some(4));
    // Neither the same time nor an earlier one moves it.
    assert_eq!(apply(&mut machine, 5, 900), Some(4));
    assert_eq!(apply(&mut machine, 6, 2_000), Some(6));
    machine.begin_snapshot().unwrap();
    let parts: Vec<_> = std::iter::from_fn(|| machine.snapshot_part().transpose()).collect();
    machine.restore(&mut parts.into_iter()).unwrap();
    assert_eq!(machine.timed_at(), None);
    machine.restored(40);
    assert_eq!(machine.timed_at(), Some(40));
    let mut empty = EngineMachine::new();
    empty.restored(40);
    assert_eq!(empty.timed_at(), None, "it has no time");
}
