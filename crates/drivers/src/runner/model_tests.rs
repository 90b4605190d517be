//! The rules of a run, without processes.

use sheaf_pipeline::health::{RestartMode, RestartPolicy};
use sheaf_pipeline::registry::PipelineState;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> RestartPolicy {
    RestartPolicy { jitter: 0.0, most: 2, ..RestartPolicy::default() }
}

fn planned(component: &str, depth: usize) -> Planned {
    Planned {
        place: format!("p:{component}"),
        component: component.to_owned(),
        drain: SECOND * 30,
        policy: policy(),
        attempt: 0,
        depth,
        senders: Vec::new(),
        direct: Vec::new(),
    }
}

/// a -> b -> c.
struct Run {
    model: Model,
    now: Duration,
}

impl Run {
    fn new() -> Self {
        let all = vec![planned("a", 0), planned("b", 1), planned("c", 2)];
        Run { model: Model::new(all, 1), now: SECOND }
    }

    /// With everything up and registered.
    fn up() -> Self {
        let mut run = Run::new();
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

    /// What is done about it, notes apart.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.model.on(event, self.now).into_iter();
        effects.filter(|effect| !matches!(effect, Effect::Note { .. })).collect()
    }

    fn ended(&mut self, place: &str, attempt: u64, success: bool) -> Vec<Effect> {
        let (place, why) = (place.to_owned(), "exit status 1".to_owned());
        let effects = self.on(Event::Ended { place, attempt, success, final_: false, why });
        effects.into_iter().filter(|one| !matches!(one, Effect::Vacate { .. })).collect()
    }

    fn stop(&mut self, at_once: bool) -> Vec<Effect> {
        self.on(Event::Stop { at_once, reason: "asked".to_owned() })
    }
}

fn start(place: &str, attempt: u64) -> Effect {
    Effect::Start { place: place.to_owned(), attempt }
}

fn stop(place: &str, attempt: u64, seconds: u64) -> Effect {
    Effect::Stop { place: place.to_owned(), attempt, drain: Duration::from_secs(seconds) }
}

fn state(state: PipelineState, reason: &str) -> Effect {
    Effect::State(state, reason.to_owned())
}

#[test]
fn readers_are_started_before_who_they_read() {
    let mut run = Run::new();
    assert_eq!(run.on(Event::Begin), [start("p:c", 1)]);
    assert_eq!(run.on(Event::Started("p:c".to_owned(), 1)), [start("p:b", 1)]);
    assert_eq!(run.on(Event::Registered("p:c".to_owned())), []);
    assert_eq!(run.on(Event::Registered("p:b".to_owned())), [], "quicker than the driver");
    assert_eq!(run.on(Event::Started("p:b".to_owned(), 1)), [start("p:a", 1)]);
    assert_eq!(run.on(Event::Started("p:a".to_owned(), 1)), []);
    let running = state(PipelineState::Running, "");
    assert_eq!(run.on(Event::Registered("p:a".to_owned())), [running]);
}

#[test]
fn it_is_over_when_everything_has_ended_with_success() {
    let mut run = Run::up();
    assert_eq!(run.ended("p:a", 1, true), []);
    assert_eq!(run.ended("p:b", 1, true), []);
    let over = state(PipelineState::Stopped, "all components have come to their end");
    assert_eq!(run.ended("p:c", 1, true), [over]);
    assert!(run.model.is_over() && run.model.is_complete());
}

#[test]
fn a_failure_is_a_restart_after_a_pause_that_grows_until_there_were_too_many() {
    let mut run = Run::up();
    assert_eq!(run.ended("p:b", 1, false), []);
    assert_eq!(run.model.due(), Some(run.now + SECOND));
    assert_eq!(run.on(Event::Tick), [], "not yet");
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:b", 2)]);
    run.on(Event::Started("p:b".to_owned(), 2));
    assert_eq!(run.ended("p:b", 1, false), [], "said of the one before");
    assert_eq!(run.ended("p:b", 2, false), []);
    assert_eq!(run.model.due(), Some(run.now + SECOND * 2));
    run.now += SECOND * 2;
    assert_eq!(run.on(Event::Tick), [start("p:b", 3)]);
    run.on(Event::Started("p:b".to_owned(), 3));
    let reason = "b: exit status 1; it was restarted 2 times within 10m, its limit";
    let effects = run.ended("p:b", 3, false);
    assert_eq!(effects, [state(PipelineState::Stopping, reason), stop("p:a", 1, 30)]);
    assert_eq!(run.ended("p:a", 1, true), [stop("p:c", 1, 30)], "b does not run");
    assert_eq!(run.ended("p:c", 1, true), [state(PipelineState::Failed, reason)]);
    assert!(run.model.is_over() && !run.model.is_complete());
}

