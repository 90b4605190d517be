//! Which program an instance is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sheaf_pipeline::spec::Component;

/// The program of stores and coordinators.
const STORE: &str = "sheaf";
/// The program that hosts built-in components.
pub(super) const HOST: &str = "sheaf-component";

/// Where programs are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// The host of built-in components, where it is named.
    pub host: Option<PathBuf>,
    /// The store and coordinator of durable edges, where it is named.
    pub store: Option<PathBuf>,
    /// The folder in which it is looked for first: that of this program.
    pub beside: Option<PathBuf>,
    /// The folders in which it is looked for then, as in `PATH`.
    pub path: Vec<PathBuf>,
}

impl Programs {
    /// The command line of a component.
    ///
    /// # Errors
    /// A text that says what is missing and what to do.
    pub(super) fn command(&self, component: &Component) -> Result<Vec<String>, String> {
        if let Some((program, arguments)) = component.command.split_first() {
            let found = self.find(program)?;
            let arguments = arguments.iter().cloned();
            return Ok(std::iter::once(found).chain(arguments).collect());
        }
        match (&component.kind, &component.image) {
            (Some(_), _) => Ok(vec![shown(&self.host_program()?), "run".to_owned()]),
            (None, Some(image)) => Err(format!(
                "it has the image {image} and no command; run it with --driver docker, or give it a command"
            )),
            (None, None) => Err("it has neither kind nor command".to_owned()),
        }
    }

    /// The program of built-in components.
    ///
    /// # Errors
    /// A text that says what is missing and what to do.
    pub fn host_program(&self) -> Result<PathBuf, String> {
        let what = "which runs built-in components";
        self.own(HOST, what, self.host.as_ref(), "--component-program")
    }

    /// The program of the store and coordinator of durable edges.
    pub(crate) fn store(&self) -> Result<PathBuf, String> {
        let what = "in which batches of durable edges wait";
        self.own(STORE, what, self.store.as_ref(), "--store-program")
    }

    /// A program of Sheaf: that which was named, that beside this one, or that in `PATH`.
    fn own(
        &self,
        name: &str,
        what: &str,
        named: Option<&PathBuf>,
        flag: &str,
    ) -> Result<PathBuf, String> {
        if let Some(named) = named {
            return match is_program(named) {
                true => Ok(named.clone()),
                false => Err(format!("{flag} {} is no program that can be run", named.display())),
            };
        }
        let places = self.beside.iter().chain(&self.path);
        places.map(|folder| folder.join(name)).find(|path| is_program(path)).ok_or_else(|| {
            format!(
                "{name}, {what}, is neither beside this program nor in PATH; build or install it, or name it with {flag}"
            )
        })
    }

    /// A name is looked for as a shell does, a path is taken as it is.
    fn find(&self, program: &str) -> Result<String, String> {
        if program.contains('/') {
            return match Path::new(program) {
                path if is_program(path) => Ok(program.to_owned()),
                path if path.exists() => {
                    Err(format!("{program} is not executable; try chmod +x {program}"))
                }
                _ => Err(format!("there is no program {program}; check `command`")),
            };
        }
        let found =
            self.path.iter().map(|folder| folder.join(program)).find(|path| is_program(path));
        found.map(|path| shown(&path)).ok_or_else(|| {
            format!("there is no program {program} in PATH; check `command`, or write its path")
        })
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn is_program(path: &Path) -> bool {
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(text: &str) -> Component {
        serde_json::from_str(text).unwrap()
    }

    fn programs() -> Programs {
        Programs { path: vec!["/nowhere".into(), "/bin".into()], ..Programs::default() }
    }

    #[test]
    fn names_are_looked_for_and_paths_are_not() {
        let found = programs().command(&component(r#"{"id": "a", "command": ["sh", "-c", "x"]}"#));
        assert_eq!(found.unwrap(), ["/bin/sh", "-c", "x"]);
        let found = programs().command(&component(r#"{"id": "a", "command": ["/bin/sh"]}"#));
        assert_eq!(found.unwrap(), ["/bin/sh"]);
    }

    #[test]
    fn what_is_not_there_says_what_to_do() {
        let why = |text| programs().command(&component(text)).unwrap_err();
        assert!(why(r#"{"id": "a", "command": ["no-such"]}"#).contains("in PATH"));
        assert!(why(r#"{"id": "a", "command": ["./no-such"]}"#).contains("check `command`"));
        assert!(why(r#"{"id": "a", "command": ["/etc/passwd"]}"#).contains("chmod +x"));
        assert!(why(r#"{"id": "a", "kind": "stdout"}"#).contains("--component-program"));
        assert!(why(r#"{"id": "a", "image": "x"}"#).contains("--driver docker"));
    }

    #[test]
    fn the_host_is_that_which_is_named_then_that_beside() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join(HOST);
        std::fs::copy("/bin/sh", &host).unwrap();
        let beside = Programs { beside: Some(folder.path().to_owned()), ..programs() };
        let built_in = component(r#"{"id": "a", "kind": "stdout"}"#);
        assert_eq!(beside.command(&built_in).unwrap(), [shown(&host), "run".to_owned()]);
        let named = Programs { host: Some("/bin/sh".into()), ..beside.clone() };
        assert_eq!(named.command(&built_in).unwrap(), ["/bin/sh", "run"]);
        let wrong = Programs { host: Some("/no/such".into()), ..beside };
        assert!(wrong.command(&built_in).unwrap_err().starts_with("--component-program /no/such"));
    }
}
