//! Names of tables for topics.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use crate::error::Error;

/// PostgreSQL cuts longer names off.
const MAX_LENGTH: usize = 63;
/// What a hash takes of that, with its underscore.
const HASH_LENGTH: usize = 9;

/// The name of a table for a topic: ASCII letters, digits and underscores stay,
/// all else becomes an underscore.
///
/// A first digit and the names that Sheaf keeps to itself (`_sheaf…`) get the
/// prefix `t_`; of more than 63 bytes the end is replaced by a hash of the
/// topic. Different topics may get one name: [`TableNames`] finds that out.
///
/// ```
/// use sheaf_connectors::sanitise;
///
/// assert_eq!(sanitise("shop.orders-eu"), "shop_orders_eu");
/// assert_eq!(sanitise("2024"), "t_2024");
/// ```
pub fn sanitise(topic: &str) -> String {
    let keep = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let mut name: String = topic.chars().map(keep).collect();
    let digit = name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || digit || is_reserved(&name) {
        name.insert_str(0, "t_");
    }
    if name.len() > MAX_LENGTH {
        let hash = XxHash3_64::oneshot(topic.as_bytes()) >> 32;
        name.truncate(MAX_LENGTH - HASH_LENGTH);
        name = format!("{name}_{hash:08x}");
    }
    name
}

/// Whether tables of this name are Sheaf's own.
pub(super) fn is_reserved(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("_sheaf"))
}

/// The names of the tables of several topics: two topics never share one.
#[derive(Clone, Debug, Default)]
pub struct TableNames {
    /// Topics by the lower case of the name: for DuckDB `A` and `a` are one table.
    topics: BTreeMap<String, String>,
}

impl TableNames {
    /// The name for a topic.
    ///
    /// # Errors
    /// [`Error::Invalid`] when another topic has it.
    pub fn name(&mut self, topic: &str) -> Result<String, Error> {
        let name = sanitise(topic);
        let owner = self.topics.entry(name.to_lowercase()).or_insert_with(|| topic.to_owned());
        if owner != topic {
            return Err(Error::Invalid(format!(
                "topics {owner:?} and {topic:?} would both be written to the table {name}; persist \
                 one of them elsewhere"
            )));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for (topic, name) in [
            ("orders", "orders"),
            ("a\"; DROP TABLE b; --", "a___DROP_TABLE_b____"),
            ("größe", "gr__e"),
            ("", "t_"),
            ("_sheaf_offsets", "t__sheaf_offsets"),
            ("_SHEAF.x", "t__SHEAF_x"),
        ] {
            assert_eq!(sanitise(topic), name);
        }
        let (long, other) = (sanitise(&"x".repeat(64)), sanitise(&"x".repeat(65)));
        assert_eq!((long.len(), other.len()), (63, 63));
        assert_ne!(long, other);
    }

    #[test]
    fn topics_that_would_share_a_table_are_told_apart() {
        let mut names = TableNames::default();
        assert_eq!(names.name("a.b").unwrap(), "a_b");
        assert_eq!(names.name("a.b").unwrap(), "a_b");
        for other in ["a-b", "A.b", "a_b"] {
            let error = names.name(other).unwrap_err().to_string();
            assert!(error.starts_with(&format!("topics \"a.b\" and {other:?}")), "{error}");
        }
    }
}
