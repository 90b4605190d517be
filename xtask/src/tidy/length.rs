//! How long a file is without its tests.

/// Lines before the trailing `#[cfg(test)] mod …`, or all of them.
pub(super) fn without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts_tests = |index: usize| {
        if lines[index] != "#[cfg(test)]" {
            return false;
        }
        // Further attributes may stand between the two.
        let item = lines[index + 1..].iter().find(|line| !line.starts_with("#["));
        item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
            // Trailing: nothing at the outermost level follows the closing bracket.
            && lines[index..]
                .iter()
                .position(|line| *line == "}")
                .is_some_and(|end| lines[index + end + 1..].iter().all(|line| line.is_empty()))
    };
    (0..lines.len()).find(|index| starts_tests(*index)).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::without_tests;

    #[test]
    fn a_trailing_test_module_does_not_count() {
        assert_eq!(without_tests("a\nb\n\n#[cfg(test)]\nmod tests {\n    x\n}\n"), 3);
        assert_eq!(without_tests("a\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n}\n"), 1);
    }

    #[test]
    fn code_after_the_test_module_counts_and_so_does_the_module() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n}\nfn b() {\n}\n"), 6);
    }

    #[test]
    fn test_only_items_that_are_no_module_count() {
        assert_eq!(without_tests("#[cfg(test)]\nuse x;\nfn a() {}\n"), 3);
        assert_eq!(without_tests("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
    }
}
