//! From the text's terms to nodes with types.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, StringArray, new_empty_array};
use arrow_schema::{DataType, Schema};
use sheaf_pipeline::spec::{Literal, Operator, Term};

use super::list::List;
use super::literal::{Met, cast, exact, meet, named, natural};
use super::node::{Node, compute};
use super::types::{Family, canonical, common, unpacked};

/// A node, its type, and the constant that it is if it is one.
struct Part {
    node: Node,
    data_type: DataType,
    literal: Option<Literal>,
    /// For messages.
    name: String,
}

impl Part {
    fn new(node: Node, data_type: DataType, name: impl Into<String>) -> Self {
        Part { node, data_type, literal: None, name: name.into() }
    }

    fn literal(literal: Literal) -> Self {
        let array = natural(&literal);
        let data_type = array.data_type().clone();
        let name = named(&literal);
        Part { node: Node::Constant(array), data_type, literal: Some(literal), name }
    }

    fn family(&self) -> Family {
        Family::of(&self.data_type)
    }

    /// As values of this type.
    fn cast(self, data_type: &DataType) -> Node {
        if self.data_type == *data_type {
            return self.node;
        }
        let can_fail = !always_fits(&self.data_type, data_type);
        Node::Cast { node: Box::new(self.node), data_type: data_type.clone(), can_fail }
    }

    /// Who it is and of what type, for messages.
    fn described(&self) -> String {
        match self.literal {
            Some(_) => self.name.clone(),
            None => format!("{} (of type {})", self.name, self.data_type),
        }
    }
}

/// The node of a term and the type of its values.
pub(super) fn bind(term: &Term, schema: &Schema) -> Result<(Node, DataType), String> {
    let part = Binder { schema }.top(term)?;
    Ok((part.node, part.data_type))
}

struct Binder<'a> {
    schema: &'a Schema,
}

