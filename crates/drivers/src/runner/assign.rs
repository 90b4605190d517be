//! From a plan to places in the registry and to what each instance is told.

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_dataflow::Assignment;
use sheaf_pipeline::health::{RestartMode, RestartPolicy};
use sheaf_pipeline::plan::{Instance, Plan, PlannedComponent};
use sheaf_pipeline::registry::{self, Connections, Kind, Place, PlaceHealth, Token};
use sheaf_pipeline::spec::{self, Role};
use sheaf_retry::{Jitter, Timestamp};
use twox_hash::XxHash3_128;

use super::event::Planned;
use super::node::StoreRecord;
use super::secrets::{Folder, RunSecrets};
use super::{Components, Error, Options};
use crate::planned::{self, place, readers, senders};

/// Where instances serve and whom they call.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) host: String,
    pub(super) control: String,
}

fn kind(role: Role) -> Kind {
    match role {
        Role::Source => Kind::Source,
        Role::Processor => Kind::Processor,
        Role::Sink => Kind::Sink,
    }
}

fn instances(plan: &Plan) -> impl Iterator<Item = (&PlannedComponent, &Instance)> {
    plan.components.iter().flat_map(|one| one.instances.iter().map(move |found| (one, found)))
}

/// A token that nobody else has.
pub(super) fn token(now: Timestamp) -> String {
    Token::generate(now.as_millis()).secret().expose().to_owned()
}

/// A number that no other pass has, of this pipeline or of another one: stores of durable edges
/// may be shared. Programs in any language read it as a number.
fn another_pass(now: Timestamp) -> u64 {
    (Jitter::seed_of(&token(now)) >> 12) | 1
}

/// Tokens for a run, one for each place.
pub(super) fn secrets(
    plan: &Plan,
    file: &str,
    before: Option<RunSecrets>,
    now: Timestamp,
) -> RunSecrets {
    let token = || token(now);
    // What was broken off goes on.
    let pass = before.as_ref().filter(|before| !before.complete && before.pass != 0);
    let pass = pass.map_or_else(|| another_pass(now), |before| before.pass);
    RunSecrets {
        pass,
        file: file.to_owned(),
        tokens: places(plan).map(|place| (place, token())).collect(),
        data_token: token(),
        attempts: before.map(|before| before.attempts).unwrap_or_default(),
        ..RunSecrets::default()
    }
}

/// What the registry is to know of the plan.
pub(super) fn registry_plan(plan: &Plan, text: &str, secrets: &RunSecrets) -> registry::Plan {
    let places = instances(plan).map(|(component, instance)| {
        let id = place(&plan.pipeline, &instance.id);
        let token = secrets.tokens.get(&id).cloned().unwrap_or_default();
        let health = &component.definition.health;
        Place {
            component: component.id.clone(),
            replica: instance.index,
            connections: connections(plan, component, instance.index),
            health: PlaceHealth {
                every: Some(health.interval.0),
                unhealthy_after: Some(health.timeout.0),
                path: health.path.clone(),
            },
            ..Place::new(id, kind(component.role), Token::new(token).digest())
        }
    });
    registry::Plan {
        id: plan.pipeline.clone(),
        name: plan.pipeline.clone(),
        spec: text.into(),
        plan_hash: hash(plan),
        places: places.collect(),
    }
}

/// The same for the same plan: components, replicas and edges.
pub(super) fn hash(plan: &Plan) -> String {
    let text = serde_json::to_string(plan).unwrap_or_default();
    format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()))
}

fn connections(plan: &Plan, component: &PlannedComponent, index: u32) -> Connections {
    let upstream = plan.senders_of(&component.id);
    let upstream = upstream.flat_map(|edge| senders(plan, edge, index));
    let downstream = plan.readers_of(&component.id);
    let downstream = downstream.flat_map(|edge| readers(plan, edge, index));
    Connections {
        upstream: upstream.map(|peer| peer.place).collect(),
        downstream: downstream.map(|peer| peer.place).collect(),
    }
}

/// What each instance is told, by its place.
pub(super) fn assignments(
    plan: &Plan,
    secrets: &RunSecrets,
    folder: &Folder,
    addresses: &Addresses,
) -> BTreeMap<String, Assignment> {
    let graph = plan.graph();
    let all = instances(plan).map(|(component, instance)| {
        let id = place(&plan.pipeline, &instance.id);
        let host = &addresses.host;
        let assignment = Assignment {
            run: secrets.run,
            pass: secrets.pass,
            graph,
            listen: format!("{host}:{}", instance.port),
            health_listen: format!("{host}:{}", instance.health_port),
            control: addresses.control.clone(),
            token: secrets.tokens.get(&id).cloned().unwrap_or_default(),
            data_token: secrets.data_token.clone(),
            state_dir: folder.state_of(&instance.id),
            durable: secrets.store.as_ref().map(StoreRecord::assignment),
            ..planned::assignment(plan, component, instance.index)
        };
        (id, assignment)
    });
    all.collect()
}

/// As [`assignments`], with folders for what instances keep, which are there.
pub(super) fn told(
    plan: &Plan,
    secrets: &RunSecrets,
    folder: &Folder,
    options: &Options,
) -> Result<BTreeMap<String, Assignment>, Error> {
    let failed = |error| Error::folder(&options.folder, error);
    let addresses = Addresses { host: options.host.clone(), control: options.control.clone() };
    let mut assignments = assignments(plan, secrets, folder, &addresses);
    for assignment in assignments.values_mut() {
        folder.create_state(&assignment.instance).map_err(failed)?;
        assignment.state_dir = std::path::absolute(&assignment.state_dir).map_err(failed)?;
        if let Some(authority) = &options.authority {
            let issued = authority.component(&assignment.place, assignment.run);
            let folder = authority.folder().to_owned();
            assignment.tls = Some(issued.map_err(|source| Error::Folder { folder, source })?);
        }
    }
    Ok(assignments)
}

