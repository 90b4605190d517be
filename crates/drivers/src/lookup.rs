//! What references mean on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::Secret;
use sheaf_pipeline::spec::Reference;
use sheaf_retry::SharedClock;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Bytes of a value.
const MAX_BYTES: u64 = 64 << 10;
/// How long a program may take that prints one.
const TIME: Duration = Duration::from_secs(30);

/// Looks up what references mean on this machine. Cheap to clone.
///
/// What is read is never part of a text, not even of one about what went wrong.
#[derive(Clone)]
pub(crate) struct LookUp {
    variables: Arc<BTreeMap<String, String>>,
    clock: SharedClock,
}

impl LookUp {
    /// `variables` are those that references may name.
    pub(crate) fn new(variables: BTreeMap<String, String>, clock: SharedClock) -> Self {
        LookUp { variables: Arc::new(variables), clock }
    }

    /// The value.
    ///
    /// # Errors
    /// A text that says what is wrong and what to do.
    pub(crate) async fn value(&self, reference: &Reference) -> Result<Secret, String> {
        let value = match reference {
            Reference::Env(name) => self.variables.get(name).cloned().ok_or_else(|| {
                format!(
                    "the variable {name} is not set where sheafctl runs; set it and start again"
                )
            }),
            Reference::File(path) => file(path).await,
            Reference::Command(words) => command(words, &self.clock).await,
            Reference::KubernetesSecret(key) => Err(format!(
                "the secret {}/{} is one of Kubernetes; run it with --driver kubernetes, or use env, file or command",
                key.name, key.key
            )),
        };
        value.map(Secret::new)
    }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables may be secrets.
        f.debug_struct("LookUp").finish_non_exhaustive()
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

    async fn value(reference: serde_json::Value) -> Result<String, String> {
        let reference = serde_json::from_value(reference).unwrap();
        let own = BTreeMap::from([("HERE".to_owned(), "from here".to_owned())]);
        let found = LookUp::new(own, SystemClock::shared()).value(&reference).await;
        assert!(!format!("{found:?}").contains("from"), "{found:?}");
        found.map(|value| value.expose().to_owned())
    }

    #[tokio::test]
    async fn every_reference_is_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "from a file\r\n").unwrap();
        for (reference, expected) in [
            (serde_json::json!({"env": "HERE"}), "from here"),
            (serde_json::json!({"file": path}), "from a file"),
            (serde_json::json!({"command": ["printf", "from\na program\n"]}), "from\na program"),
        ] {
            assert_eq!(value(reference).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_is_named_and_no_value_is_shown() {
        let why = async |reference| value(reference).await.unwrap_err();
        let missing = why(serde_json::json!({"env": "NOT_HERE"})).await;
        assert!(missing.starts_with("the variable NOT_HERE is not set"), "{missing}");
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
