//! "Did you mean …?"

/// The candidate that is most like `given`, if one is like it at all.
///
/// Case, hyphens and underscores do not count: `batch_rows` is `batchRows`.
pub(crate) fn closest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Nobody misspells a word by so much, and the comparison costs length times length.
    if given.len() > 100 {
        return None;
    }
    let given = plain(given);
    let allowed = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 200)
        .map(|candidate| (strsim::damerau_levenshtein(&given, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["block", "drop-oldest", "spill", "batchRows"];
        assert_eq!(closest("blockk", words), Some("block"));
        assert_eq!(closest("batch_rows", words), Some("batchRows"));
        assert_eq!(closest("dropOldest", words), Some("drop-oldest"));
        assert_eq!(closest("wait", words), None);
        assert_eq!(closest("a", ["b"]), None);
        assert_eq!(closest(&"x".repeat(1_000_000), words), None);
    }
}
