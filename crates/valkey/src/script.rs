//! The scripts: one library of functions, put together from parts.
//!
//! A library is compiled once, where a script that `EVALSHA` calls makes all
//! its functions anew each time: with as many as these have, that took three
//! quarters of a call. Its name has a digest of its text, so that the
//! libraries of two versions are on a server at the same time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

macro_rules! parts {
    ($($name:literal),+ $(,)?) => {
        [$( include_str!(concat!("../scripts/", $name, ".lua")) ),+]
    };
}

/// In the order in which they use each other.
const PARTS: [&str; 21] = parts![
    "base",
    "change",
    "block",
    "depend",
    "register",
    "tick",
    "settle",
    "claim",
    "control",
    "op_register",
    "op_work",
    "op_extend",
    "op_control",
    "op_sweep",
    "op_get",
    "op_list",
    "op_stats",
    "op_move",
    "op_import",
    "op_export",
    "library",
];

/// Version of the scripts, of what they write and of what they are asked: two
/// versions may run beside each other as long as this number is the same.
pub(crate) const LAYOUT: u32 = 1;

/// The functions of one version.
#[derive(Debug, PartialEq)]
pub(crate) struct Library {
    /// What the server is given once.
    pub(crate) text: String,
    pub(crate) register: Function,
    pub(crate) work: Function,
    pub(crate) extend: Function,
    pub(crate) control: Function,
    pub(crate) sweep: Function,
    pub(crate) get: Function,
    pub(crate) list: Function,
    pub(crate) stats: Function,
    pub(crate) migrate: Function,
    pub(crate) import: Function,
    pub(crate) export: Function,
}

/// A function by its name for people and on the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) called: String,
}

impl Library {
    /// The library as it is, or as `edit` makes it: other texts are other
    /// libraries, of which several may be used at the same time.
    pub(crate) fn edited(edit: impl Fn(&str) -> String) -> Self {
        let parts: Vec<String> = PARTS.iter().map(|part| edit(part)).collect();
        Library::new(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn new(parts: &[&str]) -> Self {
        let body = assemble(parts);
        let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        let mut library = format!("sheaf_{LAYOUT}_");
        for byte in &digest.as_ref()[..6] {
            // Writing to a text cannot fail.
            let _written = write!(library, "{byte:02x}");
        }
        let text =
            format!("#!lua name={library}\n{}", body.replace("NAME_", &format!("{library}_")));
        let function = |name| Function { name, called: format!("{library}_{name}") };
        Library {
            text,
            register: function("register"),
            work: function("work"),
            extend: function("extend"),
            control: function("control"),
            sweep: function("sweep"),
            get: function("get"),
            list: function("list"),
            stats: function("stats"),
            migrate: function("move"),
            import: function("import"),
            export: function("export"),
        }
    }
}

/// The library of this version.
pub(crate) fn library() -> Arc<Library> {
    static LIBRARY: LazyLock<Arc<Library>> = LazyLock::new(|| Arc::new(Library::new(&PARTS)));
    Arc::clone(&LIBRARY)
}

/// The parts as one, with the constants (`--# NAME VALUE`) put in where they
/// are used, and without comments.
fn assemble(parts: &[&str]) -> String {
    let lines = || parts.iter().flat_map(|part| part.lines());
    let constants: HashMap<&str, &str> = lines()
        .filter_map(|line| line.strip_prefix("--# ")?.split_once(' '))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let mut text = String::new();
    for line in lines() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with("--") {
            substitute(line, &constants, &mut text);
            text.push('\n');
        }
    }
    text
}

/// A line with its constants put in; texts in quotes stay as they are.
fn substitute(line: &str, constants: &HashMap<&str, &str>, out: &mut String) {
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |at| at + 2)
        } else if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        out.push_str(constants.get(token).copied().unwrap_or(token));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_put_in_and_comments_left_out() {
        let parts = ["--# ONE 1\n-- about\nlocal a = ONE + r.ONE2", "  f('ONE', ONE) -- end"];
        assert_eq!(assemble(&parts), "local a = 1 + r.ONE2\nf('ONE', 1) -- end\n");
    }

    #[test]
    fn another_text_is_another_library() {
        let one = Library::new(&["F.offer('NAME_' .. name)"]);
        let other = Library::new(&["F.offer('NAME_' ..  name)"]);
        assert_ne!(one.work.called, other.work.called);
        assert!(one.work.called.starts_with("sheaf_1_") && one.work.called.ends_with("_work"));
        assert!(one.text.contains(one.work.called.strip_suffix("work").unwrap()));
    }
}
