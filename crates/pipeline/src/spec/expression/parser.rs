//! From tokens to a tree, by descent: one function for each rank of operators.

use std::ops::Range;

use super::token::{Kind, Token, tokens};
use super::{
    ExpressionError, Literal, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_OPERATORS,
    Operator, Term,
};

type Result<T> = std::result::Result<T, ExpressionError>;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Term> {
    if text.len() > MAX_EXPRESSION_BYTES {
        let message = format!("{} bytes are over the limit of {MAX_EXPRESSION_BYTES}", text.len());
        return Err(ExpressionError { message, range: 0..text.len() });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, next: 0, depth: 0, operators: 0 };
    let term = parser.any()?;
    match parser.peek() {
        None => Ok(term),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    next: usize,
    depth: usize,
    operators: usize,
}

const COMPARISONS: [(&str, Operator); 8] = [
    ("=", Operator::Equal),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<>", Operator::NotEqual),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
];
const SUMS: [(&str, Operator); 2] = [("+", Operator::Plus), ("-", Operator::Minus)];
const PRODUCTS: [(&str, Operator); 3] =
    [("*", Operator::Times), ("/", Operator::Divide), ("%", Operator::Remainder)];

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Term> {
        self.deeper(|parser| {
            parser.chain(|parser| parser.word("or").then_some(Operator::Or), Self::all)
        })
    }

    fn all(&mut self) -> Result<Term> {
        self.chain(|parser| parser.word("and").then_some(Operator::And), Self::negated)
    }

    fn negated(&mut self) -> Result<Term> {
        match self.word("not") {
            true => self.deeper(Self::negated).map(|term| Term::Not(Box::new(term))),
            false => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Term> {
        let left = self.sum()?;
        if let Some(operator) = self.operator(&COMPARISONS) {
            let right = self.sum()?;
            return Ok(Term::Binary(Box::new(left), operator, Box::new(right)));
        }
        let term = Box::new(left);
        if self.word("is") {
            let negated = self.word("not");
            if !matches!(self.peek(), Some(Kind::Literal(Literal::Null))) {
                return Err(self.error_here("`null` is expected after `is`".to_owned()));
            }
            self.next += 1;
            return Ok(Term::IsNull { term, negated });
        }
        let negated = self.word("not");
        if self.word("in") {
            return Ok(Term::In { term, list: self.list()?, negated });
        }
        if self.word("like") {
            let Some(Kind::Literal(Literal::Text(pattern))) = self.peek() else {
                let message = "a text in single quotes is expected after `like`";
                return Err(self.error_here(message.to_owned()));
            };
            self.next += 1;
            return Ok(Term::Like { term, pattern: pattern.clone(), negated });
        }
        match negated {
            true => Err(self.error_here("`in` or `like` is expected after `not`".to_owned())),
            false => Ok(*term),
        }
    }

    fn sum(&mut self) -> Result<Term> {
        self.chain(|parser| parser.operator(&SUMS), Self::product)
    }

    fn product(&mut self) -> Result<Term> {
        self.chain(|parser| parser.operator(&PRODUCTS), Self::unary)
    }

    fn unary(&mut self) -> Result<Term> {
        match self.symbol("-") {
            true => self.deeper(Self::unary).map(|term| Term::Negative(Box::new(term))),
            false => self.primary(),
        }
    }

    fn primary(&mut self) -> Result<Term> {
        match self.peek() {
            Some(Kind::Name(name)) => {
                self.next += 1;
                Ok(Term::Column(name.clone()))
            }
            Some(Kind::Literal(literal)) => {
                self.next += 1;
                Ok(Term::Literal(literal.clone()))
            }
            Some(Kind::Symbol("(")) => {
                self.next += 1;
                let term = self.any()?;
                self.expect(")")?;
                Ok(term)
            }
            Some(Kind::Word(_) | Kind::Symbol(_)) | None => {
                Err(self.error_here("a value is missing".to_owned()))
            }
        }
    }

    /// `(LITERAL, …)`
    fn list(&mut self) -> Result<Vec<Literal>> {
        self.expect("(")?;
        let mut list = Vec::new();
        loop {
            let place = self.place();
            let value = match self.unary()? {
                Term::Literal(literal) => Some(literal),
                Term::Negative(term) => match *term {
                    Term::Literal(Literal::Integer(value)) => Some(Literal::Integer(-value)),
                    Term::Literal(Literal::Number(value)) => Some(Literal::Number(-value)),
                    _ => None,
                },
                _ => None,
            };
            list.push(value.ok_or_else(|| ExpressionError {
                message: "only values may stand in this list".to_owned(),
                range: place,
            })?);
            if !self.symbol(",") {
                self.expect(")")?;
                return Ok(list);
            }
        }
    }

    /// `a OPERATOR b OPERATOR c`, from left to right.
    fn chain(
        &mut self,
        operator: impl Fn(&mut Self) -> Option<Operator>,
        part: impl Fn(&mut Self) -> Result<Term>,
    ) -> Result<Term> {
        let mut term = part(self)?;
        while let Some(operator) = operator(self) {
            // Each one is a level of the tree, which is walked by recursion.
            self.operators += 1;
            if self.operators > MAX_EXPRESSION_OPERATORS {
                let message = format!("more than {MAX_EXPRESSION_OPERATORS} operators");
                return Err(self.error_here(message));
            }
            term = Term::Binary(Box::new(term), operator, Box::new(part(self)?));
        }
        Ok(term)
    }

    fn deeper(&mut self, part: impl FnOnce(&mut Self) -> Result<Term>) -> Result<Term> {
        self.depth += 1;
        if self.depth > MAX_EXPRESSION_DEPTH {
            let message = format!("nested deeper than {MAX_EXPRESSION_DEPTH} levels");
            return Err(self.error_here(message));
        }
        let term = part(self);
        self.depth -= 1;
        term
    }

    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Word(next)) if *next == word);
        self.next += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Symbol(next)) if *next == symbol);
        self.next += usize::from(found);
        found
    }

    fn operator(&mut self, known: &[(&str, Operator)]) -> Option<Operator> {
        let Some(Kind::Symbol(symbol)) = self.peek() else { return None };
        let (_, operator) = known.iter().find(|(name, _)| name == symbol)?;
        self.next += 1;
        Some(*operator)
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        match self.symbol(symbol) {
            true => Ok(()),
            false => Err(self.error_here(format!("a `{symbol}` is missing"))),
        }
    }

    fn unexpected(&self) -> ExpressionError {
        let range = self.place();
        let message = format!("`{}` is not expected here", &self.text[range.clone()]);
        ExpressionError { message, range }
    }

    fn error_here(&self, message: String) -> ExpressionError {
        ExpressionError { message, range: self.place() }
    }

    /// The place of the next token; the end of the text after the last one.
    fn place(&self) -> Range<usize> {
        let end = self.text.len();
        self.tokens.get(self.next).map_or(end..end, |token| token.range.clone())
    }
}
