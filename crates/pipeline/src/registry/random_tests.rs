//! Any calls in any order: what holds, holds after each of them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sheaf_flight::Secret;

use super::model::Held;
use super::tests::now;
use super::*;

const IDS: [&str; 5] = ["a:read", "a:write", "b:read", "w1", "w2"];

#[derive(Clone, Debug)]
enum Op {
    Plan {
        pipeline: usize,
        places: usize,
        kinds: bool,
    },
    Remove {
        pipeline: usize,
    },
    Run {
        pipeline: usize,
    },
    Go {
        pipeline: usize,
        state: usize,
    },
    Register {
        id: usize,
        incarnation: usize,
        is_right: bool,
        is_worker: bool,
    },
    Beat {
        id: usize,
        incarnation: usize,
        sequence: u64,
        progress: u64,
    },
    Leave {
        id: usize,
        incarnation: usize,
    },
    Exit {
        id: usize,
        incarnation: usize,
    },
    Poll {
        id: usize,
        is_well: bool,
    },
    Check,
    /// The calls since the last one of this kind are taken back.
    Undo,
    Keep,
}

fn op() -> impl Strategy<Value = Op> {
    let (pipeline, id, who) = (0..2_usize, 0..IDS.len(), 0..3_usize);
    prop_oneof![
        3 => (pipeline.clone(), 0..3_usize, any::<bool>())
            .prop_map(|(pipeline, places, kinds)| Op::Plan { pipeline, places, kinds }),
        1 => pipeline.clone().prop_map(|pipeline| Op::Remove { pipeline }),
        1 => pipeline.clone().prop_map(|pipeline| Op::Run { pipeline }),
        2 => (pipeline, 0..5_usize).prop_map(|(pipeline, state)| Op::Go { pipeline, state }),
        8 => (id.clone(), who.clone(), prop::bool::weighted(0.8), any::<bool>()).prop_map(
            |(id, incarnation, is_right, is_worker)| {
                Op::Register { id, incarnation, is_right, is_worker }
            }
        ),
        6 => (id.clone(), who.clone(), 0..6_u64, 0..6_u64).prop_map(
            |(id, incarnation, sequence, progress)| {
                Op::Beat { id, incarnation, sequence, progress }
            }
        ),
        2 => (id.clone(), who.clone()).prop_map(|(id, incarnation)| Op::Leave { id, incarnation }),
        2 => (id.clone(), who).prop_map(|(id, incarnation)| Op::Exit { id, incarnation }),
        3 => (id, any::<bool>()).prop_map(|(id, is_well)| Op::Poll { id, is_well }),
        4 => Just(Op::Check),
        1 => Just(Op::Undo),
        2 => Just(Op::Keep),
    ]
}

/// What is known of the past without looking into the registry.
#[derive(Default)]
struct Model {
    /// Statuses, as told by changes alone.
    told: BTreeMap<String, Status>,
    greatest_fence: u64,
    /// Who registered last in each place, as answers said.
    holders: BTreeMap<String, usize>,
}

fn secret(incarnation: usize) -> Secret {
    Secret::new(format!("incarnation-number-{incarnation}"))
}

fn plan(pipeline: usize, places: usize, kinds: bool) -> Plan {
    let id = ["a", "b"][pipeline];
    let names = [("read", Kind::Source), ("write", Kind::Sink)];
    let places = names.into_iter().take(places).map(|(name, kind)| {
        let kind = if kinds { kind } else { Kind::Processor };
        Place::new(format!("{id}:{name}"), kind, Token::new("right").digest())
    });
    Plan { id: id.to_owned(), places: places.collect(), ..Plan::default() }
}

fn registration(id: &str, incarnation: usize, is_right: bool, kind: Kind) -> Registration {
    Registration {
        id: id.to_owned(),
        kind,
        token: Secret::new(if is_right { "right" } else { "wrong" }),
        incarnation: secret(incarnation),
        address: format!("grpc://h:{}", 50_000 + incarnation),
        health_endpoint: String::new(),
        endpoints: Vec::new(),
        metadata: Metadata::default(),
        load: None,
    }
}

fn register(registry: &mut Registry, model: &mut Model, asked: Registration, who: usize, now: Now) {
    let id = asked.id.clone();
    let (is_right, kind) = (asked.token.expose() == "right", asked.kind);
    let Ok(registered) = registry.register(asked, now) else { return };
    assert!(is_right || kind == Kind::Worker, "{id} registered with a wrong token");
    if registered.created {
        assert!(registered.fence > model.greatest_fence, "fence {}", registered.fence);
        model.greatest_fence = registered.fence;
    } else {
        assert_eq!(model.holders.get(&id), Some(&who), "{id} was somebody else's");
    }
    model.holders.insert(id, who);
}

