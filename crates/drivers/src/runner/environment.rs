//! The variables of an instance: texts, and references that are looked up when it starts.

use sheaf_flight::Secret;
use sheaf_pipeline::spec::{Component, Reference, Text};

use crate::lookup::LookUp;

/// Looks everything up.
///
/// # Errors
/// A text that names the variable, what is wrong and what to do.
pub(super) async fn resolve(
    component: &Component,
    driver: &str,
    look_up: &LookUp,
) -> Result<Vec<(String, Secret)>, String> {
    let mut all = Vec::with_capacity(component.environment.len());
    for (name, text) in &component.environment {
        let value = match text {
            Text::Plain(text) => Ok(Secret::new(text.as_str())),
            // The platform puts them there itself.
            Text::Reference(Reference::KubernetesSecret(_)) if driver == "kubernetes" => continue,
            Text::Reference(reference) => look_up.value(reference).await,
        };
        let value = value.map_err(|why| format!("environment.{name}: {why}"))?;
        if value.expose().contains('\0') {
            return Err(format!("environment.{name}: the value has a zero byte in it"));
        }
        all.push((name.clone(), value));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sheaf_retry::SystemClock;

    use super::*;

    async fn resolved(driver: &str, environment: serde_json::Value) -> Result<Vec<String>, String> {
        let text = serde_json::json!({"id": "a", "kind": "stdout", "environment": environment});
        let component: Component = serde_json::from_value(text).unwrap();
        let own = BTreeMap::from([("HERE".to_owned(), "from here".to_owned())]);
        let look_up = LookUp::new(own, SystemClock::shared());
        let found = resolve(&component, driver, &look_up).await?;
        Ok(found.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect())
    }

    #[tokio::test]
    async fn texts_are_as_they_are_and_references_are_looked_up() {
        let all = serde_json::json!({"A": "plain", "B": {"env": "HERE"}});
        assert_eq!(resolved("process", all).await.unwrap(), ["A=plain", "B=from here"]);
        let why = resolved("process", serde_json::json!({"A": {"env": "NOT_HERE"}})).await;
        assert!(why.unwrap_err().starts_with("environment.A: the variable NOT_HERE is not set"));
        let zero = serde_json::json!({"A": {"command": ["printf", "a\\0b"]}});
        assert!(resolved("process", zero).await.unwrap_err().contains("a zero byte"));
    }

    #[tokio::test]
    async fn what_a_cluster_has_it_gives_itself() {
        let key = serde_json::json!({"A": {"kubernetesSecret": {"name": "n", "key": "k"}}});
        assert_eq!(resolved("kubernetes", key.clone()).await.unwrap(), [""; 0]);
        assert!(resolved("docker", key).await.unwrap_err().contains("--driver kubernetes"));
    }
}
