//! The rules that a file may break.

use std::fmt;

macro_rules! rules {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $name:literal; )*) => {
        /// Which rule a file breaks: a closed set of stable words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $( $(#[doc = $doc])+ $variant, )*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Rule] = &[ $( Rule::$variant, )* ];

            /// The word that stands in messages and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $( Rule::$variant => $name, )* }
            }
        }
    };
}

rules! {
    /// The text is no YAML, or says one thing twice.
    Syntax = "syntax";
    /// The file is too large, too deep, or repeats itself too often.
    Limit = "limit";
    /// There is no such field.
    UnknownField = "unknown-field";
    /// A field that has to be there is not.
    MissingField = "missing-field";
    /// A value is of another type than the field.
    WrongType = "wrong-type";
    /// A value is not of the form, or none of the words, that the field takes.
    InvalidValue = "invalid-value";
    /// A number, or the length of a list or text, is out of its range.
    OutOfRange = "out-of-range";
    /// There is no such built-in component.
    UnknownKind = "unknown-kind";
    /// A condition or a computed value is not of the language.
    Expression = "expression";
    /// A component is neither built in nor a program of one's own.
    NoProgram = "no-program";
    /// Two components have one identifier.
    DuplicateId = "duplicate-id";
    /// A component is read that does not exist, or that sends nothing.
    UnknownInput = "unknown-input";
    /// One component is read twice by another.
    DuplicateInput = "duplicate-input";
    /// A processor or sink reads nothing.
    NoInputs = "no-inputs";
    /// Rows would go round in a circle.
    Cycle = "cycle";
    /// No source leads to a component.
    Unreachable = "unreachable";
    /// Nobody reads what a component sends.
    Unread = "unread";
    /// Two settings exclude each other.
    Conflict = "conflict";
    /// A secret stands in the file.
    InlineSecret = "inline-secret";
    /// A test does not fit the pipeline.
    Test = "test";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
