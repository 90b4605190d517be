//! The JSON Schema of a pipeline's file: for editors, and what `check` reads.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::pipeline::{Pipeline, Role};
use super::{processor, sink, source};

/// Where the schema is to be found.
const SCHEMA_ID: &str = "https://sheaf.dev/schema/v1/pipeline.json";

/// The schema, made once.
static SCHEMA: LazyLock<Value> = LazyLock::new(build);

/// The JSON Schema (draft 2020-12) of a pipeline's file.
///
/// Keywords that begin with `x-` are for `sheafctl`; editors pass over them.
/// What goes beyond a schema, such as identifiers that do not exist, is left to
/// [`check`](crate::check::check).
pub fn json_schema() -> &'static Value {
    &SCHEMA
}

fn build() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let kinds: Vec<(Role, Vec<Value>)> =
        Role::ALL.into_iter().map(|role| (role, configurations(role, &mut generator))).collect();
    let mut root = generator.into_root_schema_for::<Pipeline>().to_value();
    root["$id"] = json!(SCHEMA_ID);
    root["title"] = json!("Sheaf pipeline");
    without_null(&mut root);
    let component = root["$defs"].as_object_mut().and_then(|all| all.remove("Component"));
    let component = component.unwrap_or_default();
    for (role, kinds) in kinds {
        let name = title(role);
        root["$defs"][name] = of_role(role, component.clone(), &kinds, &root["$defs"]);
        let section = &mut root["properties"][role.section()];
        section["items"] = json!({ "$ref": format!("#/$defs/{name}") });
    }
    root
}

fn title(role: Role) -> &'static str {
    match role {
        Role::Source => "Source",
        Role::Processor => "Processor",
        Role::Sink => "Sink",
    }
}

/// References to the configurations of a role, in the order of its kinds.
fn configurations(role: Role, generator: &mut SchemaGenerator) -> Vec<Value> {
    fn of<C: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<C>().to_value()
    }
    match role {
        Role::Source => vec![
            of::<source::KafkaSource>(generator),
            of::<source::FileSource>(generator),
            of::<source::FlightSource>(generator),
            of::<source::HttpSource>(generator),
            of::<source::AdbcSource>(generator),
            of::<source::GenerateSource>(generator),
        ],
        Role::Processor => vec![
            of::<processor::FilterProcessor>(generator),
            of::<processor::ProjectProcessor>(generator),
            of::<processor::AggregateProcessor>(generator),
            of::<processor::EnrichProcessor>(generator),
            of::<processor::ExecProcessor>(generator),
            of::<processor::MergeProcessor>(generator),
            of::<processor::SqlProcessor>(generator),
        ],
        Role::Sink => vec![
            of::<sink::FileSink>(generator),
            of::<sink::AdbcSink>(generator),
            of::<sink::KafkaSink>(generator),
            of::<sink::FlightSink>(generator),
            of::<sink::HttpSink>(generator),
            of::<sink::StdoutSink>(generator),
        ],
    }
}

/// The schema of a component with what is particular to its role.
fn of_role(role: Role, mut component: Value, configurations: &[Value], all: &Value) -> Value {
    let nothing = |why: &str| json!({ "not": {}, "description": why });
    component["title"] = json!(title(role));
    component["x-component"] = json!(role.as_str());
    let properties = &mut component["properties"];
    properties["kind"]["enum"] = json!(role.kinds());
    properties["kind"]["x-noun"] = json!(format!("kind of {role}"));
    if role == Role::Source {
        properties["inputs"] = nothing("a source reads nothing from the pipeline");
    } else {
        properties["inputs"]["x-empty"] = json!(format!("the {role} reads nothing"));
        let required = component["required"].as_array_mut();
        required.into_iter().for_each(|required| required.push(json!("inputs")));
    }
    if role != Role::Sink {
        component["properties"]["transactional"] = nothing("only a sink commits");
    }
    let kinds = role.kinds().iter().zip(configurations);
    let rules: Vec<Value> = kinds.map(|(kind, config)| rule(kind, config, all)).collect();
    component["allOf"] = Value::Array(rules);
    component
}

/// `if` a component is of this kind, `then` its configuration is of that form.
fn rule(kind: &str, config: &Value, all: &Value) -> Value {
    let name = config["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    let needed = name.is_some_and(|name| all[name]["required"].is_array());
    let mut then = json!({ "properties": { "config": config } });
    if needed {
        then["required"] = json!(["config"]);
    }
    json!({
        "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
        "then": then,
    })
}

/// Takes `null` out of the types of optional fields: who wants none leaves it out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(without_null),
        Value::Object(map) => {
            no_null_type(map);
            no_null_branch(map);
            map.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

fn no_null_type(map: &mut Map<String, Value>) {
    if map.get("default") == Some(&Value::Null) {
        map.remove("default");
    }
    let Some(Value::Array(types)) = map.get_mut("type") else { return };
    types.retain(|one| one != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        map.insert("type".to_owned(), only);
    }
}

fn no_null_branch(map: &mut Map<String, Value>) {
    let null = json!({ "type": "null" });
    let Some(Value::Array(branches)) = map.get_mut("anyOf") else { return };
    branches.retain(|branch| *branch != null);
    if branches.len() > 1 {
        return;
    }
    let only = branches.pop();
    map.remove("anyOf");
    // What the field says of itself goes before what its type says.
    for (key, value) in only.as_ref().and_then(Value::as_object).into_iter().flatten() {
        map.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::forms;

    fn visit(value: &Value, see: &mut impl FnMut(&Map<String, Value>)) {
        match value {
            Value::Array(list) => list.iter().for_each(|one| visit(one, see)),
            Value::Object(map) => {
                see(map);
                map.values().for_each(|one| visit(one, see));
            }
            _ => {}
        }
    }

    #[test]
    fn every_pattern_is_one_that_the_checker_knows() {
        let mut patterns = 0;
        visit(json_schema(), &mut |map| {
            let Some(Value::String(pattern)) = map.get("pattern") else { return };
            patterns += 1;
            let own = map.get("format").and_then(Value::as_str).unwrap_or_default();
            assert!(own.starts_with("sheaf-") || forms::form(pattern).is_some(), "{pattern}");
        });
        assert!(patterns > 20, "{patterns}");
    }

    #[test]
    fn no_field_takes_null_and_every_object_is_closed() {
        visit(json_schema(), &mut |map| {
            assert_ne!(map.get("type"), Some(&json!("null")), "{map:?}");
            assert_ne!(map.get("default"), Some(&Value::Null), "{map:?}");
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                assert_eq!(map.get("additionalProperties"), Some(&json!(false)), "{map:?}");
            }
        });
    }

    #[test]
    fn every_field_is_explained() {
        visit(json_schema(), &mut |map| {
            let Some(Value::Object(fields)) = map.get("properties") else { return };
            if map.get("type") != Some(&json!("object")) {
                return;
            }
            for (name, field) in fields {
                let variant = map.get("description").is_some() && fields.len() == 1;
                assert!(variant || field["description"].is_string(), "{name}: {field}");
            }
        });
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let root = json_schema();
        visit(root, &mut |map| {
            let Some(Value::String(path)) = map.get("$ref") else { return };
            assert!(root.pointer(path.trim_start_matches('#')).is_some(), "{path}");
        });
    }
}
