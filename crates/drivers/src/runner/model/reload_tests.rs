//! The rules of bringing a run to another plan, without processes.

use std::collections::BTreeMap;

use sheaf_pipeline::health::RestartPolicy;
use sheaf_pipeline::registry::PipelineState;

use super::super::Event;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn planned(component: &str, depth: usize, senders: &[&str]) -> Planned {
    Planned {
        place: format!("p:{component}"),
        component: component.to_owned(),
        drain: SECOND * 30,
        policy: RestartPolicy { jitter: 0.0, most: 2, ..RestartPolicy::default() },
        attempt: 0,
        depth,
        senders: senders.iter().map(|one| format!("p:{one}")).collect(),
        direct: senders.iter().map(|one| format!("p:{one}")).collect(),
    }
}

fn plan() -> Vec<Planned> {
    vec![planned("a", 0, &[]), planned("b", 1, &["a"]), planned("c", 2, &["b"])]
}

/// a -> b -> c, all up.
struct Run {
    model: Model,
    now: Duration,
}

impl Run {
    fn up() -> Self {
        let mut run = Run { model: Model::new(plan(), 1), now: SECOND };
        run.on(Event::Begin);
        for place in ["p:c", "p:b", "p:a"] {
            run.on(Event::Started(place.to_owned(), 1));
        }
        for place in ["p:a", "p:b", "p:c"] {
            run.on(Event::Registered(place.to_owned()));
        }
        assert_eq!(run.model.phase, Phase::Running);
        run
    }

    /// What is done about it, notes and empty places apart.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.model.on(event, self.now).into_iter();
        let quiet = |one: &Effect| matches!(one, Effect::Note { .. } | Effect::Vacate { .. });
        effects.filter(|effect| !quiet(effect)).collect()
    }

    fn reload(&mut self, leaving: &[&str]) -> Vec<Effect> {
        let leaving = leaving.iter().map(|one| format!("p:{one}")).collect();
        self.on(Event::Reload { leaving, can_go_back: true })
    }

    fn ended(&mut self, place: &str, attempt: u64, success: bool) -> Vec<Effect> {
        let (place, why) = (place.to_owned(), "exit status 1".to_owned());
        self.on(Event::Ended { place, attempt, success, final_: false, why })
    }

    fn replanned(&mut self, next: Vec<Planned>, done: &[&str]) -> Vec<Effect> {
        let done = done.iter().map(|one| format!("p:{one}")).collect();
        self.on(Event::Replanned { next, done })
    }

    fn registered(&mut self, place: &str) -> Vec<Effect> {
        self.on(Event::Registered(place.to_owned()))
    }

    /// All have registered, and go on for their time.
    fn proved(&mut self) {
        assert_eq!(self.model.due(), Some(self.now + PROBATION));
        assert!(self.model.is_reloading());
        self.now += PROBATION;
        assert_eq!(self.on(Event::Tick), [Effect::Reloaded(Ok(()))]);
        assert!(!self.model.is_reloading());
    }
}

fn start(place: &str, attempt: u64) -> Effect {
    Effect::Start { place: place.to_owned(), attempt }
}

fn stop(place: &str) -> Effect {
    Effect::Stop { place: place.to_owned(), attempt: 1, drain: SECOND * 30 }
}

/// For another plan.
fn leave(place: &str) -> Effect {
    Effect::Stop { place: place.to_owned(), attempt: 1, drain: SECOND * 30 + LAST_WORD }
}

/// Nobody is left; who was told to end.
fn replan(told: &[&str]) -> Effect {
    Effect::Replan(told.iter().map(|one| format!("p:{one}")).collect())
}

fn hand(places: &[&str]) -> Effect {
    Effect::Hand(places.iter().map(|place| (*place).to_owned()).collect())
}

#[test]
fn senders_drain_before_their_readers_and_start_after_them() {
    let mut run = Run::up();
    assert_eq!(run.reload(&["a", "b"]), [hand(&["p:a", "p:b"]), hand(&["p:a"]), leave("p:a")]);
    assert_eq!(
        run.ended("p:a", 1, true),
        [hand(&["p:b"]), leave("p:b")],
        "b still took what a had"
    );
    assert_eq!(run.ended("p:b", 1, true), [replan(&["a", "b"])]);
    assert_eq!(run.on(Event::Tick), [], "nobody is in the places until the plan is another one");
    assert_eq!(run.replanned(plan(), &[]), [start("p:b", 2)]);
    assert_eq!(run.on(Event::Started("p:b".to_owned(), 2)), [start("p:a", 2)]);
    assert_eq!(run.registered("p:b"), []);
    run.on(Event::Started("p:a".to_owned(), 2));
    assert_eq!(run.registered("p:a"), []);
    run.proved();
}