#[test]
fn what_another_start_does_not_help_fails_at_once() {
    let mut run = Run::up();
    let why = "exit status 2: no such column".to_owned();
    let event =
        Event::Ended { place: "p:a".to_owned(), attempt: 1, success: false, final_: true, why };
    let effects = run.on(event);
    assert!(effects.contains(&state(PipelineState::Stopping, "a: exit status 2: no such column")));
    let mut run = Run::new();
    run.on(Event::Begin);
    let effects = run.on(Event::NotStarted("p:c".to_owned(), 1, "no program x".to_owned()));
    assert_eq!(
        effects[1..],
        [
            state(PipelineState::Stopping, "c: no program x"),
            state(PipelineState::Failed, "c: no program x"),
        ]
    );
}

#[test]
fn who_is_unhealthy_is_ended_and_started_again() {
    let mut run = Run::up();
    let silent = "it has said nothing for 31s".to_owned();
    let effects = run.on(Event::Unhealthy("p:b".to_owned(), silent.clone()));
    assert_eq!(effects, [stop("p:b", 1, 1)]);
    assert_eq!(run.on(Event::Unhealthy("p:b".to_owned(), silent)), [], "said once");
    // However it ended: it had to be ended.
    assert_eq!(run.ended("p:b", 1, true), []);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:b", 2)]);
    run.on(Event::Started("p:b".to_owned(), 2));
    assert_eq!(run.on(Event::Registered("p:b".to_owned())), []);
}

#[test]
fn who_never_registers_is_taken_for_unhealthy() {
    let mut run = Run::new();
    run.on(Event::Begin);
    run.on(Event::Started("p:c".to_owned(), 1));
    run.now += REGISTER_TIME;
    assert_eq!(run.on(Event::Tick), [stop("p:c", 1, 1)]);
}

#[test]
fn who_deregistered_and_goes_on_is_ended_after_its_drain() {
    let mut run = Run::up();
    assert_eq!(run.on(Event::Left("p:a".to_owned())), []);
    run.now += SECOND * 30;
    assert_eq!(run.on(Event::Tick), [stop("p:a", 1, 1)]);
}

#[test]
fn a_stop_goes_from_the_sources_to_the_sinks_and_starts_nothing_any_more() {
    let mut run = Run::up();
    run.ended("p:b", 1, false);
    let effects = run.stop(false);
    assert_eq!(effects, [state(PipelineState::Stopping, "asked"), stop("p:a", 1, 30)]);
    run.now += SECOND * 5;
    assert_eq!(run.on(Event::Tick), [], "b was to be started again");
    assert_eq!(run.on(Event::Restart("b".to_owned())), []);
    assert_eq!(run.ended("p:a", 1, false), [stop("p:c", 1, 30)]);
    assert_eq!(run.ended("p:c", 1, true), [state(PipelineState::Stopped, "asked")]);
    assert!(run.model.is_over() && !run.model.is_complete());
}

/// With everything up: a -> b -> c, and a -> d, where `durable` says which are in a queue.
fn branched(durable: &[&str]) -> Run {
    let reads = |component: &str, depth, sender: &str| {
        let senders = vec![format!("p:{sender}")];
        let is_direct = !durable.contains(&component);
        let direct = if is_direct { senders.clone() } else { Vec::new() };
        Planned { senders, direct, ..planned(component, depth) }
    };
    let all = vec![planned("a", 0), reads("b", 1, "a"), reads("c", 2, "b"), reads("d", 2, "a")];
    let mut run = Run { model: Model::new(all, 1), now: SECOND };
    run.on(Event::Begin);
    for place in ["p:c", "p:d", "p:b", "p:a"] {
        run.on(Event::Started(place.to_owned(), 1));
    }
    for place in ["p:a", "p:b", "p:c", "p:d"] {
        run.on(Event::Registered(place.to_owned()));
    }
    assert_eq!(run.model.phase, Phase::Running);
    run
}

fn fails_for_good(run: &mut Run, place: &str) -> Vec<Effect> {
    let why = "no such column".to_owned();
    let place = place.to_owned();
    let effects = run.on(Event::Ended { place, attempt: 1, success: false, final_: true, why });
    effects.into_iter().filter(|one| matches!(one, Effect::Stop { .. })).collect()
}

#[test]
fn what_leads_only_to_what_failed_for_good_is_ended_at_once() {
    let mut run = branched(&[]);
    assert_eq!(fails_for_good(&mut run, "p:c"), [stop("p:b", 1, 1), stop("p:a", 1, 30)]);
    assert_eq!(run.ended("p:b", 1, false), [], "a has another reader, and drains into it");
    assert_eq!(run.ended("p:a", 1, true), [stop("p:d", 1, 30)]);
    // Where the other one fails too, nothing is left to wait for.
    let mut run = branched(&[]);
    fails_for_good(&mut run, "p:c");
    assert_eq!(run.ended("p:d", 1, false), [stop("p:a", 1, 1)]);
    run.ended("p:b", 1, false);
    let over = run.ended("p:a", 1, false);
    assert_eq!(over, [state(PipelineState::Failed, "c: no such column")]);
}