fn apply(registry: &mut Registry, model: &mut Model, op: &Op, now: Now) {
    let name = |pipeline: usize| ["a", "b"][pipeline];
    // Refusals are no defects: what they leave behind is looked at.
    match *op {
        Op::Plan { pipeline, places, kinds } => {
            drop(registry.plan(plan(pipeline, places, kinds), now));
        }
        Op::Remove { pipeline } => drop(registry.remove_pipeline(name(pipeline), now)),
        Op::Run { pipeline } => drop(registry.begin_run(name(pipeline), now)),
        Op::Go { pipeline, state } => {
            let state = PipelineState::ALL[state];
            drop(registry.set_pipeline_state(name(pipeline), state, "", now));
        }
        Op::Register { id, incarnation, is_right, is_worker } => {
            let planned = registry.component(IDS[id]).map_or(Kind::Source, |found| found.kind);
            let kind = if is_worker || id > 2 { Kind::Worker } else { planned };
            let asked = registration(IDS[id], incarnation, is_right, kind);
            register(registry, model, asked, incarnation, now);
        }
        Op::Beat { id, incarnation, sequence, progress } => {
            let beat = Beat {
                id: IDS[id].to_owned(),
                incarnation: secret(incarnation),
                sequence,
                progress,
                load: None,
            };
            if registry.beat(beat, now).is_ok() {
                assert_eq!(model.holders.get(IDS[id]), Some(&incarnation), "a foreign beat");
            }
        }
        Op::Leave { id, incarnation } => {
            if registry.deregister(IDS[id], &secret(incarnation), "", None, now).is_ok() {
                assert_eq!(model.holders.get(IDS[id]), Some(&incarnation), "not its to leave");
            }
        }
        Op::Exit { id, incarnation } => {
            drop(registry.exited(IDS[id], &secret(incarnation), "", now));
        }
        Op::Poll { id, is_well } => {
            let fence = registry.component(IDS[id]).map_or(0, |found| found.fence);
            let polled = if is_well { Polled::Well } else { Polled::Not("503".to_owned()) };
            registry.polled(IDS[id], fence, &polled, now);
        }
        Op::Check => registry.check(now),
        Op::Undo | Op::Keep => {}
    }
}

/// All that has to be true of a registry by itself, and of what it told.
fn check(registry: &mut Registry, model: &mut Model) {
    for change in registry.take_changes() {
        let (id, status) = (&change.component.id, change.component.status);
        assert_eq!(model.told.get(id).copied(), change.before, "{id} was told as something else");
        match change.removed {
            true => drop(model.told.remove(id)),
            false => drop(model.told.insert(id.clone(), status)),
        }
    }
    let there: BTreeMap<String, Status> =
        registry.components.iter().map(|(id, found)| (id.clone(), found.status)).collect();
    assert_eq!(model.told, there, "who reads all changes knows all there is");
    let components: usize = registry.components.values().map(|found| found.weight()).sum();
    let pipelines: usize = registry.pipelines.values().map(|found| found.weight()).sum();
    assert_eq!(registry.bytes, components + pipelines);
    for (id, component) in &registry.components {
        assert_eq!(registry.places.contains_key(id), component.kind != Kind::Worker, "{id}");
        assert_eq!(component.status == Status::Expected, component.fence == 0, "{component:?}");
    }
    let places = registry.pipelines.values().flat_map(|found| &found.plan.places);
    let mut count = 0;
    for place in places {
        count += 1;
        assert_eq!(registry.components[&place.id].kind, place.kind);
    }
    assert_eq!(registry.places.len(), count);
}

type All = (BTreeMap<String, Arc<Component>>, BTreeMap<String, Arc<Pipeline>>);

/// What the disk would have: beats are not of it.
fn durable(registry: &Registry) -> All {
    let plain = |(id, found): (&String, &Arc<Component>)| {
        let mut found = Component::clone(found);
        (found.progress, found.last_heartbeat, found.load) = (0, now().wall, None);
        found.held = Held { incarnation: found.held.incarnation, ..Held::nobody(now()) };
        (id.clone(), Arc::new(found))
    };
    (registry.components.iter().map(plain).collect(), registry.pipelines.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_holds_holds_after_any_calls(ops in prop::collection::vec((op(), 0..20_u64), 1..80)) {
        let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 1);
        let mut model = Model::default();
        let mut now = now();
        let mut touched = Touched::default();
        let (mut kept, mut holders) = (durable(&registry), BTreeMap::new());
        for (op, seconds) in ops {
            now = now.plus(Duration::from_secs(seconds));
            apply(&mut registry, &mut model, &op, now);
            check(&mut registry, &mut model);
            touched.extend(registry.take_touched());
            match op {
                Op::Undo => {
                    registry.undo(std::mem::take(&mut touched));
                    assert_eq!(durable(&registry), kept);
                    let there = registry.components.iter();
                    model.told = there.map(|(id, found)| (id.clone(), found.status)).collect();
                    model.holders = BTreeMap::clone(&holders);
                    check(&mut registry, &mut model);
                }
                Op::Keep => {
                    touched = Touched::default();
                    (kept, holders) = (durable(&registry), model.holders.clone());
                }
                _ => {}
            }
        }
    }
}
