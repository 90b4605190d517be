//! How topics are decoded whose schemas are in files.

use std::collections::BTreeMap;

use sheaf_kafka::{DecoderOptions, SchemaFile};

/// How topics are decoded that have a file, and all others; what is wrong goes to
/// `problems`.
pub(super) fn resolve(
    files: &[SchemaFile],
    (topics, decoder): (&[String], &mut DecoderOptions),
    problems: &mut Vec<String>,
) -> BTreeMap<String, DecoderOptions> {
    let plain = decoder.clone();
    let mut decoders = BTreeMap::new();
    for file in files {
        let options = match file.read(&plain) {
            Ok(options) => options,
            Err(problem) => {
                problems.push(format!("--schema {}: {problem}", file.path().display()));
                continue;
            }
        };
        let Some(topic) = file.topic() else {
            *decoder = options;
            continue;
        };
        let is_read = topics.iter().any(|known| known == topic || known.starts_with('^'));
        if !is_read {
            problems.push(format!("--schema {topic}=…: --topics does not name {topic}"));
        }
        decoders.insert(topic.to_owned(), options);
    }
    decoders
}
