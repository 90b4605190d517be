//! Words that must not stay in the sources.

/// A word and what to do about it.
struct Word {
    text: &'static str,
    todo: &'static str,
}

const fn word(text: &'static str, todo: &'static str) -> Word {
    Word { text, todo }
}

/// In any text. Written in two parts, so that this file does not find itself.
const ANYWHERE: [Word; 3] = [
    word(concat!("FIX", "ME"), "put it right, or open an issue"),
    word(concat!("X", "XX"), "put it right, or open an issue"),
    word(concat!("TO", "DO"), "do it, or open an issue"),
];

/// In Rust.
const IN_CODE: [Word; 4] = [
    word(concat!("to", "do!("), "build it: what does not exist says so in an error"),
    word(concat!("unimpl", "emented!("), "build it: what does not exist says so in an error"),
    word(concat!("db", "g!("), "remove it"),
    word(concat!("#[ign", "ore]"), "give a reason: `#[ignore = \"…\"]`, or make it run"),
];

/// In Rust below a `tests` folder.
const IN_TESTS: [Word; 2] =
    [word(concat!("thread::", "sleep("), SLEEP), word(concat!("time::", "sleep("), SLEEP)];

const SLEEP: &str = "wait for a condition with a deadline (testkit), or say why in a comment \
                     that begins with `// sleep:` on the line or the one above";

/// Which rules hold for a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) code: bool,
    pub(super) test: bool,
}

/// All forbidden words of a text: line, what, what to do.
pub(super) fn find(text: &str, kind: Kind) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut above = "";
    for (index, line) in text.lines().enumerate() {
        let mut report = |word: &Word| {
            found.push((index + 1, format!("`{}`", word.text), word.todo.to_owned()));
        };
        ANYWHERE.iter().filter(|word| has_word(line, word.text)).for_each(&mut report);
        if kind.code {
            IN_CODE.iter().filter(|word| line.contains(word.text)).for_each(&mut report);
        }
        let excused = [line, above].iter().any(|line| line.contains("// sleep: "));
        if kind.code && kind.test && !excused {
            IN_TESTS.iter().filter(|word| line.contains(word.text)).for_each(&mut report);
        }
        above = line;
    }
    found
}

/// Whether `word` stands alone: `mktemp -XXXX` does not count.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::{ANYWHERE, IN_CODE, IN_TESTS, Kind, find};

    const TEST: Kind = Kind { code: true, test: true };
    const CODE: Kind = Kind { code: true, test: false };
    const TEXT: Kind = Kind { code: false, test: false };

    #[test]
    fn every_word_is_found_on_its_line() {
        for word in ANYWHERE.iter().chain(&IN_CODE).chain(&IN_TESTS) {
            let found = find(&format!("a\n    {} b)\n", word.text), TEST);
            assert_eq!(found.len(), 1, "{}", word.text);
            assert_eq!(found[0].0, 2);
        }
    }

    #[test]
    fn parts_of_other_words_are_not_found() {
        let line =
            format!("mktemp {0}{0} and {0}L, PREFIX{1}\n", ANYWHERE[1].text, ANYWHERE[0].text);
        assert!(find(&line, CODE).is_empty());
    }

    #[test]
    fn sleeps_are_refused_in_tests_unless_excused() {
        let sleep = IN_TESTS[0].text;
        assert_eq!(find(sleep, CODE).len(), 0);
        assert_eq!(find(sleep, TEST).len(), 1);
        assert_eq!(find(&format!("// sleep: slow work is what is tested\n{sleep}"), TEST).len(), 0);
        assert_eq!(find(&format!("// sleep: far away\n\n{sleep}"), TEST).len(), 1);
    }

    #[test]
    fn macros_are_refused_in_code_only() {
        assert_eq!(find(IN_CODE[0].text, CODE).len(), 1);
        assert_eq!(find(IN_CODE[0].text, TEXT).len(), 0);
    }
}
