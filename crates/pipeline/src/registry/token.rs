//! The secrets that places are taken with.

use std::fmt;

use ring::digest::{SHA256, digest};
use sheaf_flight::Secret;
use sheaf_proto::BatchId;
use subtle::ConstantTimeEq as _;

/// The secret of a place, as whoever starts the component is given it.
///
/// The registry keeps its digest only. It is never shown by `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    /// A random one, of 148 bits. `unix_ms` is the time, which is in it too and no
    /// part of what is secret.
    pub fn generate(unix_ms: u64) -> Self {
        Token(Secret::new(random(unix_ms)))
    }

    /// The one that somebody was given.
    pub fn new(text: impl Into<String>) -> Self {
        Token(Secret::new(text))
    }

    /// For whoever has to hand it on.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// What the registry keeps of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }
}

/// A name for one process of a component that nobody else can guess.
pub fn incarnation(unix_ms: u64) -> Secret {
    Secret::new(random(unix_ms))
}

fn random(unix_ms: u64) -> String {
    // Version 7 has 74 random bits: two of them are more than anybody tries.
    let [first, second] = [BatchId::generate(unix_ms), BatchId::generate(unix_ms)];
    format!("{first}{second}").replace('-', "")
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// That of no token: nothing is known whose digest it is.
    pub(crate) const NONE: TokenDigest = TokenDigest([0; 32]);

    fn of(secret: &Secret) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.expose().as_bytes()).as_ref());
        TokenDigest(bytes)
    }

    /// As it was stored.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(TokenDigest)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is that of `presented`: the time tells nothing of where they differ.
    pub fn is_of(&self, presented: &Secret) -> bool {
        TokenDigest::of(presented).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Whether two secrets are the same one, in constant time.
pub(super) fn same(left: &Secret, right: &Secret) -> bool {
    TokenDigest::of(left).is_of(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_its_token_and_no_other() {
        let token = Token::generate(1);
        assert!(token.digest().is_of(token.secret()));
        assert!(!token.digest().is_of(Token::generate(1).secret()));
        assert!(!token.digest().is_of(&Secret::new("")));
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(token.secret().expose()), "{shown}");
    }

    #[test]
    fn an_incarnation_is_of_the_form_that_is_asked_for() {
        let made = incarnation(0);
        super::super::limits::incarnation(made.expose()).unwrap();
        assert_ne!(made, incarnation(0));
    }
}
