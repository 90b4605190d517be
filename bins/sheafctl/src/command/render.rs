//! `sheafctl render`

mod args;
mod store;

use sheaf_drivers::kubernetes::{Object, Rendered, Wanted, render};
use sheaf_drivers::{Tokens, docker};
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::Reference;
use sheaf_retry::{Code, SystemClock};
use sheaf_terminal::{Console, Failure};

use super::file;

pub(crate) use args::Render;
use args::{Platform, Secrets};

pub(super) fn run(asked: &Render, console: &mut Console) -> Result<(), Failure> {
    let (name, text) = file::read(&asked.file)?;
    let checked = check(&name, &text).map_err(|report| {
        file::show(&report, console);
        file::refused(&report)
    })?;
    if !checked.warnings.is_empty() {
        file::show(&checked.warnings, console);
    }
    let plan = Plan::new(&checked.pipeline);
    let settings = asked.settings()?;
    if asked.driver == Platform::Docker {
        return requests(&plan, &settings.component_image, console);
    }
    let now = SystemClock::shared().now().as_millis();
    let tokens = Tokens::generate(&plan, now);
    let mut rendered = render(&checked.pipeline, &plan, &text, &settings, &tokens)
        .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
    let secret = |object: &Object| object.kind() == "Secret";
    match asked.secrets {
        Secrets::Include => {}
        Secrets::Omit => rendered.objects.retain(|object| !secret(object)),
        Secrets::Only => rendered.objects.retain(secret),
    }
    let yaml = rendered
        .to_yaml()
        .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
    console.data(&yaml)?;
    tell(&rendered, &settings.namespace, console);
    Ok(())
}

/// What a Docker engine is asked for.
fn requests(plan: &Plan, image: &str, console: &mut Console) -> Result<(), Failure> {
    let requests = docker::render(plan, image)
        .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
    // By way of a value, whose fields are in order.
    let text =
        serde_json::to_value(&requests).and_then(|value| serde_json::to_string_pretty(&value));
    let text = text.map_err(|error| {
        Failure::new(Code::Internal, "the requests cannot be written").because(error)
    })?;
    console.data(&(text + "\n"))
}

/// What the cluster has to be given beside the manifests.
fn tell(rendered: &Rendered, namespace: &str, console: &mut Console) {
    let Some(first) = rendered.wanted.first() else { return };
    let all = rendered.wanted.iter().map(|Wanted { key, reference, .. }| {
        let of = match reference {
            Reference::Env(variable) => format!("the variable {variable}"),
            Reference::File(path) => format!("the content of {path}"),
            Reference::Command(command) => format!("what {} prints", command.join(" ")),
            Reference::KubernetesSecret(entry) => format!("{}/{}", entry.name, entry.key),
        };
        format!("\n  {key}: {of}")
    });
    let all: String = all.collect();
    console.note(&format!(
        "note: the file refers to values that a cluster cannot look up: give them to it in the \
         secret {} of namespace {namespace}, with the keys{all}",
        first.secret
    ));
}
