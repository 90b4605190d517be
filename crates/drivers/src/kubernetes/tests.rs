//! Tests of what is rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use sheaf_dataflow::{Assignment, DurableAssignment};
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;

use super::*;
use crate::Tokens;

struct Case {
    rendered: Rendered,
    tokens: Tokens,
}

fn case(text: &str, settings: &Settings) -> Result<Case, RenderError> {
    let pipeline = check("case.yaml", text).unwrap().pipeline;
    let plan = Plan::new(&pipeline);
    let tokens = Tokens::generate(&plan, 7);
    let rendered = render(&pipeline, &plan, text, settings, &tokens)?;
    let again = render(&pipeline, &plan, text, settings, &tokens)?;
    assert_eq!(rendered.to_yaml()?, again.to_yaml()?, "the order is the same each time");
    Ok(Case { rendered, tokens })
}

fn example(name: &str) -> Case {
    of_file("../../examples/pipelines", name)
}

/// One with components of one's own, and values that are elsewhere.
fn own_components() -> Case {
    of_file("tests", "own-components.yaml")
}

fn of_file(folder: &str, name: &str) -> Case {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    let text = std::fs::read_to_string(path).unwrap();
    case(&text, &Settings { durable: Some(store()), ..Settings::default() }).unwrap()
}

fn store() -> DurableAssignment {
    let address = "grpc://store.shop.svc:50999".to_owned();
    DurableAssignment {
        store: address.clone(),
        coordinator: address,
        token: Some("hunter2".to_owned()),
        insecure: true,
        retention_ms: 60_000,
    }
}

fn examples() -> Vec<Case> {
    let names = ["diamond", "durable", "fan-in", "fan-out", "kafka-to-duckdb", "linear"];
    let names = names.iter().chain(&["python"]);
    let cases = names.map(|name| example(&format!("{name}.yaml")));
    cases.chain([own_components()]).collect()
}

