//! Licence expressions: `MIT OR (Apache-2.0 AND ISC)`, `A WITH B`, old `MIT/Apache-2.0`.
//!
//! # Source
//!
//! SPDX specification 2.3, annex D: `WITH` binds tighter than `AND`, `AND`
//! tighter than `OR`.

/// Whether the expression can be fulfilled with allowed licences only.
///
/// `allowed` is asked for single licences, an exception included
/// (`Apache-2.0 WITH LLVM-exception`).
///
/// # Errors
///
/// Says what is wrong when the text is not an expression.
pub(super) fn evaluate(text: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, next: 0, allowed };
    let value = parser.any()?;
    match parser.peek() {
        None => Ok(value),
        Some(token) => Err(format!("`{token}` is not expected in `{text}`")),
    }
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    next: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.next).copied()
    }

    fn take_if(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.every()?;
        while self.take_if("OR") {
            // Not `||`: the right side must be read in any case.
            value |= self.every()?;
        }
        Ok(value)
    }

    fn every(&mut self) -> Result<bool, String> {
        let mut value = self.single()?;
        while self.take_if("AND") {
            value &= self.single()?;
        }
        Ok(value)
    }

    fn single(&mut self) -> Result<bool, String> {
        if self.take_if("(") {
            let value = self.any()?;
            return if self.take_if(")") { Ok(value) } else { Err("`)` is missing".into()) };
        }
        let mut licence = self.name()?.to_owned();
        if self.take_if("WITH") {
            licence = format!("{licence} WITH {}", self.name()?);
        }
        Ok((self.allowed)(&licence))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let token = self.peek().ok_or("a licence is missing at the end")?;
        if ["(", ")", "AND", "OR", "WITH"].contains(&token) {
            return Err(format!("a licence is missing before `{token}`"));
        }
        self.next += 1;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::evaluate;

    fn allows(text: &str) -> bool {
        let allowed = ["MIT", "Apache-2.0", "ISC", "GPL-2.0 WITH Classpath-exception-2.0"];
        evaluate(text, &|licence| allowed.contains(&licence)).unwrap()
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        assert!(allows("MIT OR GPL-3.0"));
        assert!(allows("Unlicense/MIT"));
        assert!(allows("Apache-2.0 / MIT"));
        assert!(!allows("GPL-3.0 OR AGPL-3.0"));
    }

    #[test]
    fn every_joint_licence_must_be_allowed() {
        assert!(allows("Apache-2.0 AND ISC"));
        assert!(!allows("Apache-2.0 AND OpenSSL"));
        assert!(!allows("(MIT OR Apache-2.0) AND GPL-3.0"));
    }

    #[test]
    fn and_binds_tighter_than_or_and_brackets_tighter_than_both() {
        assert!(allows("MIT OR GPL-3.0 AND GPL-2.0"));
        assert!(!allows("(MIT OR GPL-3.0) AND GPL-2.0"));
        assert!(allows("GPL-3.0 AND GPL-2.0 OR MIT"));
    }

    #[test]
    fn an_exception_is_part_of_the_licence() {
        assert!(allows("GPL-2.0 WITH Classpath-exception-2.0"));
        assert!(!allows("GPL-2.0"));
        assert!(!allows("Apache-2.0 WITH LLVM-exception"));
        assert!(allows("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "OR MIT", "MIT WITH", "MIT)"] {
            assert!(evaluate(text, &|_| true).is_err(), "{text:?}");
        }
    }
}