impl Binder<'_> {
    /// A column that stands alone stays as it is packed.
    fn top(&self, term: &Term) -> Result<Part, String> {
        match term {
            Term::Column(name) => self.column(name),
            other => self.part(other),
        }
    }

    fn column(&self, name: &str) -> Result<Part, String> {
        let place = self.schema.index_of(name).map_err(|_| {
            let names: Vec<&str> =
                self.schema.fields().iter().take(20).map(|field| field.name().as_str()).collect();
            format!("the rows have no column `{name}`; they have {}", names.join(", "))
        })?;
        let data_type = self.schema.field(place).data_type().clone();
        Ok(Part::new(Node::Column(place), data_type, format!("column `{name}`")))
    }

    fn part(&self, term: &Term) -> Result<Part, String> {
        match term {
            Term::Column(name) => {
                let part = self.column(name)?;
                let plain = unpacked(&part.data_type);
                let name = part.name.clone();
                Ok(Part::new(part.cast(&plain), plain, name))
            }
            Term::Literal(literal) => Ok(Part::literal(literal.clone())),
            Term::Negative(term) => self.negative(term),
            Term::Not(term) => {
                let part = self.condition(term, "not")?;
                Ok(condition(Node::Not(Box::new(part))))
            }
            Term::Binary(left, operator, right) => self.binary(left, *operator, right),
            Term::IsNull { term, negated } => {
                let node = Box::new(self.top(term)?.node);
                Ok(condition(Node::IsNull { node, negated: *negated }))
            }
            Term::In { term, list, negated } => self.list(term, list, *negated),
            Term::Like { term, pattern, negated } => self.like(term, pattern, *negated),
        }
    }

    fn condition(&self, term: &Term, operator: &str) -> Result<Node, String> {
        let part = self.part(term)?;
        match part.family() {
            Family::Bool => Ok(part.node),
            Family::Null => Ok(unknown()),
            _ => Err(format!(
                "`{operator}` is for what is true or false, and not for {}; compare it with \
                 something",
                part.described()
            )),
        }
    }

    fn negative(&self, term: &Term) -> Result<Part, String> {
        let part = self.part(term)?;
        match &part.literal {
            Some(Literal::Integer(value)) if value.checked_neg().is_some() => {
                return Ok(Part::literal(Literal::Integer(-value)));
            }
            Some(Literal::Number(value)) => return Ok(Part::literal(Literal::Number(-value))),
            _ => {}
        }
        let data_type = match part.family() {
            Family::Integer => DataType::Int64,
            Family::Float => DataType::Float64,
            Family::Decimal | Family::Null => part.data_type.clone(),
            _ => return Err(no_number("-", &part)),
        };
        if data_type == DataType::Null {
            return Ok(part);
        }
        let name = short(format!("-({})", part.name));
        let can_fail = data_type != DataType::Float64;
        let node = Node::Negative { node: Box::new(part.cast(&data_type)), can_fail };
        Ok(Part::new(node, data_type, name))
    }

    fn binary(&self, left: &Term, operator: Operator, right: &Term) -> Result<Part, String> {
        match operator {
            Operator::And => {
                let (left, right) = (self.condition(left, "and")?, self.condition(right, "and")?);
                Ok(condition(Node::Both(Box::new(left), Box::new(right))))
            }
            Operator::Or => {
                let (left, right) = (self.condition(left, "or")?, self.condition(right, "or")?);
                Ok(condition(Node::Either(Box::new(left), Box::new(right))))
            }
            _ if operator.is_arithmetic() => {
                arithmetic(self.part(left)?, operator, self.part(right)?)
            }
            _ => comparison(self.part(left)?, operator, self.part(right)?),
        }
    }

    fn like(&self, term: &Term, pattern: &str, negated: bool) -> Result<Part, String> {
        let part = self.part(term)?;
        if part.family() == Family::Null {
            return Ok(condition(unknown()));
        }
        if part.family() != Family::Text {
            return Err(format!("`like` is for text, and not for {}", part.described()));
        }
        let own: ArrayRef = Arc::new(StringArray::from(vec![pattern]));
        let pattern = cast(&own, &part.data_type).map_err(|error| error.to_string())?;
        let node = Box::new(part.node);
        Ok(condition(Node::Like { node, pattern, negated }))
    }

    fn list(&self, term: &Term, list: &[Literal], negated: bool) -> Result<Part, String> {
        let part = self.part(term)?;
        if part.family() == Family::Null {
            return Ok(condition(unknown()));
        }
        let about = |error: String| format!("{}: {error}", part.name);
        let wanted = list.iter().filter(|literal| **literal != Literal::Null);
        let has_null = list.contains(&Literal::Null);
        let mut data_type = part.data_type.clone();
        if data_type == DataType::Float32 {
            for literal in wanted.clone() {
                if let Met::Wider(_) = meet(literal, &data_type).map_err(about)? {
                    data_type = DataType::Float64;
                    break;
                }
            }
        }
        let mut values = Vec::new();
        for literal in wanted {
            let literal = whole(literal, &data_type);
            match meet(&literal, &data_type).map_err(about)? {
                Met::Same(value) => values.push(canonical(value)),
                // No value of this type is like it.
                Met::Wider(_) | Met::Never(_) => {}
            }
        }
        let list = List::new(&data_type, values, has_null).map_err(|error| error.to_string())?;
        let node = Box::new(canonical_node(part.cast(&data_type), &data_type));
        Ok(condition(Node::In { node, list, negated }))
    }
}

/// `2.0` in a list that is compared with whole numbers is `2`.
#[allow(clippy::cast_possible_truncation, reason = "only whole numbers that 64 bits hold")]
fn whole(literal: &Literal, data_type: &DataType) -> Literal {
    const LIMIT: f64 = 9_007_199_254_740_992.0;

    match literal {
        Literal::Number(value)
            if Family::of(data_type) == Family::Integer
                && value.fract() == 0.0
                && value.abs() <= LIMIT =>
        {
            Literal::Integer(*value as i64)
        }
        other => other.clone(),
    }
}

/// Whether every value of one type is one of the other.
fn always_fits(from: &DataType, to: &DataType) -> bool {
    match (Family::of(from), to) {
        (Family::Integer, DataType::Int64) => *from != DataType::UInt64,
        (Family::Integer | Family::Float, DataType::Float64) => true,
        (Family::Text, DataType::LargeUtf8) => true,
        (Family::Other, _) => unpacked(from) == *to,
        _ => false,
    }
}

/// The name of a long computation says nothing.
fn short(name: String) -> String {
    const MAX_BYTES: usize = 120;

    if name.len() > MAX_BYTES { "a computed value".to_owned() } else { name }
}

fn condition(node: Node) -> Part {
    Part::new(node, DataType::Boolean, "a condition")
}

/// Neither true nor false.
fn unknown() -> Node {
    Node::Constant(Arc::new(BooleanArray::new_null(1)))
}

fn no_number(operator: &str, part: &Part) -> String {
    format!("`{operator}` is for numbers, and not for {}", part.described())
}

