//! Links between documents lead to files that exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Finding;
use crate::{
    error::{Error, Result},
    workspace::Workspace,
};

/// Checks the local links of every Markdown file.
///
/// # Errors
///
/// Fails when a document cannot be read.
pub(super) fn check(
    workspace: &Workspace,
    sources: &[PathBuf],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let documents =
        sources.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for path in documents {
        let full = workspace.path(path);
        let text = fs::read_to_string(&full).map_err(Error::io("read", &full))?;
        let folder = full.parent().unwrap_or(Path::new("."));
        for (line, target) in local_links(&text) {
            if !folder.join(&target).exists() {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("link leads to `{target}`, which does not exist"),
                    "correct or remove it",
                ));
            }
        }
    }
    Ok(())
}

/// Targets of `[…](target)` outside code blocks, without anchors, with their lines.
fn local_links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every other part between back-ticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
        for part in prose.split("](").skip(1) {
            let Some((inside, _)) = part.split_once(')') else { continue };
            // A title may follow the target.
            let target = inside.split_whitespace().next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            let remote = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !remote {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::local_links;

    #[test]
    fn only_local_links_outside_code_are_followed() {
        let text = "[a](b.md#c) and [`d`](../e.rs \"t\")\n[f](https://g) [h](#i)\n\
                    ```\n[j](k)\n```\n`[l](m)` [n](o)\n";
        let links = local_links(text);
        let expected = [(1, "b.md"), (1, "../e.rs"), (6, "o")];
        assert_eq!(links, expected.map(|(line, target)| (line, target.to_owned())));
    }
}
