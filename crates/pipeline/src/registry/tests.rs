//! The rules, one by one.

use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_retry::{Code, Retryable as _, Timestamp};

use super::*;

const OLD: &str = "incarnation-of-old";
const NEW: &str = "incarnation-of-new";
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn now() -> Now {
    Now { wall: Timestamp::from_millis(1_800_000_000_000), elapsed: Duration::from_secs(50) }
}

fn token() -> Token {
    Token::new("the token of the place")
}

/// A place that nobody has taken.
pub(crate) fn component(id: &str) -> Component {
    let place = Place::new(id, Kind::Source, token().digest());
    plans::expected("orders", &place, Now::start(Timestamp::EPOCH))
}

fn plan() -> Plan {
    let mut read = Place::new("orders:read", Kind::Source, token().digest());
    let mut write = Place::new("orders:write", Kind::Sink, token().digest());
    read.connections.downstream.push(write.id.clone());
    write.connections.upstream.push(read.id.clone());
    Plan {
        id: "orders".to_owned(),
        name: "Orders".to_owned(),
        spec: "sources: …".into(),
        plan_hash: "abc".to_owned(),
        places: vec![read, write],
    }
}

/// One with a run that ended and one that is under way.
pub(crate) fn pipeline() -> Pipeline {
    let mut registry = planned();
    registry.begin_run("orders", now()).unwrap();
    let failed = PipelineState::Failed;
    registry.set_pipeline_state("orders", failed, "disk full", now().plus(SECOND)).unwrap();
    registry.begin_run("orders", now().plus(SECOND * 2)).unwrap();
    let other = Plan { plan_hash: "def".to_owned(), ..plan() };
    registry.replan(other, "restarts read", now().plus(SECOND * 3)).unwrap();
    Pipeline::clone(registry.pipeline("orders").unwrap())
}

fn planned() -> Registry {
    let mut registry = Registry::new(Limits::default(), Timing::default(), 3, 1);
    registry.plan(plan(), now()).unwrap();
    registry.take_changes();
    registry
}

fn asked(id: &str, kind: Kind, incarnation: &str) -> Registration {
    Registration {
        id: id.to_owned(),
        kind,
        token: token().secret().clone(),
        incarnation: Secret::new(incarnation),
        address: "grpc://10.0.0.7:50051".to_owned(),
        health_endpoint: ":8088".to_owned(),
        endpoints: Vec::new(),
        metadata: Metadata { name: "Orders".to_owned(), ..Metadata::default() },
        load: None,
    }
}

fn reader(incarnation: &str) -> Registration {
    asked("orders:read", Kind::Source, incarnation)
}

fn beat(incarnation: &str, sequence: u64, progress: u64) -> Beat {
    let (id, incarnation) = ("orders:read".to_owned(), Secret::new(incarnation));
    Beat { id, incarnation, sequence, progress, load: None }
}

fn status(registry: &Registry) -> Status {
    registry.component("orders:read").unwrap().status
}

/// What happened, as (status before, status after).
fn seen(registry: &mut Registry) -> Vec<(Option<Status>, Status)> {
    let changes = registry.take_changes().into_iter();
    changes.map(|change| (change.before, change.component.status)).collect()
}

#[test]
fn a_place_is_taken_with_its_token_and_kind_only() {
    let mut registry = planned();
    let code = |registry: &mut Registry, asked| registry.register(asked, now()).unwrap_err().code();
    let wrong = Registration { token: Secret::new("another"), ..reader(OLD) };
    assert_eq!(code(&mut registry, wrong), Code::PermissionDenied);
    let sink = Registration { kind: Kind::Sink, ..reader(OLD) };
    assert_eq!(code(&mut registry, sink), Code::InvalidArgument);
    assert_eq!(code(&mut registry, asked("orders:x", Kind::Source, OLD)), Code::NotFound);
    let worker = asked("orders:read", Kind::Worker, OLD);
    assert_eq!(code(&mut registry, worker), Code::InvalidArgument);
    assert_eq!(status(&registry), Status::Expected, "nothing has changed");
    assert!(registry.take_changes().is_empty());

    let registered = registry.register(reader(OLD), now()).unwrap();
    assert!(registered.created && registered.fence > 3 << 32);
    assert_eq!(registered.connections.downstream, ["orders:write"]);
    assert_eq!(seen(&mut registry), [(Some(Status::Expected), Status::Healthy)]);
    let there = registry.component("orders:read").unwrap();
    assert_eq!(there.health_endpoint, "10.0.0.7:8088");
    assert_eq!((&*there.pipeline, there.restarts), ("orders", 0));
}

