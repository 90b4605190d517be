//! What a reader meets first has to fit on two screens.

use std::path::{Path, PathBuf};

const MAX_LINES: usize = 100;
/// Not read but copied: modules beside one's own program, and the lines each may have.
const MODULES: [(&str, usize); 2] = [("sheaf_shm.py", 150), ("sheaf_source.py", 340)];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !["tests", "data", "target"].iter().any(|name| path.ends_with(name)) {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_example_has_more_than_100_lines() {
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    let named = |name: &str| sources.iter().any(|path| path.ends_with(name));
    assert!(named("embed_store.rs") && named("pyarrow_worker.py") && named("json_lines.rs"));
    assert!(MODULES.iter().all(|(name, _)| named(name)));
    for path in &sources {
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        let module = MODULES.iter().find(|(name, _)| path.ends_with(name));
        let limit = module.map_or(MAX_LINES, |(_, limit)| *limit);
        assert!(lines <= limit, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_embedded_pipeline_has_at_most_30_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("embed_pipeline/main.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let start = source.find("\nasync fn pipeline(").unwrap();
    let length = source[start..].find("\n}\n").unwrap();
    let lines = source[start..start + length + 2].trim().lines().count();
    assert!((5..=30).contains(&lines), "{lines} lines");
}
