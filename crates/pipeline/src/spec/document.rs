//! YAML as a tree that knows where each part stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, Spanned};

use crate::diagnostics::{Diagnostic, Rule, Span};

/// The longest file of a pipeline.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Values of a document, those that aliases repeat among them.
pub(crate) const MAX_NODES: usize = 200_000;
/// How deep a document may be nested.
pub(crate) const MAX_DEPTH: usize = 32;
/// Aliases of a document.
const MAX_ALIASES: usize = 10_000;
/// Values that aliases may bring in all, and that may stand behind anchors.
const MAX_REPEATED: usize = 50_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    /// Reads one document.
    ///
    /// # Errors
    /// One problem, since what follows a mistake of syntax is anybody's guess.
    pub(crate) fn read(text: &str) -> Result<Self, Box<Diagnostic>> {
        if text.len() > MAX_DOCUMENT_BYTES {
            let message =
                format!("{} bytes are over the limit of {MAX_DOCUMENT_BYTES}", text.len());
            return Err(Box::new(Diagnostic::error(Rule::Limit, Span::start(), message)));
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            emit_comments: false,
            budget: serde_saphyr::budget! {
                max_nodes: MAX_NODES,
                max_depth: MAX_DEPTH,
                max_documents: 1,
                max_aliases: MAX_ALIASES,
                max_anchors: MAX_ALIASES,
                max_recorded_anchor_events: MAX_REPEATED,
                max_recorded_anchor_bytes: MAX_DOCUMENT_BYTES,
                max_total_scalar_bytes: 2 * MAX_DOCUMENT_BYTES,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: MAX_REPEATED,
                max_replay_stack_depth: 16,
            },
        };
        serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| Box::new(failure(text, &error)))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i128> {
        match self.value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value below a path of keys.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// What the value is, with an article.
    pub(crate) fn what(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// A place to point at: the value, or the first key of a mapping.
    pub(crate) fn pointer(&self) -> Span {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            _ => self.span,
        }
    }

    /// The value without places. Whole numbers beyond 64 bits become floats.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => integer(*value),
            Value::Number(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Json::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

fn integer(value: i128) -> Json {
    if let Ok(small) = i64::try_from(value) {
        return Json::from(small);
    }
    if let Ok(large) = u64::try_from(value) {
        return Json::from(large);
    }
    #[allow(clippy::cast_precision_loss, reason = "no type of ours takes it, whatever its digits")]
    let float = value as f64;
    Json::from(float)
}

/// What the parser says, in our words where it is about a limit.
fn failure(text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let span = error.location().map_or_else(Span::start, |place| Span::within(text, &place));
    let mut error = error;
    while let serde_saphyr::Error::AliasError { error: inner, .. }
    | serde_saphyr::Error::WithSnippet { error: inner, .. } = error
    {
        error = inner;
    }
    let message = match error {
        serde_saphyr::Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => "there is more than one document".to_owned(),
            BudgetBreach::Depth { .. } => format!("nested deeper than {MAX_DEPTH} levels"),
            BudgetBreach::Nodes { .. } => format!("more than {MAX_NODES} values"),
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                format!("more than {MAX_ALIASES} aliases or anchors")
            }
            _ => "repeats too much by aliases".to_owned(),
        },
        serde_saphyr::Error::AliasReplayLimitExceeded { .. } => {
            "repeats too much by aliases".to_owned()
        }
        serde_saphyr::Error::DuplicateMappingKey { .. } => "this key is there twice".to_owned(),
        other => {
            return Diagnostic::error(Rule::Syntax, span, message(&other.to_string()));
        }
    };
    let rule = match error {
        serde_saphyr::Error::DuplicateMappingKey { .. } => Rule::Syntax,
        _ => Rule::Limit,
    };
    Diagnostic::error(rule, span, message)
}

/// The message of the parser without the place, which is shown apart.
fn message(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut = line.find(" at line ").unwrap_or(line.len());
    line[..cut].trim_end_matches(&['.', ':', ' '][..]).to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { span: Span::of(&referenced), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if key.referenced == Location::UNKNOWN {
                return Err(A::Error::custom("a key has to be a text"));
            }
            let key_span = Span::of(&key.referenced);
            entries.push(Entry { key: key.value, key_span, value: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