#[test]
fn the_same_incarnation_may_register_again_and_is_no_livelier_for_it() {
    let mut registry = planned();
    let first = registry.register(reader(OLD), now()).unwrap();
    registry.take_changes();
    let late = now().plus(SECOND * 20);
    let moved = Registration { address: "grpc://10.0.0.7:50052".to_owned(), ..reader(OLD) };
    let again = registry.register(moved, late).unwrap();
    assert_eq!((again.fence, again.created), (first.fence, false));
    let there = registry.component("orders:read").unwrap();
    assert_eq!((&*there.address, there.restarts), ("grpc://10.0.0.7:50052", 0));
    assert_eq!(seen(&mut registry).len(), 1, "readers need the new address");
    registry.check(now().plus(SECOND * 31));
    assert_eq!(status(&registry), Status::Unhealthy, "31 s without a beat");
}

#[test]
fn another_incarnation_waits_until_the_holder_is_silent() {
    let mut registry = planned();
    let first = registry.register(reader(OLD), now()).unwrap();
    let Err(Error::Taken { after, .. }) = registry.register(reader(NEW), now().plus(SECOND * 10))
    else {
        panic!("the holder lives")
    };
    assert_eq!(after, SECOND * 20 + Duration::from_millis(1));
    let free = now().plus(SECOND * 10).plus(after);
    let second = registry.register(reader(NEW), free).unwrap();
    assert!(second.created && second.fence > first.fence);
    assert_eq!(registry.component("orders:read").unwrap().restarts, 1);
    // Rule 5: whoever had it before is told to end.
    let error = registry.beat(beat(OLD, 1, 1), free).unwrap_err();
    assert_eq!(error.code(), Code::StaleFence);
    let old = Secret::new(OLD);
    assert!(registry.deregister("orders:read", &old, "", None, free).is_err());
    assert!(!registry.exited("orders:read", &old, "", free).unwrap());
    assert_eq!(status(&registry), Status::Healthy);
}

#[test]
fn who_left_or_ended_makes_room_at_once_and_does_not_come_back() {
    let mut registry = planned();
    registry.register(reader(OLD), now()).unwrap();
    let old = Secret::new(OLD);
    registry.deregister("orders:read", &old, "drained", None, now()).unwrap();
    registry.deregister("orders:read", &old, "drained", None, now()).unwrap();
    assert_eq!(status(&registry), Status::Stopped);
    assert_eq!(registry.register(reader(OLD), now()).unwrap_err().code(), Code::StaleFence);
    assert_eq!(registry.beat(beat(OLD, 9, 9), now()).unwrap_err().code(), Code::StaleFence);
    registry.register(reader(NEW), now()).unwrap();
    assert!(registry.exited("orders:read", &Secret::new(NEW), "signal 9", now()).unwrap());
    assert_eq!(status(&registry), Status::Exited);
    assert_eq!(registry.component("orders:read").unwrap().reason, "signal 9");
    registry.register(reader("incarnation-the-third"), now()).unwrap();
    assert_eq!(registry.component("orders:read").unwrap().restarts, 1, "it drained");
}

