//! Checks the bytes of a message before ptars reads them.
//!
//! ptars adds a claimed length to a position without looking for overflow,
//! and panics; it skips groups by recursion as deep as the bytes say; and it
//! leaves the rest of a packed list out that ends inside of a value.
//!
//! # Source
//! Protocol Buffers, "Encoding".

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Groups inside of each other, which only unknown fields are.
const MAX_GROUPS: usize = 32;
/// Fields of a message with the fields of those inside of it.
const MAX_FIELDS: usize = 10_000;
/// ptars has a table with a place for each number up to the largest.
const MAX_NUMBER: u32 = 100_000;

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED_32: u8 = 5;

/// What is to be checked in the bytes of a message.
#[derive(Debug)]
pub(super) struct Shape {
    /// Ordered by number. Fields that are not here may hold anything.
    fields: Vec<(u32, Content)>,
}

/// What lies in a field of bytes.
#[derive(Debug)]
enum Content {
    Text,
    Message(Shape),
    /// Values of as many bytes each, one after another.
    Fixed(usize),
    Varints,
}

impl Shape {
    /// The shape of a message, if it is not too large to be decoded.
    pub(super) fn of(message: &MessageDescriptor) -> Result<Self, String> {
        let mut count = 0;
        Shape::within(message, &mut Vec::new(), &mut count)
    }

    fn within(
        message: &MessageDescriptor,
        above: &mut Vec<String>,
        count: &mut usize,
    ) -> Result<Self, String> {
        let name = message.full_name();
        let mut fields = Vec::new();
        above.push(name.to_owned());
        for field in message.fields() {
            *count += 1;
            if *count > MAX_FIELDS {
                return Err(format!("more than {MAX_FIELDS} fields with all messages written out"));
            }
            let number = field.number();
            if number > MAX_NUMBER {
                let field = field.name();
                return Err(format!(
                    "field {field} of {name} has number {number}, over {MAX_NUMBER}"
                ));
            }
            if let Some(content) = Content::of(&field, above, count)? {
                fields.push((number, content));
            }
        }
        above.pop();
        fields.sort_unstable_by_key(|(number, _)| *number);
        Ok(Shape { fields })
    }

    /// Whether these bytes are a whole message.
    pub(super) fn check(&self, mut bytes: &[u8]) -> Result<(), String> {
        let mut groups: Vec<u32> = Vec::new();
        while !bytes.is_empty() {
            let (number, wire, rest) = tag(bytes)?;
            bytes = rest;
            let length = match wire {
                VARINT => varint(bytes).map(|(_, length)| length),
                FIXED_64 => Some(8),
                FIXED_32 => Some(4),
                BYTES => {
                    let (inner, length) = delimited(bytes, number)?;
                    if groups.is_empty() {
                        self.check_content(number, inner)?;
                    }
                    Some(length)
                }
                GROUP if groups.len() == MAX_GROUPS => {
                    return Err(format!("groups are nested deeper than {MAX_GROUPS}"));
                }
                GROUP => {
                    groups.push(number);
                    Some(0)
                }
                END_GROUP if groups.pop() == Some(number) => Some(0),
                END_GROUP => return Err(format!("group {number} ends and did not begin")),
                other => return Err(format!("field {number} has unknown wire type {other}")),
            };
            bytes = length
                .and_then(|length| bytes.get(length..))
                .ok_or_else(|| format!("field {number} is cut off"))?;
        }
        match groups.last() {
            Some(open) => Err(format!("group {open} does not end")),
            None => Ok(()),
        }
    }

    fn check_content(&self, number: u32, bytes: &[u8]) -> Result<(), String> {
        let Ok(at) = self.fields.binary_search_by_key(&number, |(number, _)| *number) else {
            return Ok(());
        };
        match &self.fields[at].1 {
            Content::Text => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("field {number}: {error}")),
            },
            Content::Message(shape) => {
                shape.check(bytes).map_err(|error| format!("field {number}: {error}"))
            }
            Content::Fixed(width) if bytes.len().is_multiple_of(*width) => Ok(()),
            Content::Fixed(width) => {
                let length = bytes.len();
                Err(format!("field {number}: {length} bytes are no list of values of {width}"))
            }
            Content::Varints => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let read = varint(rest).and_then(|(_, length)| rest.get(length..));
                    rest = read.ok_or_else(|| format!("field {number}: the list is cut off"))?;
                }
                Ok(())
            }
        }
    }
}

impl Content {
    fn of(
        field: &FieldDescriptor,
        above: &mut Vec<String>,
        count: &mut usize,
    ) -> Result<Option<Self>, String> {
        let packed = |content: Content| field.is_list().then_some(content);
        Ok(match field.kind() {
            Kind::String => Some(Content::Text),
            Kind::Bytes => None,
            Kind::Message(inner) => {
                // ptars keeps a message inside of itself as its bytes.
                if above.iter().any(|name| name == inner.full_name()) {
                    return Ok(None);
                }
                Some(Content::Message(Shape::within(&inner, above, count)?))
            }
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => packed(Content::Fixed(4)),
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => packed(Content::Fixed(8)),
            _ => packed(Content::Varints),
        })
    }
}

/// A field number, its wire type, and what follows.
fn tag(bytes: &[u8]) -> Result<(u32, u8, &[u8]), String> {
    let (key, length) = varint(bytes).ok_or("a tag is cut off")?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| format!("{} is no field number", key >> 3))?;
    let wire = u8::try_from(key & 7).unwrap_or(u8::MAX);
    Ok((number, wire, &bytes[length..]))
}

/// The bytes of a field, and how many there are with their length.
fn delimited(bytes: &[u8], number: u32) -> Result<(&[u8], usize), String> {
    let cut = || format!("field {number} is cut off");
    let (claimed, start) = varint(bytes).ok_or_else(cut)?;
    let end = usize::try_from(claimed).ok().and_then(|length| start.checked_add(length));
    let end = end.ok_or_else(cut)?;
    Ok((bytes.get(start..end).ok_or_else(cut)?, end))
}

/// A number and how many bytes it takes; none if it is cut off or too long.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        if at == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}