impl Case {
    fn object(&self, kind: &str, name: &str) -> &Object {
        let mut objects = self.rendered.objects.iter();
        let found = objects.find(|object| (object.kind(), object.name()) == (kind, name));
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    fn policy(&self, name: &str) -> &NetworkPolicySpec {
        let Object::NetworkPolicy(policy) = self.object("NetworkPolicy", name) else { panic!() };
        policy.spec.as_ref().unwrap()
    }

    fn secret(&self, name: &str) -> &BTreeMap<String, String> {
        let Object::Secret(secret) = self.object("Secret", name) else { panic!() };
        secret.string_data.as_ref().unwrap()
    }

    fn assignment(&self, name: &str, index: u32) -> Assignment {
        serde_json::from_str(&self.secret(name)[&format!("{index}.json")]).unwrap()
    }
}

fn pod(object: &Object) -> Option<&PodSpec> {
    let template = match object {
        Object::Deployment(one) => &one.spec.as_ref()?.template,
        Object::StatefulSet(one) => &one.spec.as_ref()?.template,
        _ => return None,
    };
    template.spec.as_ref()
}

/// Reads a document as the type of its kind, where nothing may be left over.
fn read_back(object: &Object, yaml: &str) -> Object {
    fn typed<T: DeserializeOwned + Into<Object>>(yaml: &str) -> Object {
        serde_saphyr::from_str::<T>(yaml).unwrap().into()
    }
    match object {
        Object::ServiceAccount(_) => typed::<k8s_openapi::api::core::v1::ServiceAccount>(yaml),
        Object::ConfigMap(_) => typed::<k8s_openapi::api::core::v1::ConfigMap>(yaml),
        Object::Secret(_) => typed::<k8s_openapi::api::core::v1::Secret>(yaml),
        Object::PersistentVolumeClaim(_) => {
            typed::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(yaml)
        }
        Object::Service(_) => typed::<k8s_openapi::api::core::v1::Service>(yaml),
        Object::Deployment(_) => typed::<k8s_openapi::api::apps::v1::Deployment>(yaml),
        Object::StatefulSet(_) => typed::<k8s_openapi::api::apps::v1::StatefulSet>(yaml),
        Object::Pod(_) => typed::<k8s_openapi::api::core::v1::Pod>(yaml),
        Object::NetworkPolicy(_) => typed::<k8s_openapi::api::networking::v1::NetworkPolicy>(yaml),
    }
}

#[test]
fn every_example_is_rendered_and_read_back_as_it_was() {
    for case in examples() {
        for object in &case.rendered.objects {
            let yaml = object.to_yaml().unwrap();
            assert!(yaml.starts_with("apiVersion: "), "{yaml}");
            assert_eq!(&read_back(object, &yaml), object, "{yaml}");
        }
    }
}

#[test]
fn names_are_unique_and_everything_that_a_pod_mounts_is_there() {
    for case in examples() {
        let mut names = BTreeSet::new();
        for object in &case.rendered.objects {
            assert!(names.insert((object.kind(), object.name())), "{}", object.name());
            let Some(pod) = pod(object) else { continue };
            let claimed = matches!(object, Object::StatefulSet(set)
                if set.spec.as_ref().unwrap().volume_claim_templates.is_some());
            let mut volumes: BTreeSet<&str> =
                pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
            if claimed {
                assert!(volumes.insert("data"), "the claim's volume is not there twice");
            }
            let mounts = pod.containers[0].volume_mounts.iter().flatten();
            let mounted: BTreeSet<&str> = mounts.map(|mount| mount.name.as_str()).collect();
            assert_eq!(volumes, mounted, "{}", object.name());
            for volume in pod.volumes.iter().flatten() {
                let Some(secret) = volume.secret.as_ref().and_then(|s| s.secret_name.as_deref())
                else {
                    continue;
                };
                let ours = names.contains(&("Secret", secret));
                let wanted = case.rendered.wanted.iter().any(|wanted| wanted.secret == secret);
                assert!(ours || wanted || secret == "prices", "{secret}");
            }
        }
    }
}

#[test]
fn tokens_are_in_secrets_and_nowhere_else() {
    for case in examples() {
        let tokens: serde_json::Value =
            serde_json::from_str(case.tokens.to_json().expose()).unwrap();
        let places = tokens["places"].as_object().unwrap();
        let mut tokens: Vec<&str> = places.values().map(|token| token.as_str().unwrap()).collect();
        tokens.push(case.tokens.data());
        assert!(tokens.iter().all(|token| token.len() > 30));
        for object in &case.rendered.objects {
            let yaml = object.to_yaml().unwrap();
            let found = tokens.iter().any(|token| yaml.contains(token));
            assert_eq!(found, object.kind() == "Secret", "{yaml}");
        }
    }
}

#[test]
fn what_keeps_nothing_is_a_deployment_and_what_keeps_something_has_a_volume() {
    let linear = example("kafka-to-duckdb.yaml");
    assert!(matches!(linear.object("Deployment", "kafka-to-duckdb--paid"), Object::Deployment(_)));
    for keeps in ["orders", "warehouse", "archive"] {
        let name = format!("kafka-to-duckdb--{keeps}");
        let Object::StatefulSet(set) = linear.object("StatefulSet", &name) else { panic!() };
        let claims = set.spec.as_ref().unwrap().volume_claim_templates.as_ref().unwrap();
        let storage = claims[0].spec.as_ref().unwrap().resources.as_ref().unwrap();
        assert_eq!(storage.requests.as_ref().unwrap()["storage"].0, "1000000000", "{keeps}");
    }
    // Three instances have three places, and only a stateful set tells pods apart.
    let diamond = example("diamond.yaml");
    let Object::StatefulSet(set) = diamond.object("StatefulSet", "diamond--plain") else {
        panic!()
    };
    let spec = set.spec.as_ref().unwrap();
    assert_eq!((spec.replicas, &spec.volume_claim_templates), (Some(3), &None));
}

const SPILL: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources: [{id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}]
processors: [{id: f, kind: filter, inputs: [a], config: {where: n > 0}}]
sinks:
  - {id: b, kind: stdout, inputs: [{from: f, policy: spill, spillLimit: 3GB}]}
  - {id: c, kind: stdout, inputs: [{from: f, policy: spill, spillLimit: 2GB}]}
";

#[test]
fn a_volume_has_room_for_all_that_may_be_spilled() {
    let case = case(SPILL, &Settings::default()).unwrap();
    let yaml = case.object("StatefulSet", "p--f").to_yaml().unwrap();
    assert!(yaml.contains("storage: \"6000000000\""), "{yaml}");
    assert!(matches!(case.object("Deployment", "p--b"), Object::Deployment(_)));
}

#[test]
fn each_instance_is_told_its_place_and_where_it_is_reached() {
    let diamond = example("diamond.yaml");
    let second = diamond.assignment("diamond--plain", 2);
    assert_eq!((second.place.as_str(), second.index, second.replicas), ("diamond:plain.2", 2, 3));
    let host = "diamond--plain-2.diamond--plain.default.svc";
    assert_eq!(second.advertise_host.as_deref(), Some(host));
    assert_eq!(second.control, "grpc://diamond-control.default.svc:8080");
    assert_eq!(second.inputs[0].from[0].place, "diamond:payments");
    assert_eq!(second.outputs[0].to[0].place, "diamond:combined");
    assert_eq!(second.token, diamond.tokens.place("diamond:plain.2"));
    assert!(!second.token.is_empty() && second.token != diamond.tokens.place("diamond:plain.1"));
    let sender = diamond.assignment("diamond--payments", 0);
    let readers = sender.outputs.iter().find(|output| output.edge.to == "plain").unwrap();
    let places: Vec<&str> = readers.to.iter().map(|peer| peer.place.as_str()).collect();
    assert_eq!(places, ["diamond:plain", "diamond:plain.1", "diamond:plain.2"]);
    let yaml = diamond.object("StatefulSet", "diamond--plain").to_yaml().unwrap();
    assert!(yaml.contains("assignment/$(SHEAF_INSTANCE_INDEX).json"), "{yaml}");
    assert!(yaml.contains("metadata.labels['apps.kubernetes.io/pod-index']"), "{yaml}");
}

#[test]
fn references_become_entries_of_secrets_and_files_in_pods() {
    let own = own_components();
    let ticker = own.object("StatefulSet", "own-components--ticker").to_yaml().unwrap();
    assert!(ticker.contains("image: registry.example.org/ticker:1.4"), "{ticker}");
    assert!(ticker.contains("secretKeyRef:"), "{ticker}");
    let table = own.assignment("own-components--table", 0);
    let uri = &table.definition.config["database"]["uri"];
    assert_eq!(uri["file"], "/run/sheaf/references/prices/uri");
    let wanted: Vec<(&str, &str)> =
        own.rendered.wanted.iter().map(|one| (one.secret.as_str(), one.key.as_str())).collect();
    assert_eq!(wanted.len(), 2, "{wanted:?}");
    assert!(wanted.contains(&("own-components-references", "TICKER_TOKEN")), "{wanted:?}");
    let alarm = own.assignment("own-components--alarm", 0);
    let file = alarm.definition.config["headers"]["Authorization"]["file"].as_str().unwrap();
    assert!(file.starts_with("/run/sheaf/references/own-components-references/file-"), "{file}");
    assert!(wanted.iter().any(|(_, key)| file.ends_with(key)), "{file} {wanted:?}");
}

#[test]
fn only_edges_and_the_control_plane_get_through() {
    let diamond = example("diamond.yaml");
    let policy = serde_json::to_value(diamond.policy("diamond--suspicious")).unwrap();
    assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    let who = |rule: &serde_json::Value, side: &str| {
        let labels = &rule[side][0]["podSelector"]["matchLabels"];
        let who = labels["sheaf.dev/component"].as_str();
        who.unwrap_or(if labels["sheaf.dev/control-plane"] == "true" { "control" } else { "?" })
            .to_owned()
    };
    let rules = |list: &str, side: &str| -> Vec<(String, u64)> {
        let rules = policy[list].as_array().unwrap().iter().filter(|rule| rule[side].is_array());
        rules.map(|rule| (who(rule, side), rule["ports"][0]["port"].as_u64().unwrap())).collect()
    };
    let pair = |who: &str, port| (who.to_owned(), port);
    assert_eq!(rules("ingress", "from"), [pair("combined", 50051), pair("control", 8088)]);
    assert_eq!(rules("egress", "to"), [pair("payments", 50051), pair("control", 8080)]);
    let open = policy["egress"].as_array().unwrap().iter().filter(|rule| !rule["to"].is_array());
    let open: Vec<_> = open.map(|rule| rule["ports"][0]["port"].as_u64().unwrap()).collect();
    assert_eq!(open, [53], "only servers of names are asked wherever they are");

    let kafka = example("kafka-to-duckdb.yaml");
    let blocks = |name: &str| {
        let egress = kafka.policy(name).egress.as_ref().unwrap();
        let peers = egress.iter().flat_map(|rule| rule.to.iter().flatten());
        peers.filter(|peer| peer.ip_block.is_some()).count()
    };
    assert_eq!((blocks("kafka-to-duckdb--orders"), blocks("kafka-to-duckdb--paid")), (2, 0));
}

#[test]
fn durable_edges_are_told_of_their_store_and_refused_without_one() {
    let text = |of_sink: bool| {
        format!(
            "{{apiVersion: sheaf.dev/v1, kind: Pipeline, metadata: {{name: p}}, \
             sources: [{{id: a, kind: generate, config: {{columns: [{{name: n, values: sequence}}]}}}}], \
             processors: [{{id: f, kind: filter, inputs: [{{from: a, durable: true}}], \
             config: {{where: n > 0}}}}], \
             sinks: [{{id: b, kind: file, inputs: [{{from: f, durable: {of_sink}}}], \
             config: {{path: out, format: csv}}}}]}}"
        )
    };
    let error = case(&text(true), &Settings::default()).err().unwrap().to_string();
    assert!(error.contains("edge a:f is durable") && error.contains("--durable-store"), "{error}");
    let settings = Settings { durable: Some(store()), ..Settings::default() };
    let one = case(&text(false), &settings).unwrap();
    for (name, expected) in [("p--a", true), ("p--f", true), ("p--b", false)] {
        let told = one.assignment(name, 0).durable;
        assert_eq!(told, expected.then(store), "{name}");
        let egress = one.policy(name).egress.as_ref().unwrap();
        let ports = egress.iter().flat_map(|rule| rule.ports.iter().flatten());
        let leads = ports.filter(|one| one.port == Some(IntOrString::Int(50_999))).count();
        assert_eq!(leads, usize::from(expected), "{name}");
    }
    let control = one.object("Deployment", "p-control").to_yaml().unwrap();
    assert!(control.contains("--durable-store=grpc://store.shop.svc:50999"), "{control}");
    assert!(!control.contains("hunter2"), "it starts nothing, and needs no token");
}

#[test]
fn what_has_come_to_its_end_stays_there_until_another_pass_is_asked_for() {
    let text = |drain: &str| {
        format!(
            "{{apiVersion: sheaf.dev/v1, kind: Pipeline, metadata: {{name: p}}, \
             sources: [{{id: a, kind: generate, config: {{columns: [{{name: n, values: sequence}}]}}}}], \
             sinks: [{{id: b, kind: file, inputs: [a], drain: {drain}, \
             config: {{path: out, format: csv}}}}]}}"
        )
    };
    let told = |drain: &str, pass: u64| {
        let case = case(&text(drain), &Settings { pass, ..Settings::default() }).unwrap();
        let pods = case.object("StatefulSet", "p--a").to_yaml().unwrap();
        (case.assignment("p--a", 0).pass, pods)
    };
    let first = told("5s", 1);
    assert_eq!(first, told("6s", 1), "another drain of another component");
    let second = told("5s", 2);
    assert_eq!((first.0, second.0), (1, 2));
    assert_ne!(first.1, second.1, "its pods are started anew");
}

#[test]
fn pods_have_probes_resources_and_time_to_drain() {
    let kafka = example("kafka-to-duckdb.yaml");
    let pod = pod(kafka.object("Deployment", "kafka-to-duckdb--paid")).unwrap();
    assert_eq!(pod.termination_grace_period_seconds, Some(30));
    let container = &pod.containers[0];
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("500m", "256000000"));
    for probe in [&container.liveness_probe, &container.readiness_probe, &container.startup_probe] {
        let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        assert_eq!(get.path.as_deref(), Some("/health"));
    }
    assert_eq!(container.liveness_probe.as_ref().unwrap().period_seconds, Some(10));
}