#[test]
fn only_beats_with_progress_count() {
    let mut registry = planned();
    registry.register(reader(OLD), now()).unwrap();
    let at = |seconds: u32| now().plus(SECOND * seconds);
    assert_eq!(registry.beat(beat(OLD, 1, 5), at(10)).unwrap().0, Counted::Yes);
    assert_eq!(registry.beat(beat(OLD, 1, 6), at(20)).unwrap().0, Counted::Repeated);
    assert_eq!(registry.beat(beat(OLD, 2, 5), at(20)).unwrap().0, Counted::Stalled);
    assert_eq!(registry.beat(beat(OLD, 3, 4), at(30)).unwrap().0, Counted::Stalled);
    registry.check(at(40));
    assert_eq!(status(&registry), Status::Healthy, "30 s are not more than 30 s");
    registry.take_changes();
    registry.check(at(41));
    assert_eq!(seen(&mut registry), [(Some(Status::Healthy), Status::Unhealthy)]);
    let reason = &registry.component("orders:read").unwrap().reason;
    assert_eq!(reason, "it beats, but its loop has not moved for 31s");
    assert_eq!(registry.beat(beat(OLD, 4, 5), at(42)).unwrap().1, Status::Unhealthy);
    assert_eq!(registry.beat(beat(OLD, 5, 6), at(43)).unwrap(), (Counted::Yes, Status::Healthy));
    assert_eq!(seen(&mut registry), [(Some(Status::Unhealthy), Status::Healthy)]);
    registry.check(at(100));
    let reason = &registry.component("orders:read").unwrap().reason;
    assert_eq!(reason, "it has said nothing for 57s");
}

#[test]
fn a_beat_before_any_registration_asks_for_one() {
    let mut registry = planned();
    assert_eq!(registry.beat(beat(OLD, 1, 1), now()).unwrap_err().code(), Code::NotFound);
    let unknown = Beat { id: "nobody".to_owned(), ..beat(OLD, 1, 1) };
    assert_eq!(registry.beat(unknown, now()).unwrap_err().code(), Code::NotFound);
}

#[test]
fn a_health_endpoint_that_fails_thrice_counts_though_beats_come() {
    let mut registry = planned();
    let fence = registry.register(reader(OLD), now()).unwrap().fence;
    let failed = Polled::Not("503 \u{7}out of disk".to_owned());
    registry.polled("orders:read", fence, &failed, now());
    registry.polled("orders:read", fence, &Polled::Well, now());
    for _ in 0..2 {
        registry.polled("orders:read", fence, &failed, now());
    }
    assert_eq!(status(&registry), Status::Healthy, "not three in a row");
    registry.polled("orders:read", fence - 1, &failed, now());
    assert_eq!(status(&registry), Status::Healthy, "that was another incarnation");
    registry.polled("orders:read", fence, &failed, now());
    assert_eq!(status(&registry), Status::Unhealthy);
    let reason = registry.component("orders:read").unwrap().reason.clone();
    assert!(reason.ends_with("failed 3 times: 503  out of disk"), "{reason}");
    registry.beat(beat(OLD, 1, 1), now()).unwrap();
    assert_eq!(status(&registry), Status::Unhealthy, "a beat does not make it well");
    registry.polled("orders:read", fence, &Polled::Well, now());
    assert_eq!(status(&registry), Status::Healthy);
    // It answers, but its loop is dead.
    registry.check(now().plus(SECOND * 31));
    registry.polled("orders:read", fence, &Polled::Well, now().plus(SECOND * 31));
    assert_eq!(status(&registry), Status::Unhealthy);
}

