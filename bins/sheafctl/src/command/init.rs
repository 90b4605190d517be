//! `sheafctl init`

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use sheaf_pipeline::check::first_pipeline;
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::{Console, Failure};

pub(super) fn run(
    path: &Path,
    name: Option<String>,
    as_json: bool,
    console: &mut Console,
) -> Result<(), Failure> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.unwrap_or_else(|| stem.into_owned());
    let text = first_pipeline(&name).ok_or_else(|| {
        let message = format!("{name:?} cannot be the name of a pipeline");
        let help = "use lower-case letters, digits and hyphens, or say --name NAME";
        Failure::new(Code::InvalidArgument, message).help(help)
    })?;
    let file = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already", path.display());
            Failure::new(Code::AlreadyExists, message).help("name another file, or remove it")
        }
        _ => Failure::new(error.code(), format!("{} cannot be written: {error}", path.display())),
    })?;
    if as_json {
        return console.json(&json!({ "file": path.display().to_string(), "pipeline": name }));
    }
    console.note(&format!("wrote {0}: next, sheafctl validate {0}", path.display()));
    Ok(())
}
