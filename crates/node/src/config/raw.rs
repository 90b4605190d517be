//! Settings as they were written, layer upon layer.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use sheaf_retry::{Code, Retryable};

use super::problem::Problem;
use super::setting::{SETTINGS, Setting};

/// The largest configuration file that is read.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Where a value was written; a later one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: the built-in default.
    Default,
    /// In the file of that name.
    File(String),
    /// In an environment variable.
    Environment,
    /// On the command line.
    Flag,
}

#[derive(Clone, PartialEq, Eq)]
struct Value {
    text: String,
    origin: Origin,
}

/// A configuration as it was written: texts by the name of the setting.
///
/// Layers are laid over each other in any order; per setting the one with the
/// greatest [`Origin`] counts. [`RawConfig::validate`] turns it into a
/// [`Config`](super::Config).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    values: BTreeMap<&'static str, Value>,
    /// Settings that do not exist, and other mistakes of the layers.
    pub(super) problems: Vec<Problem>,
}

/// A file is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is no configuration file: {problem}")]
pub struct FileError {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub problem: String,
}

impl Retryable for FileError {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl RawConfig {
    /// The settings in the text of a YAML file: `NAME: VALUE` lines.
    ///
    /// Names that do not exist are reported by [`RawConfig::validate`], with
    /// everything else.
    ///
    /// # Errors
    /// [`FileError`] for text that is not YAML, not a mapping, has a list or a
    /// mapping as value, or is over 1 MiB.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self, FileError> {
        let wrong = |problem| FileError { file: file.to_owned(), problem };
        if text.len() > MAX_FILE_BYTES {
            return Err(wrong(format!(
                "{} bytes are over the limit of {MAX_FILE_BYTES}",
                text.len()
            )));
        }
        let mut raw = RawConfig::default();
        // An empty file, or one of comments only, says nothing.
        let entries: Option<BTreeMap<String, Option<Scalar>>> = serde_saphyr::from_str(text)
            .map_err(|error| {
                // The lines around the mistake may hold a password.
                wrong(error.without_snippet().to_string())
            })?;
        for (name, value) in entries.unwrap_or_default() {
            let text = value.map(|Scalar(text)| text).unwrap_or_default();
            raw.set(&name, text, Origin::File(file.to_owned()));
        }
        Ok(raw)
    }

    /// The settings in `variables`, which the binary read from its environment,
    /// and the names of `SHEAF_` variables that are no setting of `serve`.
    ///
    /// Those are no mistake: orchestrators set variables after the names of
    /// services, and other commands have some of their own. An empty variable
    /// counts as not set.
    pub fn from_environment(variables: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let (mut raw, mut unknown) = (RawConfig::default(), Vec::new());
        for (variable, text) in variables {
            let setting = SETTINGS.iter().find(|setting| setting.variable() == *variable);
            match setting {
                Some(_) if text.is_empty() => {}
                Some(setting) => raw.set(setting.name, text.as_str(), Origin::Environment),
                None if variable.starts_with("SHEAF_") => unknown.push(variable.clone()),
                None => {}
            }
        }
        (raw, unknown)
    }

    /// Sets one value, unless it has one from a greater origin.
    pub fn set(&mut self, name: &str, text: impl Into<String>, origin: Origin) {
        let Some(setting) = Setting::find(name) else {
            let place = place(name, &origin);
            let message = match closest(name) {
                Some(other) => format!("there is no such setting; did you mean {other}?"),
                None => "there is no such setting".to_owned(),
            };
            self.problems.push(Problem { place, message });
            return;
        };
        let value = Value { text: text.into(), origin };
        match self.values.get(setting.name) {
            Some(known) if known.origin > value.origin => {}
            _ => {
                self.values.insert(setting.name, value);
            }
        }
    }

    /// Lays another configuration over this one.
    #[must_use]
    pub fn over(mut self, upper: RawConfig) -> Self {
        self.problems.extend(upper.problems);
        for (name, value) in upper.values {
            self.set(name, value.text, value.origin);
        }
        self
    }

    /// What was written for a setting, its default where nothing was.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(value) => &value.text,
            None => Setting::find(name).map_or("", |setting| setting.default),
        }
    }

    /// Where a setting was written.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |value| value.origin.clone())
    }

    /// How a setting is called in messages.
    pub(super) fn place(&self, name: &str) -> String {
        place(name, &self.origin(name))
    }
}

