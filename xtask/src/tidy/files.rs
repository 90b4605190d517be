//! Every file by itself: length, opening, what a `lib.rs` holds, forbidden words.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Finding, length, words};
use crate::{
    error::{Error, Result},
    workspace::Workspace,
};

const QUESTIONED: usize = 500;
const REFUSED: usize = 800;
const BINARY: usize = 100;
const GENERATED: &str = "crates/proto/src/generated/";
const TEXTS: [&str; 8] = ["rs", "md", "proto", "toml", "py", "sh", "yaml", "yml"];

/// Checks all files that hold text.
///
/// # Errors
///
/// Fails when one cannot be read.
pub(super) fn check(
    workspace: &Workspace,
    sources: &[PathBuf],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    for path in sources {
        let extension = path.extension().map(|extension| extension.to_string_lossy());
        let text_file = extension.as_ref().is_some_and(|found| TEXTS.contains(&found.as_ref()));
        if !text_file || path.starts_with(GENERATED) {
            continue;
        }
        let full = workspace.path(path);
        let text = fs::read_to_string(&full).map_err(Error::io("read", &full))?;
        check_file(path, &text, findings);
    }
    Ok(())
}

fn check_file(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let code = path.extension().is_some_and(|extension| extension == "rs");
    let test = path.iter().any(|part| part == "tests" || part == "tests.rs");
    findings.extend(
        words::find(text, words::Kind { code, test })
            .into_iter()
            .map(|(line, what, todo)| Finding::new(path, line, what, todo)),
    );
    if !code {
        return;
    }
    if !opens_with_docs(text) {
        let todo = "say in one sentence what the module is for, in `//!` at the top";
        findings.push(Finding::new(path, 1, "module has no documentation", todo));
    }
    if path.starts_with("crates")
        && path.ends_with("src/lib.rs")
        && let Some(line) = first_definition(text)
    {
        let todo = "move it into a module: lib.rs is the table of contents";
        findings.push(Finding::new(path, line, "lib.rs defines something", todo));
    }
    if !test {
        findings.extend(check_length(path, text));
    }
}

fn check_length(path: &Path, text: &str) -> Option<Finding> {
    let lines = length::without_tests(text);
    if path.starts_with("bins") && lines > BINARY {
        let what = format!("{lines} lines without tests, a binary's file has {BINARY} at most");
        return Some(Finding::new(path, BINARY + 1, what, "move the work into a crate"));
    }
    if lines > REFUSED {
        let what = format!("{lines} lines without tests, the limit is {REFUSED}");
        return Some(Finding::new(path, REFUSED + 1, what, "split it by subject"));
    }
    (lines > QUESTIONED).then(|| {
        let what = format!("{lines} lines without tests, more than {QUESTIONED}");
        Finding::new(path, QUESTIONED + 1, what, "is it one subject?").warning()
    })
}

/// Whether nothing but inner attributes stands before the first `//!`.
fn opens_with_docs(text: &str) -> bool {
    let mut open = 0_i32;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if open == 0 && line.starts_with("//!") {
            return true;
        }
        if open == 0 && !line.starts_with("#!") {
            return false;
        }
        for character in line.chars() {
            open += match character {
                '[' => 1,
                ']' => -1,
                _ => 0,
            };
        }
    }
    false
}

/// The first line of a `lib.rs` that defines something, its tests apart.
fn first_definition(text: &str) -> Option<usize> {
    const STARTS: [&str; 9] =
        ["fn ", "struct ", "enum ", "trait ", "impl ", "impl<", "union ", "type ", "macro_rules!"];
    const MODIFIERS: [&str; 6] =
        ["pub ", "pub(crate) ", "const ", "async ", "unsafe ", "extern \"C\" "];
    let own = length::without_tests(text);
    text.lines()
        .take(own)
        .position(|line| {
            let mut rest = line.trim_start();
            while let Some(next) = MODIFIERS.iter().find_map(|modifier| rest.strip_prefix(modifier))
            {
                rest = next;
            }
            STARTS.iter().any(|start| rest.starts_with(start))
        })
        .map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_file, check_length, first_definition, opens_with_docs};

    #[test]
    fn docs_may_follow_inner_attributes_only() {
        assert!(opens_with_docs("//! Docs.\nfn a() {}\n"));
        assert!(opens_with_docs(
            "#![allow(\n    missing_docs,\n    reason = \"tests\"\n)]\n\n//! Docs.\n"
        ));
        assert!(!opens_with_docs("use x;\n//! Docs.\n"));
        assert!(!opens_with_docs("// No docs.\n"));
        assert!(!opens_with_docs(""));
    }

    #[test]
    fn lib_rs_may_name_but_not_define() {
        assert_eq!(
            first_definition("//! fn docs\nmod a;\npub use a::B;\npub const C: u8 = 1;\n"),
            None
        );
        assert_eq!(first_definition("mod a;\npub async fn b() {}\n"), Some(2));
        assert_eq!(first_definition("mod a;\nimpl<T> X for T {}\n"), Some(2));
        assert_eq!(first_definition("mod a;\n#[cfg(test)]\nmod tests {\n    fn a() {}\n}\n"), None);
    }

    #[test]
    fn lengths_are_questioned_then_refused_and_binaries_are_short() {
        let text = |lines: usize| "//! x\n".repeat(lines);
        let of = |path: &str, lines| check_length(Path::new(path), &text(lines));
        assert_eq!(of("crates/a/src/b.rs", 500), None);
        assert!(of("crates/a/src/b.rs", 501).unwrap().warning);
        assert!(of("crates/a/src/b.rs", 800).unwrap().warning);
        assert!(!of("crates/a/src/b.rs", 801).unwrap().warning);
        assert_eq!(of("bins/a/src/main.rs", 100), None);
        assert!(!of("bins/a/src/main.rs", 101).unwrap().warning);
    }

    #[test]
    fn tests_have_no_length() {
        let mut findings = Vec::new();
        for path in ["crates/a/tests/it/main.rs", "crates/a/src/b/tests.rs"] {
            check_file(Path::new(path), &"//! x\n".repeat(900), &mut findings);
        }
        assert!(findings.is_empty(), "{findings:?}");
    }
}
