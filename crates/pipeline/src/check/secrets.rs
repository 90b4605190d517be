//! Secrets that stand in the file, and how they are kept out of reports.

use std::borrow::Cow;

use crate::diagnostics::{Diagnostic, Rule, Span};
use crate::spec::{Node, NodeValue};

/// Words that make the name of a field one of a secret, without case and hyphens.
const WORDS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "sharedkey",
];
/// Ends of names that say where a secret is, or how it is called.
const HARMLESS: [&str; 12] =
    ["file", "path", "name", "env", "url", "uri", "id", "ttl", "timeout", "type", "kind", "count"];
/// What a Kubernetes secret's reference holds is a name, not a secret.
const REFERENCES: [&str; 4] = ["env", "file", "kubernetesSecret", "command"];

/// Reports secrets, and gives the text of the file without them.
pub(super) fn check<'a>(root: &Node, text: &'a str, found: &mut Vec<Diagnostic>) -> Cow<'a, str> {
    let mut search = Search { found, hidden: Vec::new(), values: Vec::new() };
    search.walk(root, None, 0);
    let Search { hidden, values, .. } = search;
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut bytes = text.as_bytes().to_vec();
    for span in hidden {
        cover(&mut bytes, span.start, span.end);
    }
    // The same secret may stand elsewhere, such as behind an anchor.
    for value in values.iter().filter(|value| value.len() >= 4) {
        for (start, _) in text.match_indices(value.as_str()) {
            cover(&mut bytes, start, start + value.len());
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Stars in place of a part of a text; line ends stay.
fn cover(bytes: &mut [u8], start: usize, end: usize) {
    let end = end.min(bytes.len());
    for byte in bytes.get_mut(start..end).into_iter().flatten() {
        if !matches!(*byte, b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}

/// The text of a document that could not be read, without the values of lines
/// that name a secret.
pub(super) fn without_values(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let end = line.trim_end_matches(['\n', '\r']).len();
        let colon = line.find(':').filter(|colon| {
            let names =
                line[..*colon].split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
            names.into_iter().any(is_secret)
        });
        let colon = colon.or_else(|| line.find("://"));
        let keep = colon.map_or(end, |colon| colon + 1);
        hidden.push_str(&line[..keep]);
        // As many bytes as before: the places of the report still fit.
        hidden.extend(line[keep..end].bytes().map(|byte| if byte == b' ' { ' ' } else { '*' }));
        hidden.push_str(&line[end..]);
    }
    hidden
}

struct Search<'a> {
    found: &'a mut Vec<Diagnostic>,
    hidden: Vec<Span>,
    values: Vec<String>,
}

impl Search<'_> {
    /// `secret` is the name of the field that makes what is below it a secret.
    fn walk(&mut self, node: &Node, secret: Option<&str>, depth: usize) {
        match &node.value {
            NodeValue::Map(entries) => {
                let reference = matches!(entries.as_slice(),
                    [only] if REFERENCES.contains(&only.key.as_str()));
                for entry in entries {
                    let own = is_secret(&entry.key).then_some(entry.key.as_str());
                    let below = own.or(secret).filter(|_| !reference);
                    // Rows of tests are data; a column may be called anything.
                    if depth > 0 || entry.key != "tests" {
                        self.walk(&entry.value, below, depth + 1);
                    }
                }
            }
            NodeValue::List(items) => {
                self.arguments(items);
                items.iter().for_each(|item| self.walk(item, secret, depth + 1));
            }
            NodeValue::Text(text) => self.text(node, text, secret),
            // A PIN is a secret too.
            NodeValue::Integer(_) | NodeValue::Number(_) => {
                if let Some(name) = secret {
                    self.report(node, name, &format!("the secret `{name}` stands in the file"));
                }
            }
            NodeValue::Null | NodeValue::Bool(_) => {}
        }
    }

    fn text(&mut self, node: &Node, text: &str, secret: Option<&str>) {
        if let Some(name) = secret.filter(|_| !text.is_empty()) {
            self.values.push(text.to_owned());
            self.report(node, name, &format!("the secret `{name}` stands in the file"));
        } else if let Some(password) = password_of(text) {
            self.values.push(password.to_owned());
            self.report(node, "uri", "the address has a password in it");
        } else if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
            self.report(node, "key", "a private key stands in the file");
        }
    }

    /// `--password x` and `--password=x`.
    fn arguments(&mut self, items: &[Node]) {
        let mut before: Option<&str> = None;
        for item in items {
            let text = item.text().unwrap_or_default();
            let option = text.strip_prefix('-').map(|text| text.trim_start_matches('-'));
            let inline = option.and_then(|option| option.split_once('='));
            let value = match (before, inline) {
                (_, Some((name, value))) if is_secret(name) => Some((name, value)),
                (Some(name), _) if option.is_none() => Some((name, text)),
                _ => None,
            };
            if let Some((name, value)) = value.filter(|(_, value)| !value.is_empty()) {
                self.values.push(value.to_owned());
                self.report(item, name, &format!("the secret `{name}` stands in the file"));
            }
            before = option.filter(|option| is_secret(option));
        }
    }

    fn report(&mut self, node: &Node, name: &str, message: &str) {
        self.hidden.push(node.span);
        let problem = Diagnostic::error(Rule::InlineSecret, node.span, message);
        let problem = problem.label("whoever reads the file has it");
        let variable = variable(name);
        self.found.push(problem.help(format!(
            "say where it is: `{{env: {variable}}}`, `{{file: PATH}}`, \
             `{{kubernetesSecret: {{name: NAME, key: KEY}}}}` or `{{command: [PROGRAM]}}`"
        )));
    }
}

/// `clientSecret` and `client-secret` as `CLIENT_SECRET`.
fn variable(name: &str) -> String {
    let mut variable = String::new();
    let mut small = false;
    for character in name.chars().take(64) {
        if small && character.is_uppercase() {
            variable.push('_');
        }
        small = character.is_lowercase();
        match character.is_alphanumeric() {
            true => variable.extend(character.to_uppercase()),
            false => variable.push('_'),
        }
    }
    variable
}

fn is_secret(name: &str) -> bool {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    let plain: String = letters.flat_map(char::to_lowercase).take(200).collect();
    let plain = plain.strip_suffix('s').unwrap_or(&plain);
    WORDS.iter().any(|word| plain.contains(word))
        && !HARMLESS.iter().any(|end| plain.ends_with(end))
        && plain != "kubernetessecret"
}

/// The password of an address such as `postgresql://user:password@host`.
fn password_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "password",
            "DB_PASSWORD",
            "api-key",
            "apiKey",
            "AccessToken",
            "clientSecret",
            "private_key",
            "tokens",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["passwordFile", "tokenUrl", "SECRET_NAME", "key", "user", "tokenTtl", "pass"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn passwords_are_found_in_addresses() {
        assert_eq!(password_of("postgresql://ann:s3cret@db/x"), Some("s3cret"));
        for text in ["postgresql://ann@db/x", "http://host:80/a@b", "plain", "a://b:@c"] {
            assert_eq!(password_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_is_shown_without_secrets() {
        let text = "a: [1\npassword: hunter2\nuri: postgresql://a:b@c\nb: ä\n";
        let hidden = without_values(text);
        assert_eq!(hidden, "a: [1\npassword: *******\nuri: postgresql:*******\nb: ä\n");
    }
}
