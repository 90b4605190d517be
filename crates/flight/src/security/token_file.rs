//! The format of token files.
//!
//! One token a line, with an optional name before it and optional words after
//! it, in any order; `#` begins a comment line.
//!
//! ```text
//! # made with: openssl rand -hex 32
//! 6f0c…e1
//! worker-a 93ab…07 expires=2027-01-31T00:00:00Z
//! laptop sha256:5e88…d8 allow=batches:rw,coordinator:r calls=16 quota=10GiB
//! ```

use std::collections::HashSet;
use std::path::Path;

use sheaf_retry::Timestamp;

use super::file;
use super::secret::Secret;
use super::token_words::{self, TokenLimits};
use crate::error::{Error, invalid};

/// Shortest token that is accepted: a shorter one can be guessed.
const MIN_TOKEN: usize = 16;
/// Longest one: it travels in a header of every call.
const MAX_TOKEN: usize = 512;
/// Most tokens of one file: every one is compared with at each call.
const MAX_TOKENS: usize = 1_000;
/// Longest name.
const MAX_NAME: usize = 100;
/// How a line says that it holds no token but its SHA-256.
const HASHED: &str = "sha256:";

/// One line of a token file.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its name, or `line N`.
    pub(crate) name: String,
    /// Whether it has a name: lines move.
    pub(crate) is_named: bool,
    /// SHA-256 of the token.
    pub(crate) digest: [u8; 32],
    /// The token itself, where the file has it.
    pub(crate) token: Option<Secret>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) limits: TokenLimits,
}

/// SHA-256.
pub(crate) fn digest(token: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token);
    let mut bytes = [0; 32];
    // Both are 32 bytes by definition.
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The tokens of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, Error> {
    let bytes = file::read_secret(path, "token file")?;
    parse(&bytes)
        .map_err(|problem| invalid(format!("the token file {}: {problem}", path.display())))
}

/// The first token that a client can send now.
pub(crate) fn first_usable(lines: &[Line], now: Timestamp) -> Option<&Secret> {
    let usable = |line: &&Line| line.expires.is_none_or(|at| at > now);
    lines.iter().filter(usable).find_map(|line| line.token.as_ref())
}

/// Problems name the line and never show a token.
fn parse(bytes: &[u8]) -> Result<Vec<Line>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let (mut lines, mut known) = (Vec::new(), HashSet::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let read = parse_line(line, number).map_err(|why| format!("line {number}: {why}"))?;
        if !known.insert(read.digest) {
            return Err(format!("line {number}: the token is there twice"));
        }
        lines.push(read);
        if lines.len() > MAX_TOKENS {
            return Err(format!("there are over {MAX_TOKENS} tokens"));
        }
    }
    if lines.is_empty() {
        return Err("there is no token in it; write one a line".to_owned());
    }
    Ok(lines)
}

