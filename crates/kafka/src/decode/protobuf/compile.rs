//! From the text of a schema to its descriptors.

use std::collections::HashMap;

use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// The name of a schema, which has none of its own.
const MAIN: &str = "registered.proto";

/// Compiles a schema and all that it imports.
pub(super) fn compile(
    text: &str,
    references: &[(String, String)],
) -> Result<FileDescriptor, String> {
    let mut main = MAIN.to_owned();
    while references.iter().any(|(name, _)| *name == main) {
        main.insert(0, '_');
    }
    let mut texts: HashMap<String, String> = references.iter().cloned().collect();
    texts.insert(main.clone(), text.to_owned());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.open_file(&main).map_err(|e| e.to_string())?;
    compiler
        .descriptor_pool()
        .get_file_by_name(&main)
        .ok_or_else(|| "the compiler left the schema out".to_owned())
}

/// The message at a path: the position of one of the file, then of one of
/// that, and so on.
pub(super) fn find(file: &FileDescriptor, path: &[usize]) -> Result<MessageDescriptor, String> {
    let none = || format!("it has no message at {path:?}");
    let (first, inner) = path.split_first().ok_or_else(none)?;
    let mut message = file.messages().nth(*first).ok_or_else(none)?;
    for position in inner {
        // The entries of maps are messages of the compiler, not of the text.
        let child = {
            let mut children = message.child_messages().filter(|child| !child.is_map_entry());
            children.nth(*position)
        };
        message = child.ok_or_else(none)?;
    }
    Ok(message)
}

/// The path of the message of this full name.
pub(super) fn path_of(file: &FileDescriptor, name: &str) -> Result<Vec<usize>, String> {
    let mut open: Vec<_> = file.messages().enumerate().map(|(at, one)| (vec![at], one)).collect();
    let mut known = Vec::new();
    while let Some((path, message)) = open.pop() {
        if message.full_name() == name {
            return Ok(path);
        }
        known.push(message.full_name().to_owned());
        let children = message.child_messages().filter(|child| !child.is_map_entry());
        open.extend(children.enumerate().map(|(at, child)| {
            let path = path.iter().copied().chain([at]).collect();
            (path, child)
        }));
    }
    known.sort_unstable();
    Err(format!("it has no message {name}; there are: {}", known.join(", ")))
}

/// Files that are in memory.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
