//! What goes wrong in a component.

use sheaf_retry::{Code, Retryable};

/// Why a component cannot go on, or not at the moment.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ComponentError {
    code: Code,
    closed: bool,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ComponentError {
    /// With a code that says whether it passes by itself, and a text that says what, where
    /// and what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ComponentError { code, closed: false, message: message.into(), source: None }
    }

    /// Nobody takes any more what a sink writes, as where whoever reads its standard output has
    /// gone. That is the end of the component and of its run, and no failure.
    pub fn closed(message: impl Into<String>) -> Self {
        ComponentError { closed: true, ..ComponentError::new(Code::FailedPrecondition, message) }
    }

    /// Whether it is such an end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The same with what it came of.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The exit code of a process that ends with it: 2 where it is no use to start the process
    /// again as it is configured, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        exit_code(self.code)
    }

    /// The text with those of all that it came of.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

impl Retryable for ComponentError {
    fn code(&self) -> Code {
        self.code
    }
}

/// The exit code of a process of a component that ends with such an error: 2 where it is no use
/// to start the process again as it is configured, otherwise 1.
pub fn exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::Unimplemented | Code::FormatNewer => 2,
        _ => 1,
    }
}