fn parse_line(line: &str, number: usize) -> Result<Line, String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let token_words::Words { expires, limits } = token_words::take(&mut words)?;
    let (name, is_named, token) = match words.as_slice() {
        [token] => (format!("line {number}"), false, *token),
        [name, token] => (checked_name(name)?, true, *token),
        _ => return Err(format!("write {}", token_words::FORM)),
    };
    if limits.quota_bytes.is_some() && !is_named {
        return Err(
            "quota= counts by the name of the token: write NAME TOKEN quota=SIZE".to_owned()
        );
    }
    if let Some(hex) = token.strip_prefix(HASHED) {
        let digest = unhex(hex).ok_or("after sha256: stand 64 hexadecimal digits")?;
        return Ok(Line { name, is_named, digest, token: None, expires, limits });
    }
    if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) {
        let length = token.len();
        return Err(format!(
            "a token of {length} characters; allowed are {MIN_TOKEN} to {MAX_TOKEN}, such as those \
             of `openssl rand -hex 32`"
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is made of visible ASCII characters".to_owned());
    }
    let digest = digest(token.as_bytes());
    Ok(Line { name, is_named, digest, token: Some(Secret::new(token)), expires, limits })
}

/// A name is shown in messages; a token put in its place would be too.
fn checked_name(name: &str) -> Result<String, String> {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "._:@/-".contains(c));
    if name.len() > MAX_NAME || !letters {
        return Err(format!(
            "the name before the token is not 1 to {MAX_NAME} letters, digits and . _ : @ / -"
        ));
    }
    Ok(name.to_owned())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |letter: u8| char::from(letter).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef-token";

    #[test]
    fn names_expiries_and_hashes_are_optional() {
        let hash: String =
            digest(TOKEN.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect();
        let text = format!(
            "# a comment\n\n  {TOKEN}1 \nci {TOKEN}2 expires=1970-01-01T00:00:01+00:00\r\n\
             laptop sha256:{hash}\nsha256:{} expires=2100-01-01T00:00:00Z\n",
            "0".repeat(64)
        );
        let lines = parse(text.as_bytes()).unwrap();
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["line 3", "ci", "laptop", "line 6"]);
        assert_eq!(lines[1].expires, Some(Timestamp::from_millis(1_000)));
        assert_eq!(lines[2].digest, digest(TOKEN.as_bytes()));
        assert!(lines[2].token.is_none());
        let usable = |now| first_usable(&lines[1..], now).map(Secret::expose);
        assert_eq!(usable(Timestamp::EPOCH), Some(format!("{TOKEN}2").as_str()));
        assert_eq!(usable(Timestamp::from_millis(1_000)), None);
    }

    #[test]
    fn the_digest_is_sha256() {
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(unhex(known), Some(digest(b"abc")));
    }

    #[test]
    fn words_after_the_token_come_in_any_order() {
        let text = format!(
            "a {TOKEN}1 calls=2 expires=1970-01-01T00:00:01Z quota=1.5MiB allow=batches:r,*:x\n\
             allow=x {TOKEN}2 allow=*:rwx quota=7\n{TOKEN}3\n{TOKEN}4 calls=1 allow=b:w\n"
        );
        // What looks like a word before the token is no name.
        let problem = parse(text.as_bytes()).unwrap_err();
        assert!(problem.contains("line 2: the name before the token"), "{problem}");
        let lines = parse(text.replace("allow=x", "b").as_bytes()).unwrap();
        let first = &lines[0].limits;
        assert_eq!((first.calls, first.quota_bytes), (Some(2), Some(1_572_864)));
        assert_eq!(first.allowed.to_string(), "*:x,batches:r");
        assert_eq!(lines[0].expires, Some(Timestamp::from_millis(1_000)));
        assert_eq!(lines[1].limits.quota_bytes, Some(7));
        assert_eq!(lines[2].limits, TokenLimits::default());
        assert!(!lines[3].is_named && lines[3].limits.calls == Some(1));
    }

    #[test]
    fn problems_name_the_line_and_not_the_token() {
        let long = format!("name {}", "x".repeat(MAX_TOKEN + 1));
        let twice = format!("{TOKEN}\nb {TOKEN}");
        for (text, why) in [
            ("", "no token"),
            ("# nothing\n", "no token"),
            ("short-secret", "line 1: a token of 12 characters"),
            (long.as_str(), "line 1: a token of 513"),
            ("a 0123456789secretx extra", "line 1: write [NAME]"),
            ("a b 0123456789secretx", "line 1: write [NAME]"),
            ("a 0123456789secretx calls=1 extra", "line 1: write [NAME]"),
            ("a 0123456789secretx rights=all", "line 1: write [NAME]"),
            ("allow=batches:r", "line 1: a token of 15 characters"),
            ("a 0123456789secretx allow=", "line 1: after allow= stand NAMESPACE:RIGHTS"),
            ("a 0123456789secretx allow=batches", "such as batches:rw"),
            ("a 0123456789secretx allow=B:r", "a namespace is 1 to 64 of [a-z0-9_-]"),
            ("a 0123456789secretx allow=b:r,b:w", "line 1: allow= names b twice"),
            ("a 0123456789secretx allow=b:r allow=c:r", "line 1: allow= is there twice"),
            ("a 0123456789secretx calls=1 calls=1", "line 1: calls= is there twice"),
            ("a 0123456789secretx calls=0", "line 1: after calls= stands a number"),
            ("a 0123456789secretx calls=many", "such as 16"),
            ("a 0123456789secretx quota=0", "line 1: after quota= stands a size above 0"),
            ("a 0123456789secretx quota=10Gi", "such as 10GiB"),
            ("0123456789secretx quota=10GiB", "line 1: quota= counts by the name"),
            ("\n0123456789secretx expires=tomorrow", "line 2: after expires="),
            ("sha256:secretx", "line 1: after sha256:"),
            ("näme 0123456789secretx", "line 1: the name"),
            ("0123456789secretxä", "visible ASCII"),
            (twice.as_str(), "line 2: the token is there twice"),
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.contains(why), "{text}: {problem}");
            assert!(!problem.contains("secret") && !problem.contains(TOKEN), "{problem}");
        }
        let many: String = (0..=MAX_TOKENS).map(|n| format!("{TOKEN}{n}\n")).collect();
        assert!(parse(many.as_bytes()).unwrap_err().contains("over 1000"));
    }
}