#[test]
fn who_comes_and_who_goes() {
    let mut run = Run::up();
    assert_eq!(run.reload(&["b", "c"]), [hand(&["p:b", "p:c"]), hand(&["p:b"]), leave("p:b")]);
    run.ended("p:b", 1, true);
    assert_eq!(run.ended("p:c", 1, true), [replan(&["b", "c"])]);
    let next = vec![planned("a", 0, &[]), planned("b", 1, &["a"]), planned("d", 2, &["b"])];
    assert_eq!(run.replanned(next, &[]), [start("p:d", 1)]);
    assert_eq!(run.on(Event::Started("p:d".to_owned(), 1)), [start("p:b", 2)]);
    run.on(Event::Started("p:b".to_owned(), 2));
    run.registered("p:d");
    run.registered("p:b");
    run.proved();
    assert!(run.model.named("c").is_empty());
    assert_eq!(run.ended("p:c", 1, false), [], "it is not there any more");
}

#[test]
fn more_may_have_to_leave_than_was_thought_at_first() {
    let mut run = Run::up();
    run.reload(&["a"]);
    assert_eq!(run.ended("p:a", 1, true), [replan(&["a"])]);
    // It has not drained: what b holds of it comes again.
    assert_eq!(run.reload(&["a", "b"]), [hand(&["p:a", "p:b"]), hand(&["p:b"]), leave("p:b")]);
    assert_eq!(run.ended("p:b", 1, true), [replan(&["b"])]);
    assert_eq!(run.replanned(plan(), &[]), [start("p:b", 2)]);
}

#[test]
fn nothing_to_do_is_over_at_once() {
    let mut run = Run::up();
    assert_eq!(run.reload(&[]), [hand(&[]), replan(&[])]);
    assert_eq!(run.replanned(plan(), &[]), [Effect::Reloaded(Ok(()))]);
}

#[test]
fn who_pauses_after_a_failure_is_not_waited_for_and_begins_with_a_clean_record() {
    let mut run = Run::up();
    run.ended("p:b", 1, false);
    assert_eq!(run.reload(&["b"]), [hand(&["p:b"]), replan(&[])]);
    run.now += SECOND * 60;
    assert_eq!(run.on(Event::Tick), [], "the pause is over, and the plan not there yet");
    assert_eq!(run.replanned(plan(), &[]), [start("p:b", 2)]);
    run.on(Event::Started("p:b".to_owned(), 2));
    run.registered("p:b");
    run.proved();
    run.ended("p:b", 2, false);
    assert_eq!(run.model.due(), Some(run.now + SECOND), "the first failure of this one");
}

#[test]
fn who_was_started_again_meanwhile_is_handed_with_that_attempt() {
    let mut run = Run::up();
    run.reload(&["a", "b"]);
    run.ended("p:b", 1, false);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:b", 2)], "a drains into it");
    run.on(Event::Started("p:b".to_owned(), 2));
    let effects = run.ended("p:a", 1, true);
    assert_eq!(effects[0], hand(&["p:b"]));
    assert!(matches!(&effects[1], Effect::Stop { attempt: 2, .. }), "{effects:?}");
}

#[test]
fn who_fails_while_it_waits_to_drain_does_not_fail_the_pipeline() {
    let mut run = Run::up();
    run.reload(&["a", "b"]);
    for attempt in 1..=2 {
        run.ended("p:b", attempt, false);
        run.now += SECOND * 10;
        run.on(Event::Tick);
        run.on(Event::Started("p:b".to_owned(), attempt + 1));
    }
    assert_eq!(run.ended("p:b", 3, false), [], "too often, but it is replaced anyway");
    assert_eq!(run.ended("p:a", 1, true), [replan(&["a"])]);
}

#[test]
fn others_are_looked_after_as_ever() {
    let mut run = Run::up();
    run.reload(&["a"]);
    run.ended("p:c", 1, false);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:c", 2)], "a drains into it");
}

#[test]
fn a_plan_that_is_refused_changes_nothing() {
    let mut run = Run::up();
    run.reload(&["b"]);
    assert_eq!(run.ended("p:b", 1, true), [replan(&["b"])]);
    assert_eq!(run.on(Event::NotReplanned), [start("p:b", 2)]);
    assert!(!run.model.is_reloading());
}

