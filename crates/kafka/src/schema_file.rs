//! Schemas from files, where no registry has them.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arrow_ipc::reader::{FileReader, StreamReader};

use crate::decode::{DecoderOptions, RegisteredKind, RegisteredSchema, ValueSchema};

/// More files than a schema imports.
const MAX_IMPORTS: usize = 1_000;

/// Which file has the schema of which topic, as `FILE`, `TOPIC=FILE` or
/// `TOPIC=FILE.proto#MESSAGE` say it.
///
/// `.avsc` is a schema of Avro and `.proto` one of Protobuf, which the values of
/// messages have that name none; `.arrow` has the columns that messages are to have,
/// of whatever format they are.
#[derive(Clone, Debug)]
pub struct SchemaFile {
    /// All topics, where none is named.
    topic: Option<String>,
    path: PathBuf,
    message: Option<String>,
}

impl FromStr for SchemaFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, file) = match text.split_once('=') {
            Some((topic, file)) => (Some(topic.to_owned()), file),
            None => (None, text),
        };
        let (path, message) = match file.rsplit_once('#') {
            Some((path, message)) => (path, Some(message.to_owned())),
            None => (file, None),
        };
        if path.is_empty() || topic.as_deref() == Some("") || message.as_deref() == Some("") {
            return Err("write FILE, TOPIC=FILE or TOPIC=FILE.proto#MESSAGE".to_owned());
        }
        Ok(SchemaFile { topic, path: path.into(), message })
    }
}

impl SchemaFile {
    /// The topic; none where it is for all.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it, and the files that it imports from its folder: how messages are
    /// decoded by it that are decoded by `plain` without. Blocks.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(&self, plain: &DecoderOptions) -> Result<DecoderOptions, String> {
        let extension = self.path.extension().and_then(|extension| extension.to_str());
        let kind = match extension {
            Some("avsc") => RegisteredKind::Avro,
            Some("proto") => RegisteredKind::Protobuf,
            Some("arrow" | "arrows") => return self.columns(plain),
            _ => {
                let known = "a schema of Avro (.avsc), of Protobuf (.proto) or of Arrow (.arrow)";
                return Err(format!("its name does not end as that of {known}"));
            }
        };
        let text = read(&self.path)?;
        let references = match kind {
            RegisteredKind::Protobuf => imports(&self.path, &text)?,
            _ => Vec::new(),
        };
        let schema = RegisteredSchema { kind, text, references };
        let values = Some(ValueSchema { schema, message: self.message.clone() });
        Ok(DecoderOptions { values, ..plain.clone() })
    }

    /// The columns that messages are to have, of whatever format they are.
    fn columns(&self, plain: &DecoderOptions) -> Result<DecoderOptions, String> {
        let bytes = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        let schema = match bytes.starts_with(b"ARROW1") {
            true => FileReader::try_new(Cursor::new(&bytes), None).map(|file| file.schema()),
            // Also the schema alone, as `pyarrow.Schema.serialize` makes it.
            false => StreamReader::try_new(Cursor::new(&bytes), None).map(|all| all.schema()),
        };
        let schema = schema.map_err(|error| format!("it is no Arrow IPC file: {error}"))?;
        Ok(DecoderOptions { schema: Some(schema), ..plain.clone() })
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The files that a file of Protobuf imports, and those that they import, relative to
/// its folder. Those of Google come with the compiler.
fn imports(path: &Path, text: &str) -> Result<Vec<(String, String)>, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut open = imported(text);
    let mut found: Vec<(String, String)> = Vec::new();
    while let Some(name) = open.pop() {
        let is_known = found.iter().any(|(known, _)| *known == name);
        if is_known || name.starts_with("google/protobuf/") {
            continue;
        }
        if found.len() == MAX_IMPORTS {
            return Err(format!("it imports more than {MAX_IMPORTS} files"));
        }
        let file = folder.join(&name);
        let text = read(&file).map_err(|error| {
            format!("it imports {name}, and {} cannot be read: {error}", file.display())
        })?;
        open.extend(imported(&text));
        found.push((name, text));
    }
    Ok(found)
}

/// The names in the `import` statements of a file.
fn imported(text: &str) -> Vec<String> {
    let statements = text.lines().filter_map(|line| line.trim().strip_prefix("import"));
    let names = statements.filter_map(|rest| {
        let (_, rest) = rest.split_once('"')?;
        rest.split_once('"').map(|(name, _)| name.to_owned())
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_of_one_topic_and_one_message() {
        let of = |text: &str| text.parse::<SchemaFile>();
        let file = of("orders=dir/a.proto#shop.Order").unwrap();
        assert_eq!(
            (file.topic.as_deref(), file.path.to_str()),
            (Some("orders"), Some("dir/a.proto"))
        );
        assert_eq!(file.message.as_deref(), Some("shop.Order"));
        assert!(of("a.avsc").unwrap().topic.is_none());
        for text in ["", "=a.avsc", "t=", "a.proto#"] {
            of(text).unwrap_err();
        }
    }

    #[test]
    fn imports_are_what_their_statements_name() {
        let text = "syntax = \"proto3\";\nimport \"a/b.proto\";\n  import public \"c.proto\";\n";
        assert_eq!(imported(text), ["a/b.proto", "c.proto"]);
    }
}
