//! The image of tests: a shell, from this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{self, Engine, libraries};

/// The image that tests run.
pub(crate) const IMAGE: &str = "sheaf-test-component:1";

/// A component as far as the engine sees one: it keeps what it is told, and ends as it is
/// bidden by `BEHAVIOUR`.
const COMPONENT: &str = r#"
cd /var/lib/sheaf || exit 2
echo started >> starts
cat "$SHEAF_ASSIGNMENT" > told.json
cat /run/sheaf/references/0 > secret
case "$BEHAVIOUR" in
    end) exit 0 ;;
    fail) echo "no such topic" >&2; exit 1 ;;
    stubborn) trap '' TERM ;;
    *) trap 'echo drained >> drained; exit 0' TERM ;;
esac
echo up
while :; do sleep 0.05; done
"#;

/// The engine, with the image of tests.
pub(crate) fn engine() -> Option<Arc<Engine>> {
    engine::engine(IMAGE, context)
}

/// A build context: a shell, what the component needs of it, and their libraries.
fn context() -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, path, content)
    };
    let recipe = "FROM scratch\nCOPY root/ /\nENTRYPOINT [\"/bin/sh\", \"/component.sh\"]\n";
    put("Dockerfile", 0o644, recipe.as_bytes())?;
    put("root/component.sh", 0o644, COMPONENT.as_bytes())?;
    put("root/var/lib/sheaf/.keep", 0o644, b"")?;
    let programs = ["/bin/sh", "/bin/cat", "/bin/sleep"];
    let libraries = programs.iter().flat_map(|program| libraries(program));
    let mut libraries: Vec<PathBuf> = libraries.collect();
    libraries.sort();
    libraries.dedup();
    for path in programs.iter().map(PathBuf::from).chain(libraries) {
        let content = std::fs::read(&path)?;
        let mode = std::fs::metadata(&path)?.permissions().mode() | 0o555;
        put(&format!("root{}", path.display()), mode, &content)?;
    }
    archive.into_inner()
}