/// The places of a plan.
pub(super) fn places(plan: &Plan) -> impl Iterator<Item = String> {
    instances(plan).map(|(_, instance)| place(&plan.pipeline, &instance.id))
}

/// Components of a plan, and a place of each of their instances.
pub(super) fn components(plan: &Plan) -> Components {
    let all = instances(plan)
        .map(|(component, instance)| (component.id.clone(), place(&plan.pipeline, &instance.id)));
    std::sync::Arc::new(all.collect())
}

/// The instance of a place, as the plan calls it.
pub(super) fn instance(place: &str) -> &str {
    place.split_once(':').map_or(place, |(_, instance)| instance)
}

/// What the model has to know of each instance.
pub(super) fn planned(plan: &Plan, secrets: &RunSecrets) -> Vec<Planned> {
    let all = instances(plan).map(|(component, instance)| {
        let place = place(&plan.pipeline, &instance.id);
        let direct = plan.senders_of(&component.id).filter(|edge| !edge.durable);
        let direct = direct.flat_map(|edge| senders(plan, edge, instance.index));
        Planned {
            direct: direct.map(|peer| peer.place).collect(),
            attempt: secrets.attempts.get(&place).copied().unwrap_or(0),
            place,
            component: component.id.clone(),
            drain: component.definition.drain.0,
            policy: policy(&component.definition.restart),
            depth: component.depth,
            senders: connections(plan, component, instance.index).upstream,
        }
    });
    all.collect()
}

fn policy(restart: &spec::Restart) -> RestartPolicy {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    RestartPolicy {
        mode: match restart.policy {
            spec::RestartPolicy::Always => RestartMode::Always,
            spec::RestartPolicy::OnFailure => RestartMode::OnFailure,
            spec::RestartPolicy::Never => RestartMode::Never,
        },
        base_ms: millis(restart.backoff.0),
        cap_ms: millis(restart.max_backoff.0),
        most: restart.max_restarts,
        window: restart.window.0,
        // A window without any starts afresh.
        calm_after: restart.window.0,
        ..RestartPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources:
  - {id: a, command: [x], replicas: 2, health: {interval: 50ms, timeout: 200ms}, port: 7000}
sinks:
  - {id: b, kind: stdout, replicas: 2, inputs: [a], restart: {policy: never, backoff: 5ms}}
  - {id: c, kind: stdout, inputs: [{from: a, partitioning: round-robin}]}
";

    fn plan() -> Plan {
        Plan::new(&sheaf_pipeline::check::check("p.yaml", TEXT).unwrap().pipeline)
    }

    #[test]
    fn places_have_tokens_of_their_own_and_the_health_of_the_file() {
        let plan = plan();
        let secrets = secrets(&plan, "p.yaml", None, Timestamp::EPOCH);
        assert_eq!(secrets.tokens.len(), 5);
        let registered = registry_plan(&plan, TEXT, &secrets);
        for place in &registered.places {
            let own = Token::new(secrets.tokens[&place.id].clone());
            assert!(place.token.is_of(own.secret()), "{}", place.id);
        }
        let first = &registered.places[0];
        assert_eq!((&*first.id, first.kind), ("p:a", Kind::Source));
        assert_eq!(first.health.unhealthy_after, Some(Duration::from_millis(200)));
        assert_eq!(first.connections.downstream, ["p:b", "p:c"]);
        let all: std::collections::BTreeSet<_> = secrets.tokens.values().collect();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn each_instance_is_told_the_ends_of_its_own_streams() {
        let plan = plan();
        let secrets = secrets(&plan, "p.yaml", None, Timestamp::EPOCH);
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::take(root.path(), "p").unwrap().unwrap();
        let addresses =
            Addresses { host: "127.0.0.1".to_owned(), control: "grpc://127.0.0.1:1".to_owned() };
        let all = assignments(&plan, &secrets, &folder, &addresses);
        let second = &all["p:a.1"];
        assert_eq!((&*second.listen, &*second.health_listen), ("127.0.0.1:7001", "127.0.0.1:0"));
        let to: Vec<Vec<&str>> = second
            .outputs
            .iter()
            .map(|output| output.to.iter().map(|peer| &*peer.place).collect())
            .collect();
        assert_eq!(to, [vec!["p:b.1"], vec!["p:c"]], "forward, and from everybody to one");
        let from: Vec<(&str, u32)> =
            all["p:c"].inputs[0].from.iter().map(|peer| (&*peer.place, peer.index)).collect();
        assert_eq!(from, [("p:a", 0), ("p:a.1", 1)]);
        assert_eq!(second.data_token, all["p:c"].data_token);
    }

    #[test]
    fn the_policy_is_that_of_the_file() {
        let plan = plan();
        let found = planned(&plan, &RunSecrets::default());
        let policy = |place: &str| &found.iter().find(|one| one.place == place).unwrap().policy;
        assert_eq!(policy("p:b").mode, RestartMode::Never);
        assert_eq!((policy("p:b").base_ms, policy("p:b").most), (5, 10));
        assert_eq!((policy("p:a").cap_ms, policy("p:a").window.as_secs()), (60_000, 600));
    }
}
