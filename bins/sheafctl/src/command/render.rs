//! `sheafctl render`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sheaf_drivers::docker;
use sheaf_drivers::kubernetes::{Object, Rendered, Settings, Tokens, Wanted, render};
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::{Reference, Size};
use sheaf_retry::{Code, HumanBytes, SystemClock};
use sheaf_terminal::{Console, Failure};

use super::file;

/// What to render, and for which platform.
#[derive(Debug, Args)]
pub(crate) struct Render {
    /// The file of the pipeline; `-` is standard input
    file: PathBuf,
    /// The platform
    #[arg(long, value_enum, default_value_t)]
    driver: Platform,
    /// The namespace
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The image of built-in components
    #[arg(long, visible_alias = "component-image")]
    image: Option<String>,
    /// The image of the control plane
    #[arg(long)]
    control_image: Option<String>,
    /// What a component's volume holds, beside what its spilling edges may
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    state_size: HumanBytes,
    /// The class of volumes; that of the cluster by default
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Up to how many instances the cluster may add, where all edges of a component are durable
    #[arg(long, value_name = "N")]
    max_replicas: Option<u32>,
    /// What becomes of secrets
    #[arg(long, value_enum, default_value_t)]
    secrets: Secrets,
}

/// A platform that runs containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Platform {
    /// Manifests for a cluster
    #[default]
    Kubernetes,
    /// What a Docker engine is asked for, to be read
    Docker,
}

/// What becomes of secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Secrets {
    /// They are printed with the rest
    #[default]
    Include,
    /// They are left out
    Omit,
    /// Nothing else is printed
    Only,
}

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
    let settings = asked.settings();
    if asked.driver == Platform::Docker {
        return requests(&plan, &settings.component_image, console);
    }
    let now = SystemClock::shared().now().as_millis();
    let tokens = Tokens::generate(&plan, settings.max_replicas, now);
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

impl Render {
    fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            namespace: self.namespace.clone(),
            component_image: self.image.clone().unwrap_or(default.component_image),
            control_image: self.control_image.clone().unwrap_or(default.control_image),
            state_size_bytes: Size(self.state_size.0).0,
            storage_class: self.storage_class.clone(),
            max_replicas: self.max_replicas,
        }
    }
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
