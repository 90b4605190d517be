//! A place in the text of a message.

use super::super::number;

/// Powers of ten that a float has exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Digits of which any number is exact as a float, and as an `i64`.
const EXACT_DIGITS: usize = 15;
const SAFE_DIGITS: usize = 18;

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Cursor { rest: text }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn skip_space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Goes behind a text that comes next.
    pub(super) fn take(&mut self, text: &[u8]) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Appends the text between quotes, the first of which is behind us.
    pub(super) fn text(&mut self, out: &mut Vec<u8>) -> Option<()> {
        loop {
            let plain = plain(self.rest);
            let (text, rest) = self.rest.split_at(plain);
            out.extend_from_slice(text);
            let (end, rest) = rest.split_first()?;
            self.rest = rest;
            if *end == b'"' {
                return Some(());
            }
            self.escape(out)?;
        }
    }

    /// What a backslash stands for that is behind us.
    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let (kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let byte = match kind {
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                self.rest = rest;
                let code = digits.iter().try_fold(0, |code, digit| {
                    Some(code << 4 | char::from(*digit).to_digit(16)?)
                })?;
                // Surrogates come in pairs, and are none of ours.
                let letter = char::from_u32(code)?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        out.push(byte);
        Some(())
    }

    /// The text of a number.
    fn number(&mut self) -> &'a str {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest.iter().take_while(|byte| is_part(byte)).count();
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        // All of it is ASCII.
        std::str::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        let text = self.number();
        if !number::fits_integer(text) {
            return None;
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.len() > SAFE_DIGITS {
            return text.parse().ok();
        }
        let value = digits.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        Some(if digits.len() < text.len() { -value } else { value })
    }

    pub(super) fn float(&mut self) -> Option<f64> {
        let text = self.number();
        if let Some(value) = short_float(text) {
            return Some(value);
        }
        if !number::fits_float(text) {
            return None;
        }
        text.parse().ok()
    }
}

/// A number of few digits without exponent: an exact whole number divided by an
/// exact power of ten, which rounds once, as parsing does.
fn short_float(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    if digits.len() > EXACT_DIGITS + 1 {
        return None;
    }
    let (mut value, mut point) = (0_u64, None);
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let (whole, fraction) = match point {
        Some(point) => (point, digits.len() - point - 1),
        None => (digits.len(), 0),
    };
    let is_number = whole > 0
        && (whole == 1 || digits[0] != b'0')
        && (point.is_none() || fraction > 0)
        && whole + fraction <= EXACT_DIGITS;
    if !is_number {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "15 digits are exact")]
    let value = value as f64 / POWERS[fraction];
    Some(if digits.len() < text.len() { -value } else { value })
}

/// How many bytes come before a quote or a backslash.
fn plain(text: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'"' || *byte == b'\\';
    let mut before = 0;
    // Without an early end within, so that it is a few instructions for each.
    for chunk in text.chunks_exact(16) {
        if chunk.iter().fold(false, |found, byte| found | is_end(byte)) {
            break;
        }
        before += chunk.len();
    }
    let rest = &text[before..];
    before + rest.iter().position(is_end).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_floats_are_what_parsing_makes_of_them() {
        for text in ["0", "-0", "0.1", "-0.0", "12.50", "123456789.012345", "999999999999999", "7"]
        {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(short_float(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
        for text in ["", "-", ".5", "1.", "01", "1e3", "1.2.3", "--1", "1234567890123456", "1-2"] {
            assert_eq!(short_float(text), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_text_is_found_wherever_it_is() {
        for length in 0..40 {
            for end in ["\"", "\\", ""] {
                let text = format!("{}{end}", "x".repeat(length));
                assert_eq!(plain(text.as_bytes()), length);
                let more = format!("{text}{}", "\"".repeat(20));
                assert_eq!(plain(more.as_bytes()), length);
            }
        }
    }
}
