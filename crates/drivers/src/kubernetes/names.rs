//! What objects are called, and by which labels they are found.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};

/// The longest name: that of a stateful set has a number and a revision put behind it, and
/// the whole is to be a label of DNS.
const MAX_NAME: usize = 50;
/// Letters of the hash that stands in a name that had to be cut.
const HASH_LETTERS: usize = 10;

/// The label with the name of the pipeline.
pub(crate) const PIPELINE: &str = "sheaf.dev/pipeline";
/// The label with the name of the component in the file.
pub(crate) const COMPONENT: &str = "sheaf.dev/component";
/// The label with the instance, as the plan calls it.
pub(crate) const INSTANCE: &str = "sheaf.dev/instance";
/// The label with the number of the start.
pub(crate) const ATTEMPT: &str = "sheaf.dev/attempt";
/// The label that the control plane has in place of [`COMPONENT`].
pub(crate) const CONTROL: &str = "sheaf.dev/control-plane";

/// The name of the objects of a component, or of one of its instances.
///
/// No two of them share one: identifiers have no two hyphens in a row here, and those that
/// have, or are too long, are told apart by a hash behind three.
pub(crate) fn of_component(pipeline: &str, component: &str) -> String {
    let plain = !pipeline.contains("--") && !component.contains("--");
    // A dot is before the number of an instance only.
    let name = format!("{pipeline}--{}", component.replace('.', "--"));
    if plain && name.len() <= MAX_NAME {
        return name;
    }
    cut(&name, &format!("{pipeline}:{component}"))
}

/// The name of an object that the whole pipeline has once.
pub(crate) fn of_pipeline(pipeline: &str, what: &str) -> String {
    let name = format!("{pipeline}-{what}");
    if !pipeline.contains("--") && name.len() <= MAX_NAME {
        return name;
    }
    cut(&name, &format!("{pipeline}/{what}"))
}

fn cut(name: &str, whole: &str) -> String {
    let hash = hash(whole);
    let keep = MAX_NAME - HASH_LETTERS - 3;
    let kept: String = name.chars().take(keep).collect();
    format!("{}---{hash}", kept.trim_end_matches('-'))
}

/// A short hash, for names.
pub(crate) fn hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    let letters = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    letters.collect::<String>().chars().take(HASH_LETTERS).collect()
}

/// Labels of everything that belongs to a pipeline.
pub(crate) fn labels(pipeline: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/managed-by", "sheafctl"),
        ("app.kubernetes.io/name", "sheaf"),
        ("app.kubernetes.io/part-of", pipeline),
        (PIPELINE, pipeline),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What pods of a component are chosen by.
pub(crate) fn selector(pipeline: &str, component: &str) -> BTreeMap<String, String> {
    let labels = [(PIPELINE, pipeline), (COMPONENT, component)];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What pods of the control plane are chosen by.
pub(crate) fn control_selector(pipeline: &str) -> BTreeMap<String, String> {
    let labels = [(PIPELINE, pipeline), (CONTROL, "true")];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a text may be the value of a label.
pub(crate) fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let end = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(inner)
        && end(text.bytes().next())
        && end(text.bytes().last())
}

/// Whether a text may be the name of a namespace or service: a label of DNS.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_components_share_a_name_and_each_is_a_label_of_dns() {
        let long = "x".repeat(63);
        let pairs = [
            ("a", "b-c"),
            ("a-b", "c"),
            ("a--b", "c"),
            ("a", "b--c"),
            ("a", "b"),
            ("a", "b.1"),
            ("a", "b-1"),
            ("a", "b--1"),
            (long.as_str(), "a"),
            (long.as_str(), "b"),
            ("a", long.as_str()),
            (long.as_str(), long.as_str()),
        ];
        let mut names: HashSet<String> =
            pairs.iter().map(|(pipeline, component)| of_component(pipeline, component)).collect();
        names.extend(["a", "a-control", "a--b", long.as_str()].map(|p| of_pipeline(p, "control")));
        assert_eq!(names.len(), pairs.len() + 4, "{names:?}");
        for name in &names {
            assert!(is_dns_label(name) && name.len() <= MAX_NAME, "{name}");
        }
        assert_eq!(of_component("orders", "read"), "orders--read");
    }

    #[test]
    fn only_what_the_server_takes_is_a_label() {
        for good in ["", "shop", "a.b_c-D"] {
            assert!(is_label_value(good), "{good}");
        }
        for bad in ["two words", "-a", "a-", "ä", &"a".repeat(64)] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }
}