#[test]
fn a_stop_is_stronger_than_another_plan() {
    let mut run = Run::up();
    run.reload(&["b"]);
    let effects = run.on(Event::Stop { at_once: false, reason: "asked".to_owned() });
    let stopping = Effect::State(PipelineState::Stopping, "asked".to_owned());
    assert_eq!(effects, [stopping, stop("p:a")]);
    assert!(!run.model.is_reloading());
    assert_eq!(run.ended("p:b", 1, true), []);
    assert_eq!(run.replanned(plan(), &[]), [], "too late");
    assert_eq!(run.ended("p:a", 1, true), [stop("p:c")]);
    let stopped = Effect::State(PipelineState::Stopped, "asked".to_owned());
    assert_eq!(run.ended("p:c", 1, true), [stopped]);
}

#[test]
fn what_cannot_be_had_at_all_brings_the_plan_before_back_and_once_only() {
    let mut run = Run::up();
    run.reload(&["b"]);
    run.ended("p:b", 1, true);
    run.replanned(plan(), &[]);
    run.on(Event::Started("p:b".to_owned(), 2));
    run.registered("p:b");
    let end = |attempt| Event::Ended {
        place: "p:b".to_owned(),
        attempt,
        success: false,
        final_: true,
        why: "exit status 2".to_owned(),
    };
    assert_eq!(run.on(end(2)), [Effect::GoBack("b: exit status 2".to_owned())]);
    let leaving = BTreeSet::from(["p:b".to_owned()]);
    let effects = run.on(Event::Reload { leaving, can_go_back: false });
    assert_eq!(effects, [hand(&["p:b"]), replan(&[])]);
    assert_eq!(run.replanned(plan(), &[]), [start("p:b", 3)]);
    run.on(Event::Started("p:b".to_owned(), 3));
    let reason = "b: exit status 2".to_owned();
    let stopping = Effect::State(PipelineState::Stopping, reason);
    let drain = SECOND;
    let cut_off = Effect::Stop { place: "p:a".to_owned(), attempt: 1, drain };
    assert_eq!(run.on(end(3)), [stopping, cut_off], "nobody takes what it sends");
}

#[test]
fn one_failure_is_told_and_the_others_go_on() {
    let mut run = Run::up();
    run.reload(&["b"]);
    run.ended("p:b", 1, true);
    run.replanned(plan(), &[]);
    run.on(Event::Started("p:b".to_owned(), 2));
    let why = "b: exit status 1; it is started again as its `restart` says".to_owned();
    assert_eq!(run.ended("p:b", 2, false), [Effect::Reloaded(Err(why))]);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:b", 3)]);
}

#[test]
fn who_has_come_to_its_end_stays_there_unless_it_gets_somebody_to_read() {
    let mut run = Run::up();
    // a has ended by itself, b is told to end in the moment in which it does.
    run.ended("p:a", 1, true);
    run.reload(&["a", "b"]);
    assert_eq!(run.ended("p:b", 1, true), [replan(&["b"])]);
    assert_eq!(run.replanned(plan(), &["b"]), [Effect::Reloaded(Ok(()))]);
    let over =
        Effect::State(PipelineState::Stopped, "all components have come to their end".to_owned());
    assert_eq!(run.ended("p:c", 1, true), [over]);

    let mut run = Run::up();
    run.ended("p:a", 1, true);
    run.reload(&["a", "b"]);
    run.ended("p:b", 1, true);
    let mut next = plan();
    next[1].senders.push("p:new".to_owned());
    next.push(planned("new", 0, &[]));
    assert_eq!(run.replanned(next, &["b"]), [start("p:b", 2)], "and not a");
    assert_eq!(run.on(Event::Started("p:b".to_owned(), 2)), [start("p:new", 1)]);
}

#[test]
fn a_control_plane_that_comes_after_knows_who_was_told_to_end() {
    let mut model = Model::new(plan(), 1);
    let running = BTreeMap::from([("p:b".to_owned(), (1, true)), ("p:c".to_owned(), (1, true))]);
    let handed = BTreeMap::from([("p:a".to_owned(), 0), ("p:b".to_owned(), 1)]);
    model.resume(&running, &handed, false, SECOND);
    let mut run = Run { model, now: SECOND };
    assert_eq!(run.on(Event::Tick), [stop("p:b"), start("p:a", 1)], "a had ended");
    assert_eq!(run.ended("p:b", 1, true), [start("p:b", 2)], "it did not end by itself");
    assert!(!run.model.is_over());
}
