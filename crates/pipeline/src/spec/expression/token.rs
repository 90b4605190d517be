//! From text to tokens.

use std::ops::Range;

use super::{ExpressionError, Literal};

/// A piece of an expression, with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Name(String),
    /// A word of the language, in lower case.
    Word(&'static str),
    Literal(Literal),
    Symbol(&'static str),
}

const WORDS: [&str; 6] = ["and", "or", "not", "is", "in", "like"];
/// Longer ones before those that they begin with.
const SYMBOLS: [&str; 16] =
    ["<=", ">=", "!=", "<>", "==", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ","];

/// All tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = token(text, at, first)?;
        tokens.push(Token { kind, range: at..at + length });
        at += length;
    }
    Ok(tokens)
}

fn token(text: &str, at: usize, first: char) -> Result<(Kind, usize), ExpressionError> {
    let rest = &text[at..];
    match first {
        '\'' => {
            let (content, length) = quoted(rest, '\'', at, "the text")?;
            Ok((Kind::Literal(Literal::Text(content)), length))
        }
        '"' => {
            let (content, length) = quoted(rest, '"', at, "the name")?;
            Ok((Kind::Name(content), length))
        }
        _ if first.is_ascii_digit() => number(rest, at),
        _ if first.is_alphabetic() || first == '_' => Ok(word(rest)),
        _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => Ok((Kind::Symbol(symbol), symbol.len())),
            None => Err(ExpressionError {
                message: format!("`{first}` is not part of the language"),
                range: at..at + first.len_utf8(),
            }),
        },
    }
}

/// The content of a quoted text at the beginning of `rest`, and its length with quotes.
fn quoted(
    rest: &str,
    quote: char,
    at: usize,
    what: &str,
) -> Result<(String, usize), ExpressionError> {
    let mut content = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character != quote {
            content.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Ok((content, index + 1));
        }
    }
    let message = format!("{what} has no end: a `{quote}` is missing");
    Err(ExpressionError { message, range: at..at + rest.len() })
}

fn number(rest: &str, at: usize) -> Result<(Kind, usize), ExpressionError> {
    let end = rest
        .char_indices()
        .find(|(index, c)| {
            let signed = matches!(c, '+' | '-') && rest[..*index].ends_with(['e', 'E']);
            !(c.is_ascii_alphanumeric() || *c == '.' || *c == '_' || signed)
        })
        .map_or(rest.len(), |(index, _)| index);
    let text = &rest[..end];
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let literal = match plain {
        true => text.parse().ok().map(Literal::Integer),
        false => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Number),
    };
    let wrong =
        || ExpressionError { message: format!("`{text}` is not a number"), range: at..at + end };
    literal.map(|literal| (Kind::Literal(literal), end)).ok_or_else(wrong)
}

fn word(rest: &str) -> (Kind, usize) {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let text = &rest[..end];
    let lower = text.to_ascii_lowercase();
    let kind = match lower.as_str() {
        "true" => Kind::Literal(Literal::Bool(true)),
        "false" => Kind::Literal(Literal::Bool(false)),
        "null" => Kind::Literal(Literal::Null),
        _ => match WORDS.iter().find(|word| **word == lower) {
            Some(word) => Kind::Word(word),
            None => Kind::Name(text.to_owned()),
        },
    };
    (kind, end)
}
