//! Conditions and computed values: `amount * 1.19 >= 100 and country in ('DE', 'FR')`.

mod parser;
mod token;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The format keyword of expressions in the schema.
pub(crate) const EXPRESSION_FORMAT: &str = "sheaf-expression";
/// The longest expression.
pub const MAX_EXPRESSION_BYTES: usize = 64 * 1024;
/// How deep an expression may be nested.
pub const MAX_EXPRESSION_DEPTH: usize = 64;
/// How many `and`, `or`, `+` and so on an expression may have.
pub const MAX_EXPRESSION_OPERATORS: usize = 1_000;

/// An expression over the columns of a row, with the text that it was read from.
///
/// From what binds least to what binds most: `or`; `and`; `not`; `=` `!=` `<`
/// `<=` `>` `>=`, `is [not] null`, `[not] in (…)`, `[not] like '…'`; `+` `-`;
/// `*` `/` `%`; `-`. Texts stand in single quotes (`''` is one in it), names of
/// columns that are no plain words in double ones. Words of the language are
/// read in upper and lower case.
///
/// ```
/// use sheaf_pipeline::spec::Expression;
///
/// let condition: Expression = "amount >= 100 and country in ('DE', 'FR')".parse()?;
/// assert_eq!(condition.columns(), ["amount", "country"]);
/// assert!("amount >=".parse::<Expression>().is_err());
/// # Ok::<(), sheaf_pipeline::spec::ExpressionError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    root: Term,
}

/// A part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// The value of a column.
    Column(String),
    /// A value.
    Literal(Literal),
    /// `-a`
    Negative(Box<Term>),
    /// `not a`
    Not(Box<Term>),
    /// `a OPERATOR b`
    Binary(Box<Term>, Operator, Box<Term>),
    /// `a is null`, or `a is not null`.
    IsNull {
        /// What is looked at.
        term: Box<Term>,
        /// Whether it is to have a value.
        negated: bool,
    },
    /// `a in (…)`, or `a not in (…)`.
    In {
        /// What is looked for.
        term: Box<Term>,
        /// Among what.
        list: Vec<Literal>,
        /// Whether it is not to be there.
        negated: bool,
    },
    /// `a like '…'`, or `a not like '…'`: `%` is any text, `_` any character.
    Like {
        /// The text.
        term: Box<Term>,
        /// The pattern.
        pattern: String,
        /// Whether it is not to match.
        negated: bool,
    },
}

/// A value in an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// A text.
    Text(String),
}

/// What stands between two terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `or`
    Or,
    /// `and`
    And,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl Operator {
    /// Whether the result is a number.
    pub const fn is_arithmetic(self) -> bool {
        use Operator::{Divide, Minus, Plus, Remainder, Times};
        matches!(self, Plus | Minus | Times | Divide | Remainder)
    }
}

/// The text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {}", .range.start + 1)]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the text.
    pub range: Range<usize>,
}

impl Expression {
    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole of it.
    pub fn root(&self) -> &Term {
        &self.root
    }

    /// Whether it can be true or false, and so be a condition.
    pub fn is_condition(&self) -> bool {
        match &self.root {
            Term::Binary(_, operator, _) => !operator.is_arithmetic(),
            Term::Negative(_) => false,
            Term::Literal(literal) => matches!(literal, Literal::Bool(_) | Literal::Null),
            Term::Column(_)
            | Term::Not(_)
            | Term::IsNull { .. }
            | Term::In { .. }
            | Term::Like { .. } => true,
        }
    }

    /// The columns that it reads, each once, in the order of the text.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        self.root.columns(&mut columns);
        columns
    }
}

