//! `sheafctl graph`

use std::path::Path;

use serde_json::json;
use sheaf_pipeline::check::check;
use sheaf_pipeline::graph::{Format, draw};
use sheaf_pipeline::plan::Plan;
use sheaf_terminal::{Console, Failure};

use super::file;

pub(super) fn run(
    path: &Path,
    format: Format,
    as_json: bool,
    console: &mut Console,
) -> Result<(), Failure> {
    let (name, text) = file::read(path)?;
    let checked = check(&name, &text).map_err(|report| {
        if as_json {
            return file::refused(&report).because(report);
        }
        file::show(&report, console);
        file::refused(&report)
    })?;
    let plan = Plan::new(&checked.pipeline);
    if as_json {
        return console.json(&json!({
            "plan": plan,
            "start_order": plan.start_order(),
            "stop_order": plan.stop_order(),
        }));
    }
    console.data(&draw(&plan, format))
}
