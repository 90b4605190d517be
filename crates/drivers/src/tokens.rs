//! The tokens of a pipeline's places, where they are made before it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sheaf_flight::{Error, Secret, invalid, read_secret_file};
use sheaf_pipeline::registry::Token;

/// The tokens of a pipeline's places, and the one that its components show each other. Not
/// shown by `Debug`.
#[derive(Clone)]
pub struct Tokens {
    pub(crate) places: BTreeMap<String, Token>,
    pub(crate) data: Token,
}

/// How they are written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    data_token: String,
    places: BTreeMap<String, String>,
}

impl Tokens {
    /// Those of a file, as `sheafctl render` writes it: JSON with `dataToken` and `places`.
    ///
    /// # Errors
    /// `failed_precondition` where every user of the machine may read the file;
    /// `invalid_argument` for another form and for an empty token; else what the system says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_secret_file(path, "token file")?;
        let wrong = |why: String| invalid(format!("the token file {} {why}", path.display()));
        // Where, and never what: it is secret.
        let written: Written = serde_json::from_str(text.expose()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            wrong(format!("is of another form, at line {line}, column {column}: render it anew"))
        })?;
        let places = written.places.iter().map(|(place, token)| (place.as_str(), token));
        let empty = places
            .chain([("dataToken", &written.data_token)])
            .find_map(|(name, token)| token.trim().is_empty().then(|| name.to_owned()));
        if let Some(name) = empty {
            return Err(wrong(format!("has an empty token for {name}")));
        }
        let places = written.places.into_iter().map(|(place, token)| (place, Token::new(token)));
        Ok(Tokens { places: places.collect(), data: Token::new(written.data_token) })
    }

    /// The token of a place; empty where there is no such place.
    pub(crate) fn place(&self, place: &str) -> &str {
        self.places.get(place).map_or("", |token| token.secret().expose())
    }

    /// What components show each other.
    pub(crate) fn data(&self) -> &str {
        self.data.secret().expose()
    }

    /// As [`Tokens::read`] reads them.
    #[cfg(any(feature = "kubernetes", test))]
    pub(crate) fn to_json(&self) -> Secret {
        let places = self.places.iter();
        let places =
            places.map(|(place, token)| (place.clone(), token.secret().expose().to_owned()));
        let written = Written { data_token: self.data().to_owned(), places: places.collect() };
        // Texts under names: that can always be written.
        let text = serde_json::to_string_pretty(&written).unwrap_or_default();
        Secret::new(text + "\n")
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens of {} places", self.places.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Tokens::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_again_and_never_shown() {
        let text = r#"{"dataToken": "hunter2", "places": {"p:a": "hunter3"}}"#;
        let tokens = read(text, 0o440).unwrap();
        assert_eq!(
            (tokens.data(), tokens.place("p:a"), tokens.place("p:b")),
            ("hunter2", "hunter3", "")
        );
        let again = read(tokens.to_json().expose(), 0o600).unwrap();
        assert_eq!(again.place("p:a"), "hunter3");
        assert!(!format!("{tokens:?}").contains("hunter"));
    }

    #[test]
    fn a_file_of_another_form_is_told_by_its_place_and_shows_no_token() {
        for (text, part) in [
            (r#"{"dataToken": "hunter2", "place": {}}"#, "line 1"),
            (r#"{"dataToken": "hunter2"} x"#, "of another form"),
            (r#"{"dataToken": "hunter2", "places": {"p:a": " "}}"#, "an empty token for p:a"),
            (r#"{"dataToken": "", "places": {}}"#, "an empty token for dataToken"),
        ] {
            let error = read(text, 0o600).unwrap_err();
            assert!(error.contains(part) && error.contains("tokens.json"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let open = read(r#"{"dataToken": "a", "places": {}}"#, 0o644).unwrap_err();
        assert!(open.contains("chmod 600"), "{open}");
    }
}