impl Term {
    fn columns<'a>(&'a self, columns: &mut Vec<&'a str>) {
        match self {
            Term::Column(name) if !columns.contains(&name.as_str()) => columns.push(name),
            Term::Column(_) | Term::Literal(_) => {}
            Term::Negative(term)
            | Term::Not(term)
            | Term::IsNull { term, .. }
            | Term::In { term, .. }
            | Term::Like { term, .. } => term.columns(columns),
            Term::Binary(left, _, right) => {
                left.columns(columns);
                right.columns(columns);
            }
        }
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    /// # Errors
    /// [`ExpressionError`] with the place, for texts that are no expression,
    /// too long or nested too deep.
    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        Ok(Expression { root: parser::parse(text)?, text: text.to_owned() })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Expression {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": EXPRESSION_FORMAT, "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (String, Range<usize>) {
        let error = text.parse::<Expression>().unwrap_err();
        (error.message, error.range)
    }

    fn column(name: &str) -> Box<Term> {
        Box::new(Term::Column(name.into()))
    }

    fn binary(left: Box<Term>, operator: Operator, right: Box<Term>) -> Box<Term> {
        Box::new(Term::Binary(left, operator, right))
    }

    #[test]
    fn operators_bind_as_in_sql() {
        let read: Expression = "a or not b and c + d * e < -f".parse().unwrap();
        let product = binary(column("d"), Operator::Times, column("e"));
        let sum = binary(column("c"), Operator::Plus, product);
        let less = binary(sum, Operator::Less, Box::new(Term::Negative(column("f"))));
        let and = binary(Box::new(Term::Not(column("b"))), Operator::And, less);
        assert_eq!(*read.root(), *binary(column("a"), Operator::Or, and));
    }

    #[test]
    fn operators_of_one_rank_go_from_left_to_right() {
        let read: Expression = "a - b - c".parse().unwrap();
        let first = binary(column("a"), Operator::Minus, column("b"));
        assert_eq!(*read.root(), *binary(first, Operator::Minus, column("c")));
    }

    #[test]
    fn texts_and_names_may_hold_quotes() {
        let read: Expression = "\"Net \"\"sum\"\"\" = 'it''s'".parse().unwrap();
        assert_eq!(read.columns(), ["Net \"sum\""]);
        let Term::Binary(_, _, right) = read.root() else { panic!("{read:?}") };
        assert_eq!(**right, Term::Literal(Literal::Text("it's".into())));
    }

    #[test]
    fn lists_patterns_and_nulls_may_be_negated() {
        for text in ["a in (1, 2.5, 'x', null, true, -3)", "a LIKE 'x%'", "a IS NULL"] {
            let plain: Expression = text.parse().unwrap();
            assert!(plain.is_condition(), "{text}");
        }
        let read: Expression = "a not in (-1)".parse().unwrap();
        let list = vec![Literal::Integer(-1)];
        assert_eq!(*read.root(), Term::In { term: column("a"), list, negated: true });
        let read: Expression = "a is not null".parse().unwrap();
        assert_eq!(*read.root(), Term::IsNull { term: column("a"), negated: true });
    }

    #[test]
    fn a_value_is_no_condition() {
        for (text, condition) in
            [("a + 1", false), ("'x'", false), ("-a", false), ("active", true), ("a > 1", true)]
        {
            assert_eq!(text.parse::<Expression>().unwrap().is_condition(), condition, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, message, range) in [
            ("", "a value is missing", 0..0),
            ("a >=", "a value is missing", 4..4),
            ("a b", "`b` is not expected here", 2..3),
            ("a = 'x", "the text has no end: a `'` is missing", 4..6),
            ("(a", "a `)` is missing", 2..2),
            ("a in ()", "a value is missing", 6..7),
            ("a in (b)", "only values may stand in this list", 6..7),
            ("a & b", "`&` is not part of the language", 2..3),
            ("1.2.3", "`1.2.3` is not a number", 0..5),
            ("99999999999999999999", "`99999999999999999999` is not a number", 0..20),
            ("a < b < c", "`<` is not expected here", 6..7),
            ("ä # b", "`#` is not part of the language", 3..4),
        ] {
            assert_eq!(error(text), (message.to_owned(), range), "{text}");
        }
    }

    #[test]
    fn depth_and_length_have_limits() {
        let deep = format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(error(&deep).0, "nested deeper than 64 levels");
        assert_eq!(error(&"not ".repeat(10_000)).0, "nested deeper than 64 levels");
        let chain = format!("a{}", " + a".repeat(15_000));
        assert_eq!(error(&chain).0, "more than 1000 operators");
        let long = format!("a = '{}'", "x".repeat(MAX_EXPRESSION_BYTES));
        assert_eq!(error(&long).0, "65542 bytes are over the limit of 65536");
    }

    #[test]
    fn long_chains_within_the_length_are_read() {
        let chain = format!("a{}", " or a = 1".repeat(900));
        assert!(chain.parse::<Expression>().is_ok());
    }
}
