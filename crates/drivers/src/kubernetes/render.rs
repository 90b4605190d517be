//! A pipeline as the objects of a cluster.

use std::collections::BTreeMap;

use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::Pipeline;

use super::control::Control;
use super::names;
use super::object::Object;
use super::secrets::Wanted;
use super::settings::{RenderError, Settings};
use super::workload::Workload;
use crate::Tokens;

/// A pipeline as the objects of a cluster.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rendered {
    /// In the order in which they may be applied: what others need comes first.
    pub objects: Vec<Object>,
    /// What the cluster must be given beside them, each once.
    pub wanted: Vec<Wanted>,
}

impl Rendered {
    /// As documents of YAML, for `kubectl apply`.
    ///
    /// # Errors
    /// [`RenderError::Write`].
    pub fn to_yaml(&self) -> Result<String, RenderError> {
        let documents: Result<Vec<String>, RenderError> =
            self.objects.iter().map(Object::to_yaml).collect();
        Ok(documents?.join("---\n"))
    }
}

/// The objects of a pipeline. Pure: the same file, settings and tokens give the same objects,
/// in the same order.
///
/// | part | objects |
/// |---|---|
/// | control plane | deployment, service, volume, the file as a config map, the tokens as a secret, network policy |
/// | component with one instance that keeps nothing | deployment, headless service, secret with its assignment, network policy |
/// | any other component | the same with a stateful set, with a volume for each instance where it keeps something |
///
/// A component keeps something if it is a source, has a spilling edge, or writes local files.
/// Values that the file only refers to are in no object: see [`Rendered::wanted`].
///
/// ```
/// use sheaf_drivers::Tokens;
/// use sheaf_drivers::kubernetes::{Settings, render};
/// use sheaf_pipeline::plan::Plan;
///
/// # let text = "{apiVersion: sheaf.dev/v1, kind: Pipeline, metadata: {name: p}, sources: [
/// #   {id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}], sinks: [
/// #   {id: b, kind: stdout, inputs: [a]}]}";
/// let pipeline = sheaf_pipeline::check::check("p.yaml", text)?.pipeline;
/// let plan = Plan::new(&pipeline);
/// let tokens = Tokens::generate(&plan, 0);
/// let rendered = render(&pipeline, &plan, text, &Settings::default(), &tokens)?;
/// let kinds = rendered.objects.iter().map(|object| (object.kind(), object.name()));
/// let kinds: Vec<_> = kinds.collect();
/// assert!(kinds.contains(&("StatefulSet", "p--a")));
/// assert!(kinds.contains(&("Deployment", "p--b")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RenderError`], for settings that no cluster takes, for components without an image, and for
/// durable edges without a store.
pub fn render(
    pipeline: &Pipeline,
    plan: &Plan,
    text: &str,
    settings: &Settings,
    tokens: &Tokens,
) -> Result<Rendered, RenderError> {
    settings.check()?;
    let durable = plan.edges.iter().find(|edge| edge.durable);
    if let (Some(edge), None) = (durable, &settings.durable) {
        return Err(RenderError::NoStore { edge: edge.id.clone() });
    }
    let labels = labels(pipeline);
    let control = Control { settings, plan, labels: &labels, tokens, text };
    let mut objects = control.objects();
    let mut wanted: Vec<Wanted> = Vec::new();
    let graph = plan.graph();
    for component in &plan.components {
        let workload = Workload { settings, plan, component, labels: &labels, tokens, graph };
        let (more, wants) = workload.objects()?;
        objects.extend(more);
        wanted.extend(wants);
    }
    wanted.sort_by(|a, b| (&a.secret, &a.key).cmp(&(&b.secret, &b.key)));
    wanted.dedup();
    for object in &mut objects {
        annotate(object, pipeline);
    }
    Ok(Rendered { objects, wanted })
}

/// Those of the pipeline that a cluster takes, and ours over them.
fn labels(pipeline: &Pipeline) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = pipeline
        .metadata
        .labels
        .iter()
        .filter(|(name, value)| is_label(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    labels.extend(names::labels(&pipeline.metadata.name));
    labels
}

fn is_label(name: &str, value: &str) -> bool {
    !name.is_empty() && names::is_label_value(name) && names::is_label_value(value)
}

/// What the pipeline says of itself for people, on what stands for it.
fn annotate(object: &mut Object, pipeline: &Pipeline) {
    let Object::Deployment(deployment) = object else { return };
    let Some(description) = &pipeline.metadata.description else { return };
    let annotation = ("sheaf.dev/description".to_owned(), description.clone());
    deployment.metadata.annotations.get_or_insert_default().extend([annotation]);
}
