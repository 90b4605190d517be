//! From words to a condition.

use super::lexer::Token;
use super::{Comparison, Condition, Literal, MAX_DEPTH};

/// Words that are no names.
const RESERVED: [&str; 9] = ["AND", "OR", "NOT", "IS", "IN", "LIKE", "NULL", "TRUE", "FALSE"];

/// Reads a whole condition.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Condition, String> {
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0 };
    let condition = parser.any()?;
    match parser.tokens.next() {
        None => Ok(condition),
        Some(token) => Err(format!("it ends before {token}, which nothing joins to it")),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    fn takes(&mut self, word: &str) -> bool {
        let is =
            |token: &Token| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word));
        self.tokens.next_if(is).is_some()
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Sign(is) if *is == sign)).is_some()
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.all()?];
        while self.takes("OR") {
            conditions.push(self.all()?);
        }
        Ok(joined(conditions, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.one()?];
        while self.takes("AND") {
            conditions.push(self.one()?);
        }
        Ok(joined(conditions, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} conditions within each other"));
        }
        self.depth += 1;
        let condition = if self.takes("NOT") {
            Condition::Not(Box::new(self.one()?))
        } else if self.takes_sign("(") {
            let condition = self.any()?;
            if !self.takes_sign(")") {
                return Err("a ) is missing".to_owned());
            }
            condition
        } else {
            self.predicate()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn predicate(&mut self) -> Result<Condition, String> {
        let column = self.column()?;
        if self.takes("IS") {
            let is_not = self.takes("NOT");
            if !self.takes("NULL") {
                return Err(format!("{column} IS is followed by NULL or NOT NULL"));
            }
            return Ok(negated(is_not, Condition::IsNull { column }));
        }
        let is_not = self.takes("NOT");
        if self.takes("IN") {
            return Ok(negated(is_not, Condition::In { column, values: self.list()? }));
        }
        if self.takes("LIKE") {
            let Literal::Text(pattern) = self.literal()? else {
                return Err(format!("{column} LIKE is followed by text in single quotes"));
            };
            return Ok(negated(is_not, Condition::Like { column, pattern }));
        }
        if is_not {
            return Err(format!("{column} NOT is followed by IN or LIKE"));
        }
        let comparisons = [
            ("=", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<>", Comparison::NotEqual),
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        for (sign, comparison) in comparisons {
            if self.takes_sign(sign) {
                return Ok(Condition::Compare { column, comparison, value: self.literal()? });
            }
        }
        // A column of truth values stands by itself.
        let (comparison, value) = (Comparison::Equal, Literal::Boolean(true));
        Ok(Condition::Compare { column, comparison, value })
    }

    fn column(&mut self) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Quoted(name)) => Ok(name),
            Some(Token::Word(name))
                if !RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word)) =>
            {
                Ok(name)
            }
            Some(other) => Err(format!("{other} stands where the name of a column is wanted")),
            None => Err("it ends where the name of a column is wanted".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        if !self.takes_sign("(") {
            return Err("IN is followed by constants in parentheses".to_owned());
        }
        let mut values = vec![self.literal()?];
        while self.takes_sign(",") {
            values.push(self.literal()?);
        }
        if self.takes_sign(")") { Ok(values) } else { Err("a ) is missing".to_owned()) }
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Literal::Text(text)),
            Some(Token::Number(text)) => number(&text),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => {
                Ok(Literal::Boolean(true))
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => {
                Ok(Literal::Boolean(false))
            }
            Some(other) => Err(format!("{other} stands where a constant is wanted")),
            None => Err("it ends where a constant is wanted".to_owned()),
        }
    }
}

/// One condition stands for itself. What joins many is no deeper than one of
/// them: a condition is evaluated by recursion.
fn joined(mut conditions: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match conditions.pop() {
        Some(only) if conditions.is_empty() => only,
        last => {
            conditions.extend(last);
            join(conditions)
        }
    }
}

fn negated(is_not: bool, condition: Condition) -> Condition {
    if is_not { Condition::Not(Box::new(condition)) } else { condition }
}

fn number(text: &str) -> Result<Literal, String> {
    if let Ok(integer) = text.parse() {
        return Ok(Literal::Integer(integer));
    }
    let is_fraction = text.contains(['.', 'e', 'E']);
    let number = text.parse::<f64>().ok().filter(|number| is_fraction && number.is_finite());
    number.map(Literal::Number).ok_or_else(|| format!("{text} is no number that can be read"))
}