#[test]
fn workers_join_with_their_token_and_are_forgotten() {
    let digest = Token::new("for workers").digest();
    let mut registry =
        Registry::new(Limits::default(), Timing::default(), 3, 1).with_worker_token(Some(digest));
    let worker = asked("worker-1", Kind::Worker, OLD);
    assert_eq!(
        registry.register(worker.clone(), now()).unwrap_err().code(),
        Code::PermissionDenied
    );
    let load = Some(Load { slots: 4, ..Load::default() });
    let worker = Registration { token: Secret::new("for workers"), load, ..worker };
    registry.register(worker.clone(), now()).unwrap();
    let busy = Some(Load { slots: 4, running: 3, ..Load::default() });
    let beat = Beat { id: "worker-1".to_owned(), load: busy, ..beat(OLD, 1, 1) };
    registry.beat(beat, now()).unwrap();
    assert_eq!(registry.component("worker-1").unwrap().load, busy);
    registry.check(now().plus(SECOND * 600));
    assert_eq!(registry.component("worker-1").unwrap().status, Status::Unhealthy);
    registry.check(now().plus(SECOND * 601));
    assert!(registry.component("worker-1").is_err(), "forgotten after ten minutes");
    registry.register(worker, now().plus(SECOND * 602)).unwrap();
    registry.take_changes();
    registry.deregister("worker-1", &Secret::new(OLD), "", None, now().plus(SECOND * 602)).unwrap();
    let changes = registry.take_changes();
    assert_eq!(changes.iter().map(|change| change.removed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(registry.bytes(), 0);
}

#[test]
fn a_new_plan_keeps_who_stays_and_drops_the_others() {
    let mut registry = planned();
    registry.register(reader(OLD), now()).unwrap();
    registry.register(asked("orders:write", Kind::Sink, OLD), now()).unwrap();
    registry.take_changes();
    let mut next = plan();
    next.plan_hash = "def".to_owned();
    next.places[1] = Place::new("orders:store", Kind::Sink, token().digest());
    next.places[0].connections.downstream = vec!["orders:store".to_owned()];
    registry.plan(next.clone(), now()).unwrap();
    let there = registry.component("orders:read").unwrap();
    assert_eq!(
        (there.status, &*there.connections.downstream[0]),
        (Status::Healthy, "orders:store")
    );
    assert!(registry.component("orders:write").is_err());
    let gone = Beat { id: "orders:write".to_owned(), ..beat(OLD, 1, 1) };
    assert_eq!(registry.beat(gone, now()).unwrap_err().code(), Code::NotFound);
    assert_eq!(registry.take_changes().len(), 3, "one gone, one reconnected, one new");
    registry.plan(next, now()).unwrap();
    assert!(registry.take_changes().is_empty(), "the same plan changes nothing");
}

#[test]
fn plans_that_cannot_be_are_refused_whole() {
    let mut registry = planned();
    let other = |change: &dyn Fn(&mut Plan)| {
        let mut other = Plan { id: "other".to_owned(), ..plan() };
        for place in &mut other.places {
            place.id = place.id.replace("orders", "other");
            place.connections = Connections::default();
        }
        change(&mut other);
        other
    };
    let bad: [(&str, Plan); 5] = [
        ("of another component", other(&|plan| plan.places[1].id = "orders:read".to_owned())),
        ("there twice", other(&|plan| plan.places[1].id = plan.places[0].id.clone())),
        (
            "no place of this plan",
            other(&|plan| {
                plan.places[0].connections.upstream.push("orders:read".to_owned());
            }),
        ),
        ("belong to no pipeline", other(&|plan| plan.places[0].kind = Kind::Worker)),
        ("not ' '", other(&|plan| plan.id = "an id".to_owned())),
    ];
    let bytes = registry.bytes();
    for (what, plan) in bad {
        let error = registry.plan(plan, now()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert_eq!((registry.pipelines().count(), registry.bytes()), (1, bytes));
    registry.plan(other(&|_| ()), now()).unwrap();
}

#[test]
fn runs_go_through_their_states_and_the_oldest_are_forgotten() {
    let limits = Limits { runs: 2, ..Limits::default() };
    let mut registry = Registry::new(limits, Timing::default(), 3, 1);
    registry.plan(plan(), now()).unwrap();
    for number in 1..=3 {
        assert_eq!(registry.begin_run("orders", now()).unwrap(), number);
        assert!(registry.begin_run("orders", now()).is_err(), "one at a time");
        assert!(registry.remove_pipeline("orders", now()).is_err());
        let mut to = |state| registry.set_pipeline_state("orders", state, "", now());
        to(PipelineState::Running).unwrap();
        to(PipelineState::Running).unwrap();
        assert_eq!(to(PipelineState::Starting).unwrap_err().code(), Code::FailedPrecondition);
        to(PipelineState::Stopping).unwrap();
        to(PipelineState::Stopped).unwrap();
    }
    let runs = &registry.pipeline("orders").unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [2, 3]);
    assert!(runs.iter().all(|run| run.end == Some((now().wall, PipelineState::Stopped))));
    registry.remove_pipeline("orders", now()).unwrap();
    assert_eq!((registry.counts().len(), registry.bytes()), (0, 0));
}

#[test]
fn what_is_over_a_limit_is_refused_and_changes_nothing() {
    let limits = Limits { components: 3, bytes: 2_000, pipelines: 1, ..Limits::default() };
    let mut registry = Registry::new(limits, Timing::default(), 3, 1);
    registry.plan(plan(), now()).unwrap();
    let other = Plan { id: "other".to_owned(), places: Vec::new(), ..plan() };
    assert_eq!(registry.plan(other, now()).unwrap_err().code(), Code::Overloaded);
    registry.register(asked("w1", Kind::Worker, OLD), now()).unwrap();
    let more = registry.register(asked("w2", Kind::Worker, OLD), now());
    assert!(matches!(more, Err(Error::Full { what: "components", limit: 3, .. })));
    let limits = Limits { workers: 1, ..Limits::default() };
    let mut other = Registry::new(limits, Timing::default(), 3, 1);
    other.register(asked("w1", Kind::Worker, OLD), now()).unwrap();
    other.register(asked("w1", Kind::Worker, OLD), now()).unwrap();
    let more = other.register(asked("w2", Kind::Worker, OLD), now());
    assert!(matches!(more, Err(Error::Full { what: "workers", limit: 1, .. })), "{more:?}");
    other.plan(plan(), now()).unwrap();
    let port = PortSchema { text: "x".repeat(1_900), ..PortSchema::default() };
    let metadata = Metadata { inputs: vec![port], ..Metadata::default() };
    let before = registry.bytes();
    let more = registry.register(Registration { metadata, ..reader(OLD) }, now());
    assert!(matches!(more, Err(Error::Full { what: "bytes", .. })), "{more:?}");
    assert_eq!((registry.bytes(), status(&registry)), (before, Status::Expected));
}

#[test]
fn what_was_touched_can_be_taken_back_whole() {
    let mut registry = planned();
    registry.register(reader(OLD), now()).unwrap();
    drop(registry.take_touched());
    let state = |registry: &Registry| {
        let filter = Filter::default();
        let all: Vec<_> = registry.select(&filter).cloned().collect();
        let pipelines: Vec<_> = registry.pipelines().cloned().collect();
        (all, pipelines, registry.bytes())
    };
    let before = state(&registry);
    let mut next = plan();
    next.places[1] = Place::new("orders:store", Kind::Sink, token().digest());
    next.places[0].connections.downstream.clear();
    registry.plan(next, now()).unwrap();
    registry.begin_run("orders", now()).unwrap();
    registry.deregister("orders:read", &Secret::new(OLD), "", None, now()).unwrap();
    let fence = registry.register(reader(NEW), now()).unwrap().fence;
    registry.register(asked("w1", Kind::Worker, OLD), now()).unwrap();
    assert_ne!(state(&registry), before);
    let touched = registry.take_touched();
    registry.undo(touched);
    assert_eq!(state(&registry), before);
    // The old place is one again, the new one is not, and no fence is given twice.
    registry.register(asked("orders:write", Kind::Sink, OLD), now()).unwrap();
    let gone = registry.register(asked("orders:store", Kind::Sink, OLD), now());
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    assert!(registry.component("orders:write").unwrap().fence > fence);
}

#[test]
fn who_was_loaded_has_the_time_that_everybody_has() {
    let mut first = planned();
    first.register(reader(OLD), now()).unwrap();
    first.beat(beat(OLD, 7, 7), now()).unwrap();
    let stored = Component::clone(first.component("orders:read").unwrap());
    let mut second = Registry::new(Limits::default(), Timing::default(), 4, 2);
    // Another process: its clock began elsewhere.
    let open = now().plus(SECOND * 3_600);
    second.load_pipeline(Pipeline::clone(first.pipeline("orders").unwrap()), open);
    assert!(second.load_component(stored.clone(), open));
    assert!(!second.load_component(component("nowhere:read"), open));
    second.check(open.plus(SECOND * 30));
    assert_eq!(status(&second), Status::Healthy);
    assert!(matches!(second.register(reader(NEW), open), Err(Error::Taken { .. })));
    assert_eq!(second.register(reader(OLD), open).unwrap().fence, stored.fence);
    assert_eq!(second.beat(beat(OLD, 8, 8), open).unwrap().0, Counted::Yes);
    second.check(open.plus(SECOND * 31));
    assert_eq!(status(&second), Status::Unhealthy);
    let fence = second.register(reader(NEW), open.plus(SECOND * 31)).unwrap().fence;
    assert!(fence > stored.fence && fence >= 4 << 32);
}

#[test]
fn a_page_ends_where_it_is_told_to() {
    let mut registry = Registry::new(Limits::default(), Timing::default(), 3, 1);
    for name in ["w1", "w2", "w3"] {
        registry.register(asked(name, Kind::Worker, OLD), now()).unwrap();
    }
    let filter = Filter { kinds: vec![Kind::Worker], ..Filter::default() };
    let ids = |page: Page| {
        let ids: Vec<_> = page.components.iter().map(|found| found.id.clone()).collect();
        (ids, page.more)
    };
    let (first, more) = ids(registry.page(&filter, "", 2));
    assert_eq!((first, more), (vec!["w1".to_owned(), "w2".to_owned()], true));
    assert_eq!(ids(registry.page(&filter, "w2", 2)), (vec!["w3".to_owned()], false));
    let none = Filter { kinds: vec![Kind::Sink], ..Filter::default() };
    assert_eq!(ids(registry.page(&none, "", 2)), (Vec::new(), false));
}

#[test]
fn each_place_is_held_to_its_own_times() {
    let mut plan = plan();
    plan.places[0].health = PlaceHealth {
        every: Some(SECOND),
        unhealthy_after: Some(SECOND * 3),
        path: "/live".to_owned(),
    };
    let mut registry = Registry::new(Limits::default(), Timing::default(), 3, 1);
    registry.plan(plan, now()).unwrap();
    registry.begin_run("orders", now()).unwrap();
    assert_eq!(registry.beat_every("orders:read"), SECOND);
    assert_eq!(registry.beat_every("orders:write"), SECOND * 10);
    let pace = registry.pace();
    assert_eq!((pace.check_every, pace.poll_every), (SECOND / 2, SECOND));
    registry.register(reader(OLD), now()).unwrap();
    registry.register(asked("orders:write", Kind::Sink, NEW), now()).unwrap();
    let paths: Vec<String> = registry.watched().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/live", "/health"]);
    let status = |registry: &Registry, id: &str| registry.component(id).unwrap().status;
    registry.check(now().plus(SECOND * 3));
    assert_eq!(status(&registry, "orders:read"), Status::Healthy);
    registry.check(now().plus(SECOND * 4));
    assert_eq!(status(&registry, "orders:read"), Status::Unhealthy);
    assert_eq!(status(&registry, "orders:write"), Status::Healthy);
    // And another one takes the place as soon as that.
    registry.register(reader(NEW), now().plus(SECOND * 4)).unwrap();
}

#[test]
fn times_and_paths_that_cannot_be_are_refused() {
    let refused = |health: PlaceHealth| {
        let mut plan = plan();
        plan.places[0].health = health;
        let mut registry = Registry::new(Limits::default(), Timing::default(), 3, 1);
        registry.plan(plan, now()).unwrap_err().to_string()
    };
    let none = PlaceHealth::default();
    let zero = PlaceHealth { every: Some(Duration::ZERO), ..none.clone() };
    assert!(refused(zero).contains("is not between 1ms and 1d"));
    let no_path = PlaceHealth { path: "x".to_owned(), ..none.clone() };
    assert!(refused(no_path).contains("is no path"));
    assert!(refused(PlaceHealth { path: "/a b\r\n".to_owned(), ..none }).contains("path"));
}

#[test]
fn a_place_that_is_vacated_may_be_taken_at_once() {
    let mut registry = planned();
    assert!(!registry.vacate("orders:read", "never ran", now()).unwrap(), "nobody holds it");
    registry.register(reader(OLD), now()).unwrap();
    assert!(registry.register(reader(NEW), now()).is_err());
    assert!(registry.vacate("orders:read", "killed by signal 9 (KILL)", now()).unwrap());
    assert_eq!(registry.component("orders:read").unwrap().status, Status::Exited);
    assert!(registry.beat(beat(OLD, 1, 1), now()).is_err(), "it was said to have ended");
    registry.register(reader(NEW), now()).unwrap();
    assert_eq!(registry.component("orders:read").unwrap().restarts, 1);
}

/// A source that says so much when it leaves.
fn totals(rows: u64) -> Totals {
    Totals { rows_out: Some(rows), batches_out: Some(1), ..Totals::default() }
}

fn leave(registry: &mut Registry, incarnation: &str, reason: &str, rows: u64, at: Now) {
    let incarnation = Secret::new(incarnation);
    registry.deregister("orders:read", &incarnation, reason, Some(totals(rows)), at).unwrap();
}

#[test]
fn what_went_through_a_run_is_summed_and_remembered() {
    let mut registry = planned();
    let at = |seconds| now().plus(SECOND * seconds);
    registry.begin_run("orders", now()).unwrap();
    registry.register(reader(OLD), at(1)).unwrap();
    leave(&mut registry, OLD, "stopped", 40, at(2));
    leave(&mut registry, OLD, "stopped", 40, at(2));
    registry.register(reader(NEW), at(3)).unwrap();
    leave(&mut registry, NEW, "done with run 1", 2, at(4));
    let written = Totals { rows_in: Some(42), batches_in: Some(2), ..Totals::default() };
    let sink = asked("orders:write", Kind::Sink, OLD);
    registry.register(sink.clone(), at(4)).unwrap();
    let done = registry.deregister(&sink.id, &sink.incarnation, "done", Some(written), at(5));
    done.unwrap();
    assert_eq!(registry.component("orders:read").unwrap().totals.unwrap().rows_out, Some(42));
    registry.set_pipeline_state("orders", PipelineState::Stopped, "", at(6)).unwrap();
    let of_run = registry.pipeline("orders").unwrap().runs[0].totals.unwrap();
    assert_eq!((of_run.rows_read, of_run.rows_written, of_run.batches_written), (42, 42, 2));
    registry.begin_run("orders", at(7)).unwrap();
    assert_eq!(registry.component("orders:read").unwrap().totals, None, "another run");
    assert!(registry.pipeline("orders").unwrap().runs[0].totals.is_some());
}

#[test]
fn who_was_ill_and_left_in_good_order_is_restarted_all_the_same() {
    let mut registry = planned();
    registry.begin_run("orders", now()).unwrap();
    registry.register(reader(OLD), now()).unwrap();
    registry.check(now().plus(SECOND * 31));
    assert_eq!(status(&registry), Status::Unhealthy);
    leave(&mut registry, OLD, "stopped", 1, now().plus(SECOND * 32));
    registry.register(reader(NEW), now().plus(SECOND * 33)).unwrap();
    assert_eq!(registry.component("orders:read").unwrap().restarts, 1);
}

#[test]
fn only_failures_within_a_run_are_restarts() {
    let mut registry = planned();
    let at = |seconds| now().plus(SECOND * seconds);
    let restarts = |registry: &Registry| registry.component("orders:read").unwrap().restarts;
    let mut second = 0;
    for run in 1..4 {
        registry.begin_run("orders", at(second)).unwrap();
        assert_eq!(restarts(&registry), 0, "run {run}");
        // As after a reload, or by hand.
        for (incarnation, reason) in [(OLD, "stopped"), (NEW, "failed: no such host")] {
            registry.register(reader(incarnation), at(second + 1)).unwrap();
            leave(&mut registry, incarnation, reason, 1, at(second + 2));
        }
        assert_eq!(restarts(&registry), 0, "run {run}");
        let third = Secret::new("incarnation-number-3");
        registry.register(reader(third.expose()), at(second + 3)).unwrap();
        assert_eq!(restarts(&registry), 1, "after what failed");
        registry.exited("orders:read", &third, "exit status 1", at(second + 4)).unwrap();
        registry.register(reader("incarnation-number-4"), at(second + 5)).unwrap();
        assert_eq!(restarts(&registry), 2, "after what was killed");
        registry
            .exited("orders:read", &Secret::new("incarnation-number-4"), "", at(second + 6))
            .unwrap();
        registry.set_pipeline_state("orders", PipelineState::Stopped, "", at(second + 7)).unwrap();
        assert_eq!(registry.pipeline("orders").unwrap().runs[run - 1].totals.unwrap().restarts, 2);
        second += 10;
    }
}

#[test]
fn another_plan_of_a_run_is_another_generation_and_leaves_its_holders_in_peace() {
    let mut registry = planned();
    let refused = registry.replan(plan(), "", now()).unwrap_err();
    assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
    registry.begin_run("orders", now()).unwrap();
    registry.register(reader(OLD), now()).unwrap();
    assert_eq!(registry.replan(plan(), "nothing", now()).unwrap(), 1, "it is the same plan");
    let mut other = Plan { plan_hash: "def".to_owned(), ..plan() };
    other.places[0].connections.downstream = vec!["orders:print".to_owned()];
    other.places[1] = Place::new("orders:print", Kind::Sink, token().digest());
    assert_eq!(registry.replan(other, "starts print", now().plus(SECOND)).unwrap(), 2);
    assert_eq!(registry.component("orders:read").unwrap().status, Status::Healthy);
    assert!(registry.component("orders:write").is_err(), "its place is gone");
    assert_eq!(registry.component("orders:print").unwrap().status, Status::Expected);
    let run = registry.pipeline("orders").unwrap().runs.last().unwrap();
    assert_eq!((run.generation(), &*run.plan_hash), (2, "abc"));
    let last = run.generations.last().unwrap();
    assert_eq!((&*last.plan_hash, &*last.changes), ("def", "starts print"));
    assert_eq!(last.since, now().plus(SECOND).wall);
}

#[test]
fn a_holder_of_the_plan_before_does_not_get_its_place_back() {
    let mut registry = planned();
    registry.begin_run("orders", now()).unwrap();
    registry.register(reader(OLD), now()).unwrap();
    registry.vacate("orders:read", "another plan", now()).unwrap();
    let mut other = Plan { plan_hash: "def".to_owned(), ..plan() };
    other.places[0].token = Token::new("the token of the other plan").digest();
    registry.replan(other, "restarts read", now()).unwrap();
    let refused = registry.register(reader(OLD), now()).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
}

#[test]
fn only_so_many_generations_are_remembered() {
    let mut registry = planned();
    registry.begin_run("orders", now()).unwrap();
    for number in 0..100 {
        let other = Plan { plan_hash: format!("{number}"), ..plan() };
        registry.replan(other, "", now()).unwrap();
    }
    let run = registry.pipeline("orders").unwrap().runs.last().unwrap();
    assert_eq!((run.generation(), run.generations.len()), (101, MAX_GENERATIONS));
}
