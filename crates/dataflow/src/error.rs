//! What goes wrong in a component.

use sheaf_retry::{Code, Retryable};

/// Why a component cannot go on, or not at the moment.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ComponentError {
    code: Code,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ComponentError {
    /// With a code that says whether it passes by itself, and a text that says what, where
    /// and what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ComponentError { code, message: message.into(), source: None }
    }

    /// The same with what it came of.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl Retryable for ComponentError {
    fn code(&self) -> Code {
        self.code
    }
}
