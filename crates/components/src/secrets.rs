//! Finds what references stand for.
//!
//! The values are in no message and no log: [`Secret`] shows nothing of itself, and errors
//! name the field and the reference alone.

use std::process::Stdio;
use std::time::Duration;

use sheaf_dataflow::ComponentError;
use sheaf_flight::Secret as Hidden;
use sheaf_pipeline::spec::{Reference, Secret, SecretKey, Text};
use sheaf_retry::{Code, Retryable as _};
use tokio::io::AsyncReadExt as _;

use crate::failure::{failed_as, refused};
use crate::host::Host;

/// Bytes of a value, at most.
const MAX_BYTES: u64 = 1 << 20;
/// How long a program may take that prints a value.
const MAX_TIME: Duration = Duration::from_secs(30);

/// The text, or what its reference stands for. `field` is for messages.
pub(crate) async fn text(host: &Host, field: &str, text: &Text) -> Result<Hidden, ComponentError> {
    match text {
        Text::Plain(text) => Ok(Hidden::new(text)),
        Text::Reference(reference) => resolve(host, field, reference).await,
    }
}

/// What the reference of a secret stands for.
pub(crate) async fn secret(
    host: &Host,
    field: &str,
    secret: &Secret,
) -> Result<Hidden, ComponentError> {
    resolve(host, field, &secret.0).await
}

/// As [`text`], where there is one.
pub(crate) async fn maybe_text(
    host: &Host,
    field: &str,
    given: Option<&Text>,
) -> Result<Option<Hidden>, ComponentError> {
    match given {
        Some(given) => text(host, field, given).await.map(Some),
        None => Ok(None),
    }
}

/// As [`secret`], where there is one.
pub(crate) async fn maybe_secret(
    host: &Host,
    field: &str,
    given: Option<&Secret>,
) -> Result<Option<Hidden>, ComponentError> {
    match given {
        Some(given) => secret(host, field, given).await.map(Some),
        None => Ok(None),
    }
}

async fn resolve(
    host: &Host,
    field: &str,
    reference: &Reference,
) -> Result<Hidden, ComponentError> {
    match reference {
        Reference::Env(name) => (host.environment)(name).map(Hidden::new).ok_or_else(|| {
            refused(format!(
                "{field}: the environment has no variable {name}, or it is no UTF-8; set it where \
                 the component is started"
            ))
        }),
        Reference::File(path) => file(field, path).await,
        Reference::Command(command) => program(host, field, command).await,
        Reference::KubernetesSecret(SecretKey { name, key }) => Err(refused(format!(
            "{field}: the key {key} of the Kubernetes secret {name} can be had on the Kubernetes \
             driver only, which mounts it as a file and says so here; elsewhere use env, file or \
             command"
        ))),
    }
}

async fn file(field: &str, path: &str) -> Result<Hidden, ComponentError> {
    let unreadable = |error: std::io::Error| {
        let text = format!("{field}: the file {path} that holds the value cannot be read");
        // Not the code of a disk that may recover: somebody has to put the file there.
        let code = match error.code() {
            Code::Io => Code::InvalidArgument,
            code => code,
        };
        ComponentError::new(code, text).because(error)
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    value(field, &format!("the file {path}"), bytes)
}

async fn program(host: &Host, field: &str, command: &[String]) -> Result<Hidden, ComponentError> {
    let Some((name, arguments)) = command.split_first() else {
        return Err(refused(format!("{field}: the command is empty")));
    };
    let run = async {
        let mut child = tokio::process::Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed_as(
                Code::InvalidArgument,
                format!("{field}: {name}, which is to print the value, cannot be started"),
            ))?;
        let mut bytes = Vec::new();
        let broken = |error| {
            let text = format!("{field}: what {name} prints cannot be read");
            ComponentError::new(Code::Io, text).because(error)
        };
        if let Some(printed) = child.stdout.take() {
            printed.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(broken)?;
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
            return value(field, name, bytes);
        }
        let status = child.wait().await.map_err(broken)?;
        if !status.success() {
            // What it printed on standard error may hold the secret.
            return Err(ComponentError::new(
                Code::Unavailable,
                format!("{field}: {name} ended with {status}; run it by hand to see why"),
            ));
        }
        value(field, name, bytes)
    };
    tokio::select! {
        done = run => done,
        () = host.clock.sleep(MAX_TIME) => Err(ComponentError::new(
            Code::DeadlineExceeded,
            format!("{field}: {name} has printed no value within {} s", MAX_TIME.as_secs()),
        )),
    }
}

/// Without the line end at its end.
fn value(field: &str, place: &str, bytes: Vec<u8>) -> Result<Hidden, ComponentError> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        let text = format!("{field}: the value of {place} is longer than {MAX_BYTES} bytes");
        return Err(ComponentError::new(Code::LimitExceeded, text));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| refused(format!("{field}: the value of {place} is no UTF-8")))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(refused(format!("{field}: the value of {place} is empty")));
    }
    Ok(Hidden::new(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn command(line: &str) -> Text {
        let words = ["sh", "-c", line].map(str::to_owned).to_vec();
        Text::Reference(Reference::Command(words))
    }

    #[tokio::test]
    async fn every_reference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "from a file\r\n").unwrap();
        let environment: crate::Environment =
            Arc::new(|name| (name == "TOKEN").then(|| "from a variable".to_owned()));
        let host = Host { environment, ..Host::plain() };
        let file = Reference::File(path.display().to_string());
        for (given, expected) in [
            (Text::Plain("plain".into()), "plain"),
            (Text::Reference(Reference::Env("TOKEN".into())), "from a variable"),
            (Text::Reference(file), "from a file"),
            (command("echo from a program"), "from a program"),
        ] {
            assert_eq!(text(&host, "config.token", &given).await.unwrap().expose(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_said_and_what_was_found_is_not() {
        let key = SecretKey { name: "store".into(), key: "token".into() };
        for (given, expected) in [
            (Text::Reference(Reference::Env("NOBODY".into())), "no variable NOBODY"),
            (Text::Reference(Reference::File("/nowhere/x".into())), "the file /nowhere/x"),
            (Text::Reference(Reference::KubernetesSecret(key)), "Kubernetes secret store"),
            (command("echo hunter2; echo hunter2 >&2; exit 3"), "exit status: 3"),
            (command("printf ''"), "is empty"),
            (command("head -c 2000000 /dev/zero"), "longer than 1048576 bytes"),
        ] {
            let error = text(&Host::plain(), "config.token", &given).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.starts_with("config.token: ") && shown.contains(expected), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
