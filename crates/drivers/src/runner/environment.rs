//! The variables of an instance: texts, and references that are looked up when it starts.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_pipeline::spec::{Component, Reference, Text};
use sheaf_retry::SharedClock;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Bytes of a value.
const MAX_BYTES: u64 = 64 << 10;
/// How long a program may take that prints one.
const TIME: Duration = Duration::from_secs(30);

/// Looks everything up.
///
/// What is read is never part of a text, not even of one about what went wrong.
///
/// # Errors
/// A text that names the variable, what is wrong and what to do.
pub(super) async fn resolve(
    component: &Component,
    driver: &str,
    own: &BTreeMap<String, String>,
    clock: &SharedClock,
) -> Result<Vec<(String, Secret)>, String> {
    let mut all = Vec::with_capacity(component.environment.len());
    for (name, text) in &component.environment {
        let value = match text {
            Text::Plain(text) => Ok(text.clone()),
            // The platform puts them there itself.
            Text::Reference(Reference::KubernetesSecret(_)) if driver == "kubernetes" => continue,
            Text::Reference(reference) => value(reference, own, clock).await,
        };
        let value = value.map_err(|why| format!("environment.{name}: {why}"))?;
        if value.contains('\0') {
            return Err(format!("environment.{name}: the value has a zero byte in it"));
        }
        all.push((name.clone(), Secret::new(value)));
    }
    Ok(all)
}

async fn value(
    reference: &Reference,
    own: &BTreeMap<String, String>,
    clock: &SharedClock,
) -> Result<String, String> {
    match reference {
        Reference::Env(name) => own.get(name).cloned().ok_or_else(|| {
            format!("the variable {name} is not set where sheafctl runs; set it and start again")
        }),
        Reference::File(path) => file(path).await,
        Reference::Command(words) => command(words, clock).await,
        Reference::KubernetesSecret(key) => Err(format!(
            "the secret {}/{} is one of Kubernetes; run it with --driver kubernetes, or use env, file or command",
            key.name, key.key
        )),
    }
}

async fn file(path: &str) -> Result<String, String> {
    let open = tokio::fs::File::open(path).await;
    let open = open.map_err(|error| format!("{path} cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    let read = open.take(MAX_BYTES + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| format!("{path} cannot be read: {error}"))?;
    text(bytes).map_err(|why| format!("{path}: {why}"))
}

async fn command(words: &[String], clock: &SharedClock) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| format!("{program} cannot be run: {error}"))?;
    let Some(output) = child.stdout.take() else { return Err(format!("{program} has no output")) };
    let run = async {
        let mut bytes = Vec::new();
        output.take(MAX_BYTES + 1).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>((bytes, child.wait().await?))
    };
    let (bytes, status) = tokio::select! {
        ran = run => ran.map_err(|error| format!("{program}: {error}"))?,
        () = clock.sleep(TIME) => return Err(format!("{program} did not end within 30s")),
    };
    // Who is cut off at the limit ends by the closed pipe: that is not what is wrong with it.
    match status.success() || bytes.len() as u64 > MAX_BYTES {
        true => text(bytes).map_err(|why| format!("the output of {program}: {why}")),
        false => Err(format!("{program} ended with {status}; run it by hand to see why")),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("more than {MAX_BYTES} bytes, the limit"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let end = text.strip_suffix('\n').unwrap_or(&text);
    Ok(end.strip_suffix('\r').unwrap_or(end).to_owned())
}

#[cfg(test)]
mod tests {
    use sheaf_retry::SystemClock;

    use super::*;

    async fn resolved(environment: serde_json::Value) -> Result<Vec<(String, Secret)>, String> {
        let text = serde_json::json!({"id": "a", "kind": "stdout", "environment": environment});
        let component: Component = serde_json::from_value(text).unwrap();
        let own = BTreeMap::from([("HERE".to_owned(), "from here".to_owned())]);
        resolve(&component, "process", &own, &SystemClock::shared()).await
    }

    #[tokio::test]
    async fn every_reference_is_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "from a file\r\n").unwrap();
        let all = serde_json::json!({
            "A": "plain", "B": {"env": "HERE"}, "C": {"file": path},
            "D": {"command": ["printf", "from\na program\n"]},
        });
        let found = resolved(all).await.unwrap();
        let values: Vec<&str> = found.iter().map(|(_, value)| value.expose()).collect();
        assert_eq!(values, ["plain", "from here", "from a file", "from\na program"]);
        assert!(!format!("{found:?}").contains("from"));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_is_named_and_no_value_is_shown() {
        let why =
            async |reference| resolved(serde_json::json!({"A": reference})).await.unwrap_err();
        let missing = why(serde_json::json!({"env": "NOT_HERE"})).await;
        assert!(
            missing.starts_with("environment.A: the variable NOT_HERE is not set"),
            "{missing}"
        );
        let file = why(serde_json::json!({"file": "/no/such"})).await;
        assert!(file.contains("/no/such cannot be read"), "{file}");
        let program =
            why(serde_json::json!({"command": ["sh", "-c", "echo hunter2; exit 3"]})).await;
        assert!(program.contains("exit status: 3") && !program.contains("hunter2"), "{program}");
        let long = why(serde_json::json!({"command": ["head", "-c", "70000", "/dev/zero"]})).await;
        assert!(long.contains("the limit"), "{long}");
        let key = serde_json::json!({"kubernetesSecret": {"name": "n", "key": "k"}});
        assert!(why(key).await.contains("--driver kubernetes"));
    }
}