fn place(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Default | Origin::Flag => format!("--{name}"),
        Origin::Environment => {
            Setting::find(name).map_or_else(|| name.to_owned(), Setting::variable)
        }
        Origin::File(file) => format!("{name} in {file}"),
    }
}

/// A setting that differs only in `_`, case, or by few letters.
fn closest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let distance = |setting: &&Setting| edits(&name, setting.name);
    let best = SETTINGS.iter().min_by_key(distance)?;
    (distance(&best) <= 2).then_some(best.name)
}

/// Letters to insert, remove or replace to come from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // Names are short; a long one from outside is not compared letter by letter.
    for (index, a) in from.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

impl fmt::Debug for RawConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(name, value)| {
            let secret = Setting::find(name).is_some_and(|setting| setting.secret);
            (name, if secret { "(hidden)" } else { value.text.as_str() })
        });
        f.debug_map().entries(shown).finish()
    }
}

/// A YAML value that is one word, number or truth value.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
        match value.is_finite() {
            true => Ok(Scalar(value.to_string())),
            false => Err(E::custom("a number without value cannot be used")),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_origin_counts_in_any_order() {
        let file = RawConfig::from_yaml("a.yaml", "lease: 1s\nttl: 2s\nworkers: 4\n").unwrap();
        let variables = BTreeMap::from([
            ("SHEAF_LEASE".to_owned(), "3s".to_owned()),
            ("SHEAF_TTL".to_owned(), String::new()),
            ("SHEAF_SERVICE_PORT".to_owned(), "1".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        let (environment, unknown) = RawConfig::from_environment(&variables);
        assert_eq!(unknown, ["SHEAF_SERVICE_PORT"]);
        let mut flags = RawConfig::default();
        flags.set("workers", "8", Origin::Flag);
        for raw in [
            file.clone().over(environment.clone()).over(flags.clone()),
            flags.over(environment).over(file),
        ] {
            assert_eq!(
                (raw.text("lease"), raw.text("ttl"), raw.text("workers")),
                ("3s", "2s", "8")
            );
            assert_eq!(raw.place("lease"), "SHEAF_LEASE");
            assert_eq!(raw.place("ttl"), "ttl in a.yaml");
            assert_eq!(raw.place("workers"), "--workers");
            assert_eq!(raw.text("grace"), "30s");
        }
    }

    #[test]
    fn yaml_takes_plain_values_only() {
        let raw = RawConfig::from_yaml("a", "verbose: true\nmax-retries: 0\nsink: ~\n").unwrap();
        assert_eq!((raw.text("verbose"), raw.text("max-retries")), ("true", "0"));
        for empty in ["", "# nothing\n", "{}"] {
            assert_eq!(RawConfig::from_yaml("a", empty).unwrap(), RawConfig::default(), "{empty}");
        }
        for wrong in ["- a\n", "lease: [1, 2]\n", "lease: {a: b}\n", "lease: \"", "just text"] {
            let error = RawConfig::from_yaml("a.yaml", wrong).unwrap_err();
            assert!(error.to_string().starts_with("a.yaml is no configuration file"), "{error}");
        }
    }

    #[test]
    fn a_broken_file_does_not_show_the_passwords_in_it() {
        for wrong in ["lease: [1]", "lease: \"", "a: b: c", "- x"] {
            let text = format!("valkey-password: hunter2\n{wrong}\nvalkey-password: hunter3\n");
            let error = RawConfig::from_yaml("a.yaml", &text).unwrap_err().to_string();
            assert!(!error.contains("hunter"), "{error}");
            assert!(error.contains("line "), "{error}");
        }
    }

    #[test]
    fn unknown_names_are_kept_as_problems_with_a_guess() {
        let raw = RawConfig::from_yaml("a.yaml", "data_dir: x\nbananas: 1\n").unwrap();
        let texts: Vec<_> = raw.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "bananas in a.yaml: there is no such setting",
                "data_dir in a.yaml: there is no such setting; did you mean data-dir?",
            ]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut raw = RawConfig::default();
        raw.set("valkey-password", "hunter2", Origin::Flag);
        raw.set("lease", "1s", Origin::Flag);
        let shown = format!("{raw:?}");
        assert!(!shown.contains("hunter2") && shown.contains("1s"), "{shown}");
    }
}
