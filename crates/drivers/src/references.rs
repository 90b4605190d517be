//! References in what a component is told: where they stand, and what takes their place.
//!
//! A platform has its own way to hand a secret to a component. The driver puts each value
//! where the platform keeps such things, and the component is told that place instead.

use serde_json::{Map, Value};
use sheaf_pipeline::spec::{Component, Reference};

/// Fields of built-in kinds that hold a text or a reference to one.
const TEXTS: [&str; 6] = ["accessKeyId", "secretAccessKey", "uri", "username", "password", "token"];
/// Fields of built-in kinds whose fields do.
const MAPS_OF_TEXTS: [&str; 2] = ["headers", "options"];

/// The configuration of a component with other references in place of its own.
///
/// Of a component of one's own, every map below the first level that reads as a reference
/// is one: that is how the check of files sees it too.
///
/// # Errors
/// The first one of `exchange`.
pub(crate) fn exchanged<E>(
    component: &Component,
    mut exchange: impl FnMut(&Reference) -> Result<Reference, E>,
) -> Result<Map<String, Value>, E> {
    let own = component.kind.is_none();
    let mut config = component.config.clone();
    for (name, value) in &mut config {
        walk(name, value, own, own, &mut exchange)?;
    }
    Ok(config)
}

fn walk<E>(
    name: &str,
    value: &mut Value,
    own: bool,
    is_text: bool,
    exchange: &mut impl FnMut(&Reference) -> Result<Reference, E>,
) -> Result<(), E> {
    if (is_text || TEXTS.contains(&name))
        && let Ok(reference) = <Reference as serde::Deserialize>::deserialize(&*value)
    {
        let told = serde_json::to_value(exchange(&reference)?);
        *value = told.unwrap_or_default();
        return Ok(());
    }
    match value {
        Value::Object(fields) => {
            let texts = own || MAPS_OF_TEXTS.contains(&name);
            fields.iter_mut().try_for_each(|(name, value)| walk(name, value, own, texts, exchange))
        }
        Value::Array(items) => {
            items.iter_mut().try_for_each(|item| walk(name, item, own, own, exchange))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn component(text: Value) -> Component {
        serde_json::from_value(text).unwrap()
    }

    fn told(component: &Component) -> (Value, usize) {
        let mut seen = 0;
        let config = exchanged(component, |_| {
            seen += 1;
            Ok::<_, std::convert::Infallible>(Reference::File(format!("/told/{seen}")))
        });
        let Ok(config) = config;
        (Value::Object(config), seen)
    }

    #[test]
    fn references_of_built_in_kinds_are_found_by_their_fields_and_nothing_else_is() {
        let sink = component(json!({"id": "a", "kind": "adbc", "config": {
            "database": {"driver": "duckdb", "uri": {"env": "URI"},
                "options": {"file": {"file": "/s"}, "plain": "x"}},
            "table": "t"}}));
        let (config, seen) = told(&sink);
        assert_eq!(seen, 2);
        assert!(config["database"]["uri"]["file"].as_str().unwrap().starts_with("/told/"));
        assert_eq!(config["database"]["options"]["plain"], "x");

        let exec = component(json!({"id": "a", "kind": "exec", "config": {"command": ["a"]}}));
        assert_eq!(told(&exec), (json!({"command": ["a"]}), 0));
        let enrich = component(json!({"id": "a", "kind": "enrich", "config": {
            "reference": {"file": {"path": "x.csv"}}, "on": ["a"]}}));
        assert_eq!(told(&enrich).1, 0);
        // One option that is called as a reference is, and is none.
        let option = json!({"database": {"driver": "d", "uri": "u", "options": {"file": "x"}}});
        let sink = component(json!({"id": "a", "kind": "adbc", "config": option}));
        assert_eq!(told(&sink), (option, 0));
    }

    #[test]
    fn components_of_ones_own_may_have_references_anywhere() {
        let own = component(json!({"id": "a", "image": "x", "config": {
            "deep": [{"er": {"kubernetesSecret": {"name": "n", "key": "k"}}}], "env": "plain"}}));
        assert_eq!(told(&own), (json!({"deep": [{"er": {"file": "/told/1"}}], "env": "plain"}), 1));
    }

    #[test]
    fn a_reference_that_cannot_be_had_is_told() {
        let own = component(json!({"id": "a", "image": "x", "config": {"key": {"env": "KEY"}}}));
        assert_eq!(exchanged(&own, |_| Err("no")), Err("no"));
    }
}