fn canonical_node(node: Node, data_type: &DataType) -> Node {
    match (Family::of(data_type), node) {
        (_, Node::Constant(array)) => Node::Constant(canonical(array)),
        (Family::Float, node) => Node::Canonical(Box::new(node)),
        (_, node) => node,
    }
}

fn comparison(left: Part, operator: Operator, right: Part) -> Result<Part, String> {
    if [left.family(), right.family()].contains(&Family::Null) {
        return Ok(condition(unknown()));
    }
    let (left, right, data_type) = match (&left.literal, &right.literal) {
        (None, Some(literal)) => {
            let met = meet(literal, &left.data_type);
            let (value, data_type) = met_type(met, &left)?;
            (left.cast(&data_type), Node::Constant(value), data_type)
        }
        (Some(literal), None) => {
            let met = meet(literal, &right.data_type);
            let (value, data_type) = met_type(met, &right)?;
            (Node::Constant(value), right.cast(&data_type), data_type)
        }
        _ => {
            let Some(data_type) = common(&left.data_type, &right.data_type) else {
                let (left, right) = (left.described(), right.described());
                return Err(format!("{left} cannot be compared with {right}"));
            };
            (left.cast(&data_type), right.cast(&data_type), data_type)
        }
    };
    let left = Box::new(canonical_node(left, &data_type));
    let right = Box::new(canonical_node(right, &data_type));
    Ok(condition(Node::Compare(left, operator, right)))
}

fn met_type(met: Result<Met, String>, other: &Part) -> Result<(ArrayRef, DataType), String> {
    match met {
        Ok(Met::Same(value) | Met::Wider(value)) => {
            let data_type = value.data_type().clone();
            Ok((canonical(value), data_type))
        }
        Ok(Met::Never(why)) => Err(format!("the number is {why} for {}", other.described())),
        Err(error) => Err(format!("{}: {error}", other.name)),
    }
}

fn arithmetic(left: Part, operator: Operator, right: Part) -> Result<Part, String> {
    let sign = sign(operator);
    for part in [&left, &right] {
        if !part.family().is_number() && part.family() != Family::Null {
            return Err(no_number(sign, part));
        }
    }
    let name = short(format!("{} {sign} {}", left.name, right.name));
    if [left.family(), right.family()].contains(&Family::Null) {
        return Ok(Part::literal(Literal::Null));
    }
    let decimals = [left.family(), right.family()].contains(&Family::Decimal);
    let (left, right) = match decimals {
        true => (exactly(left)?, exactly(right)?),
        false => (left, right),
    };
    let families = [left.family(), right.family()];
    let (left, right) = if families.contains(&Family::Float) {
        (widened(left, DataType::Float64), widened(right, DataType::Float64))
    } else if decimals {
        let wide =
            [&left, &right].iter().any(|part| matches!(part.data_type, DataType::Decimal256(..)));
        (decimal(left, wide), decimal(right, wide))
    } else {
        (widened(left, DataType::Int64), widened(right, DataType::Int64))
    };
    let none = |part: &Part| new_empty_array(&part.data_type);
    let computed = compute(operator, &none(&left), &none(&right));
    let data_type = computed.map_err(|error| format!("{name}: {error}"))?.data_type().clone();
    let can_fail = data_type != DataType::Float64;
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    let node = Node::Compute { left, operator, right, can_fail };
    Ok(Part::new(node, data_type, name))
}

fn widened(part: Part, data_type: DataType) -> Part {
    let name = part.name.clone();
    Part::new(part.cast(&data_type), data_type, name)
}

/// A constant beside decimals has exactly the digits that it is written with.
fn exactly(part: Part) -> Result<Part, String> {
    let Some(value) = part.literal.as_ref().and_then(exact) else { return Ok(part) };
    let data_type = value.0.data_type().clone();
    Ok(Part::new(Node::Constant(value.0), data_type, part.name))
}

/// Whole numbers as decimals, and all of 256 bits where one is.
fn decimal(part: Part, wide: bool) -> Part {
    let data_type = match part.data_type {
        DataType::Decimal128(precision, scale) if wide => DataType::Decimal256(precision, scale),
        DataType::Decimal128(..) | DataType::Decimal256(..) => part.data_type.clone(),
        _ if wide => DataType::Decimal256(20, 0),
        _ => DataType::Decimal128(20, 0),
    };
    widened(part, data_type)
}

const fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Times => "*",
        Operator::Divide => "/",
        _ => "%",
    }
}
