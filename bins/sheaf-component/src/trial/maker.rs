//! Makes the processors of a test.

use futures::future::BoxFuture;
use sheaf_dataflow::{AnyComponent, ComponentError, Processor, Received, Start};
use sheaf_pipeline::plan::PlannedComponent;
use sheaf_pipeline::spec::{Component, Role};
use tempfile::TempDir;

use super::flow::Sent;

/// What is to be built.
pub(super) struct Made<'a> {
    pub(super) role: Role,
    pub(super) definition: &'a Component,
    pub(super) start: Start,
}

/// What was.
pub(super) type Built<'a> = BoxFuture<'a, Result<AnyComponent, ComponentError>>;

/// Makes components.
pub(super) type Build = dyn Fn(Made<'_>) -> Built<'_> + Sync;

/// Makes processors, each with a folder of its own for the time of a test.
pub(super) struct Maker<'a> {
    pipeline: &'a str,
    build: &'a Build,
    folder: TempDir,
}

impl<'a> Maker<'a> {
    pub(super) fn try_new(pipeline: &'a str, build: &'a Build) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for it: {error}"))?;
        Ok(Maker { pipeline, build, folder })
    }

    /// One instance of a processor.
    async fn processor(
        &self,
        component: &PlannedComponent,
        index: u32,
    ) -> Result<Box<dyn Processor>, String> {
        let id = &component.id;
        if component.definition.kind.is_none() {
            return Err(format!(
                "{id} is a program of its own, which a test does not start: give the rows that \
                 it sends under `inputs`"
            ));
        }
        let state_dir = self.folder.path().join(format!("{id}.{index}"));
        std::fs::create_dir_all(&state_dir).map_err(|error| format!("{id}: {error}"))?;
        let start = Start {
            pipeline: self.pipeline.to_owned(),
            component: id.clone(),
            config: component.definition.config.clone(),
            instance: index,
            replicas: u32::try_from(component.instances.len()).unwrap_or(u32::MAX),
            state_dir,
            offset: None,
        };
        let made = Made { role: component.role, definition: &component.definition, start };
        match (self.build)(made).await {
            Ok(AnyComponent::Processor(processor)) => Ok(processor),
            Ok(other) => Err(format!("{id} is to be a processor, and is a {}", other.role())),
            Err(error) => Err(format!("{id} cannot be made: {}", error.chain())),
        }
    }

    /// Takes what arrives at each instance, and gives what comes of it.
    pub(super) async fn process(
        &self,
        component: &PlannedComponent,
        arriving: Vec<Vec<Received>>,
    ) -> Result<Sent, String> {
        let mut sent = Sent::new();
        for (instance, arriving) in component.instances.iter().zip(arriving) {
            let failed = |error: ComponentError| format!("{}: {}", instance.id, error.chain());
            let mut processor = self.processor(component, instance.index).await?;
            let mut out = Vec::new();
            for received in &arriving {
                out.extend(processor.process(received).await.map_err(failed)?.batches);
            }
            out.extend(processor.end().await.map_err(failed)?.batches);
            sent.push(out);
        }
        Ok(sent)
    }
}