#[test]
fn what_leads_to_a_queue_drains_into_it() {
    let mut run = branched(&["c"]);
    assert_eq!(fails_for_good(&mut run, "p:c"), [stop("p:a", 1, 30)]);
    assert_eq!(run.ended("p:a", 1, true), [stop("p:b", 1, 30)]);
}

#[test]
fn a_sink_that_nobody_reads_ends_the_run_without_a_failure() {
    let mut run = branched(&[]);
    let why = "nobody reads standard output any more".to_owned();
    let stopping = state(PipelineState::Stopping, "c: nobody reads standard output any more");
    let effects = run.on(Event::Closed("p:c".to_owned(), why));
    assert_eq!(effects, [stopping, stop("p:b", 1, 1), stop("p:a", 1, 30)]);
    run.ended("p:c", 1, true);
    run.ended("p:b", 1, false);
    run.ended("p:a", 1, true);
    let over = state(PipelineState::Stopped, "c: nobody reads standard output any more");
    assert_eq!(run.ended("p:d", 1, true), [over]);
    assert!(!run.model.is_complete(), "sources go on where they were");
}

#[test]
fn a_second_stop_waits_for_nothing() {
    let mut run = Run::up();
    run.stop(false);
    assert_eq!(run.stop(false), [], "no more haste");
    assert_eq!(run.stop(true), [stop("p:a", 1, 0), stop("p:b", 1, 0), stop("p:c", 1, 0)]);
    run.ended("p:a", 1, false);
    run.ended("p:b", 1, false);
    assert_eq!(run.ended("p:c", 1, false), [state(PipelineState::Stopped, "asked")]);
}

#[test]
fn who_was_being_started_when_it_was_stopped_is_stopped_too() {
    let mut run = Run::new();
    run.on(Event::Begin);
    let effects = run.stop(false);
    // Nobody is in the groups before it.
    assert_eq!(effects, [state(PipelineState::Stopping, "asked"), stop("p:c", 1, 30)]);
    assert_eq!(run.on(Event::Started("p:c".to_owned(), 1)), []);
    assert_eq!(run.ended("p:c", 1, false), [state(PipelineState::Stopped, "asked")]);
}

#[test]
fn a_restart_by_hand_counts_for_nothing_and_waits_for_nothing() {
    let mut run = Run::up();
    for attempt in 1..10 {
        let hand = Effect::Hand(vec!["p:b".to_owned()]);
        let effects = run.on(Event::Restart("b".to_owned()));
        assert_eq!(effects, [hand, stop("p:b", attempt, 30)]);
        assert_eq!(run.ended("p:b", attempt, true), [start("p:b", attempt + 1)]);
        run.on(Event::Started("p:b".to_owned(), attempt + 1));
    }
    // One that is done too.
    run.ended("p:a", 1, true);
    assert_eq!(run.on(Event::Restart("a".to_owned())), [start("p:a", 2)]);
}

#[test]
fn a_policy_of_always_never_comes_to_an_end() {
    let always = RestartPolicy { mode: RestartMode::Always, ..policy() };
    let all = vec![Planned { policy: always, ..planned("a", 0) }];
    let mut run = Run { model: Model::new(all, 1), now: SECOND };
    run.on(Event::Begin);
    run.on(Event::Started("p:a".to_owned(), 1));
    run.on(Event::Registered("p:a".to_owned()));
    assert_eq!(run.ended("p:a", 1, true), []);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:a", 2)]);
}

#[test]
fn a_run_that_is_taken_up_goes_on_where_it_was() {
    let mut run = Run::new();
    let running = BTreeMap::from([("p:a".to_owned(), (4, true)), ("p:b".to_owned(), (2, false))]);
    run.model.resume(&running, &BTreeMap::new(), true, run.now);
    assert_eq!(run.on(Event::Tick), []);
    let running = state(PipelineState::Running, "");
    assert_eq!(run.on(Event::Registered("p:b".to_owned())), [running]);
    assert_eq!(run.ended("p:a", 4, false), []);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:a", 5)]);
    // Nobody has said how c ended.
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [stop("p:c", 0, 1)]);
    assert_eq!(run.ended("p:c", 0, false), []);
    run.now += SECOND;
    assert_eq!(run.on(Event::Tick), [start("p:c", 1)]);
}

#[test]
fn names_are_those_of_components_and_of_instances() {
    let second = Planned { place: "p:a.1".to_owned(), ..planned("a", 0) };
    let model = Model::new(vec![planned("a", 0), second, planned("b", 1)], 1);
    assert_eq!(model.named("a"), ["p:a", "p:a.1"]);
    assert_eq!(model.named("a.1"), ["p:a.1"]);
    assert!(model.named("x").is_empty());
}
