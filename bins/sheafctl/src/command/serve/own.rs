//! The pipeline that a server runs from the beginning.

use sheaf_drivers::Tokens;
use sheaf_pipeline::check::check;
use sheaf_terminal::{Console, Failure};

use super::super::file;
use super::super::run::help;
use super::ServeArgs;
use crate::plane::Plane;

/// The pipeline of a server.
pub(super) struct Own {
    name: String,
    file: String,
    text: String,
    tokens: Option<Tokens>,
}

pub(super) async fn adopt(plane: &Plane) -> Result<Vec<String>, Failure> {
    let adopted = plane.runner.adopt().await.map_err(|error| Failure::from_error(&error))?;
    if !adopted.is_empty() {
        tracing::info!(pipelines = adopted.join(", "), "runs were taken up");
    }
    Ok(adopted)
}

impl Own {
    /// The file and the tokens, where they are asked for.
    pub(super) fn read(args: &ServeArgs, console: &mut Console) -> Result<Option<Self>, Failure> {
        let Some(path) = &args.pipeline else { return Ok(None) };
        let (file, text) = file::read(path)?;
        let checked = check(&file, &text).map_err(|report| {
            file::show(&report, console);
            file::refused(&report)
        })?;
        let tokens = args.tokens.as_deref().map(Tokens::read).transpose();
        let tokens = tokens.map_err(|error| Failure::from_error(&error).of("--tokens"))?;
        Ok(Some(Own { name: checked.pipeline.metadata.name, file, text, tokens }))
    }

    /// Has it run; answers its name.
    pub(super) async fn begin(self, plane: &Plane) -> Result<String, Failure> {
        let Own { name, file, text, tokens } = self;
        if let Some(tokens) = &tokens {
            let overseen = plane.runner.oversee(&file, &text, tokens).await;
            return overseen.map_err(|error| Failure::from_error(&error).help(help(&error)));
        }
        if !adopt(plane).await?.contains(&name) {
            let started = plane.runner.start(&file, &text, false).await;
            let started =
                started.map_err(|error| Failure::from_error(&error).help(help(&error)))?;
            tracing::info!(pipeline = name, run = started.run, "a run begins");
            return Ok(name);
        }
        let running = plane.plane.pipeline(name.clone()).await;
        let running = running.map_err(|error| Failure::from_error(&error))?;
        if *running.plan.spec != *text {
            tracing::warn!(
                pipeline = name,
                file,
                "the run that was taken up is of another text: stop it, and start the server \
                 again to run what the file says now"
            );
        }
        Ok(name)
    }
}
