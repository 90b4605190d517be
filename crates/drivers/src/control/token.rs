//! The token of a server that runs pipelines.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::hmac;
use sheaf_flight::Secret;
use sheaf_pipeline::registry::Token;
use sheaf_retry::Timestamp;

/// Bits of a mode that let others read or write.
const OTHERS: u32 = 0o077;

/// What calls have to show that start and stop programs.
#[derive(Clone, Debug)]
pub struct ServerToken(Token);

impl ServerToken {
    /// That of a file, which is made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be read or made, or others than its owner may read it.
    pub fn open(path: &Path, now: Timestamp) -> io::Result<Self> {
        let token = Token::generate(now.as_millis());
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                file.write_all(token.secret().expose().as_bytes())?;
                Ok(ServerToken(token))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => ServerToken::read(path),
            Err(error) => Err(error),
        }
    }

    /// That of a file.
    ///
    /// # Errors
    /// As [`ServerToken::open`], and where there is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mode = std::fs::metadata(path)?.mode();
        if mode & OTHERS != 0 {
            let problem = format!("others may read it; run chmod 600 {}", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        let text = std::fs::read_to_string(path)?;
        let text = text.trim();
        if text.is_empty() {
            let problem = "it is empty; remove it, and start the server again";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(ServerToken(Token::new(text)))
    }

    /// For who has to show it.
    pub fn secret(&self) -> &Secret {
        self.0.secret()
    }

    /// What only who has the token can answer to a question that is asked once. It tells
    /// nothing of the token.
    pub fn proof(&self, nonce: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret().expose().as_bytes());
        let tag = hmac::sign(&key, nonce.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this is it; the time tells nothing of where they differ.
    pub fn is(&self, shown: &str) -> bool {
        self.0.digest().is_of(&Secret::new(shown))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control-token");
        assert!(ServerToken::read(&path).is_err());
        let first = ServerToken::open(&path, Timestamp::EPOCH).unwrap();
        let second = ServerToken::open(&path, Timestamp::EPOCH).unwrap();
        assert!(first.is(second.secret().expose()) && !first.is("x") && !first.is(""));
        assert_eq!(first.proof("n"), second.proof("n"));
        assert!(first.proof("n") != first.proof("m") && first.proof("n").len() == 64);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ServerToken::read(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
