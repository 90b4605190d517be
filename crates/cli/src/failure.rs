//! How a command fails: what, why, what to do, and with which exit code.

use std::error::Error;
use std::io;

use serde::Serialize;
use sheaf_retry::{Code, Retryable};

/// The end of a command that did not succeed, ready to be shown.
///
/// Shown as
/// ```text
/// error: what went wrong
/// cause: why
/// help: what to do about it
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: Code,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    help: String,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    exit: Option<u8>,
}

impl Failure {
    /// A failure whose advice is that of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let help = code.advice().to_owned();
        let (message, causes) = (message.into(), Vec::new());
        Failure { code, message, causes, help, quiet: false, exit: None }
    }

    /// An error with its whole chain of causes. A cause whose text is in the
    /// text before it already is not repeated.
    pub fn from_error<E: Retryable + Error>(error: &E) -> Self {
        let mut failure = Failure::new(error.code(), error.to_string());
        failure.add_causes(error.source());
        failure
    }

    /// What standard output answered.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::closed_pipe();
        }
        Failure::new(error.code(), "standard output cannot be written").because(error)
    }

    /// The reader of the data has gone: no error, nothing to say.
    pub fn closed_pipe() -> Self {
        let message = "the reader of the output has gone";
        Failure { quiet: true, ..Failure::new(Code::Cancelled, message) }
    }

    /// With a cause, and that one's own causes.
    #[must_use]
    pub fn because(mut self, cause: impl Error) -> Self {
        self.add_cause(cause.to_string());
        self.add_causes(cause.source());
        self
    }

    /// With other advice.
    #[must_use]
    pub fn help(mut self, advice: impl Into<String>) -> Self {
        self.help = advice.into();
        self
    }

    /// With an exit code of its own: what a command found out, such as a test that failed, is
    /// no error of one of the codes.
    #[must_use]
    pub fn exits(mut self, code: u8) -> Self {
        self.exit = Some(code);
        self
    }

    /// Said of a thing, such as a file or a batch: `thing: message`. A message
    /// that names it already stays as it is.
    #[must_use]
    pub fn of(mut self, thing: impl std::fmt::Display) -> Self {
        let thing = thing.to_string();
        if !self.message.contains(&thing) {
            self.message = format!("{thing}: {}", self.message);
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The code that the process ends with; 0 for a closed pipe.
    pub fn exit_code(&self) -> u8 {
        if self.quiet { 0 } else { self.exit.unwrap_or(self.code.exit_code()) }
    }

    /// Why, one cause a line.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What to do about it.
    pub fn advice(&self) -> &str {
        &self.help
    }

    /// Whether nothing is to be shown.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// For people: several lines, the last one with a line end.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            text.push_str(&format!("cause: {cause}\n"));
        }
        if !self.help.is_empty() {
            text.push_str(&format!("help: {}\n", self.help));
        }
        text
    }

    /// For programs: `{"error":{"code","message","causes","help"}}` and a line end.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "error": self }).to_string() + "\n"
    }

    fn add_causes(&mut self, mut cause: Option<&(dyn Error + 'static)>) {
        while let Some(error) = cause {
            self.add_cause(error.to_string());
            cause = error.source();
        }
    }

    fn add_cause(&mut self, text: String) {
        let said = self.message.contains(&text) || self.causes.iter().any(|c| c.contains(&text));
        if !said && !text.is_empty() {
            self.causes.push(text);
        }
    }
}

impl<E: Retryable + Error> From<&E> for Failure {
    fn from(error: &E) -> Self {
        Failure::from_error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open payload b1")]
    struct Open(#[source] io::Error);

    impl Retryable for Open {
        fn code(&self) -> Code {
            Code::Corrupt
        }
    }

    #[test]
    fn an_error_is_shown_with_causes_and_advice() {
        let failure = Failure::from_error(&Open(io::Error::other("checksum differs")));
        let text = failure.to_text();
        assert!(text.starts_with("error: cannot open payload b1\ncause: checksum differs\nhelp: "));
        assert_eq!((failure.code(), failure.exit_code()), (Code::Corrupt, 9));
    }

    #[test]
    fn what_was_found_out_has_an_exit_code_of_its_own() {
        let failure = Failure::new(Code::FailedPrecondition, "1 test failed");
        assert_eq!((failure.exit_code(), failure.exits(1).exit_code()), (5, 1));
    }

    #[test]
    fn a_cause_is_said_once() {
        let failure = Failure::new(Code::Io, "read x: checksum differs")
            .because(Open(io::Error::other("checksum differs")));
        assert_eq!(failure.causes, ["cannot open payload b1"]);
    }

    #[test]
    fn a_thing_is_named_once() {
        let failure = Failure::new(Code::NotFound, "cannot open a.csv").of("a.csv");
        assert_eq!(failure.to_string(), "cannot open a.csv");
        assert_eq!(failure.of("b1").to_string(), "b1: cannot open a.csv");
    }

    #[test]
    fn programs_get_an_object() {
        let text = Failure::new(Code::NotFound, "no batch b1").help("list them").to_json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["code"], "not_found");
        assert_eq!(value["error"]["message"], "no batch b1");
        assert_eq!(value["error"]["help"], "list them");
        assert!(value["error"].get("quiet").is_none());
    }
}