#[test]
fn what_no_cluster_takes_is_told() {
    let own = SPILL.replace(
        "kind: stdout, inputs: [{from: f, policy: spill, spillLimit: 3GB}]",
        "command: [./b], inputs: [f]",
    );
    let error = case(&own, &Settings::default()).err().unwrap();
    assert_eq!(error, RenderError::NoImage { component: "b".to_owned() });
    let settings = Settings { namespace: "No Such".to_owned(), ..Settings::default() };
    let error = case(SPILL, &settings).err().unwrap().to_string();
    assert!(error.starts_with("\"No Such\" cannot be a namespace: "), "{error}");
    let settings = Settings { component_image: " ".to_owned(), ..Settings::default() };
    assert!(matches!(case(SPILL, &settings).err(), Some(RenderError::Image { .. })));
}

#[test]
fn texts_that_yaml_reads_as_something_else_are_quoted() {
    let text = SPILL.replace(
        "{id: b, kind: stdout,",
        "{id: b, kind: stdout, environment: {A: 'yes', B: '22:30', C: '1e3', D: 'a$(HOME)'},",
    );
    let case = case(&text, &Settings::default()).unwrap();
    let yaml = case.object("Deployment", "p--b").to_yaml().unwrap();
    for quoted in ["\"yes\"", "\"22:30\"", "\"1e3\""] {
        let single = quoted.replace('"', "'");
        assert!(yaml.contains(quoted) || yaml.contains(&single), "{quoted}: {yaml}");
    }
    assert!(yaml.contains("a$$(HOME)"), "it is no other variable: {yaml}");
}
