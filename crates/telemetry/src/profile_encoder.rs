//! Builds a `profile.proto`: each text and each function once.

use std::collections::HashMap;

use crate::profile_proto::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// A function that was being called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) system_name: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// The string table of a profile: each text once, 0 is the empty one.
struct Strings {
    index: HashMap<String, i64>,
    table: Vec<String>,
}

impl Default for Strings {
    fn default() -> Self {
        Strings { index: HashMap::from([(String::new(), 0)]), table: vec![String::new()] }
    }
}

impl Strings {
    fn put(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.index.get(text) {
            return known;
        }
        let next = i64::try_from(self.table.len()).unwrap_or(i64::MAX);
        self.table.push(text.to_owned());
        self.index.insert(text.to_owned(), next);
        next
    }
}

/// A profile that is being built.
#[derive(Default)]
pub(crate) struct Encoder {
    strings: Strings,
    functions: HashMap<(i64, i64), u64>,
    profile: Profile,
}

impl Encoder {
    /// What is measured, and its unit.
    pub(crate) fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.strings.put(name), unit: self.strings.put(unit) }
    }

    /// A property of a sample.
    pub(crate) fn label(&mut self, key: &str, text: &str) -> Label {
        Label { key: self.strings.put(key), str: self.strings.put(text) }
    }

    /// The number of a function, which is its position and begins at 1.
    fn function(&mut self, frame: &Frame) -> u64 {
        let name = self.strings.put(&frame.name);
        let filename = self.strings.put(&frame.file);
        let system_name = self.strings.put(&frame.system_name);
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, system_name, filename });
        }
        id
    }

    /// A place in the program: functions that were inlined into each other, the
    /// innermost first.
    pub(crate) fn location(&mut self, inlined: impl Iterator<Item = Frame>) -> u64 {
        let line = inlined
            .map(|frame| Line { function_id: self.function(&frame), line: i64::from(frame.line) })
            .collect::<Vec<_>>();
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, line });
        id
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, sample: Sample) {
        self.profile.sample.push(sample);
    }

    /// The profile, without what it is of.
    pub(crate) fn finish(self) -> Profile {
        Profile { string_table: self.strings.table, ..self.profile }
    }
}
