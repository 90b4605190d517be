//! Puts the schemas that an Avro schema refers to in their places, and
//! refuses what no decoder should be made of: arrow-avro writes a named type
//! out at each of its uses, and counts through a list of values that take no
//! bytes as far as a message says.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Fields of a schema with all its named types written out.
const MAX_FIELDS: usize = 10_000;

const PRIMITIVE: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// One schema of this and all that it refers to.
pub(super) fn resolve(text: &str, references: &[(String, String)]) -> Result<String, String> {
    let mut schema = parse(text)?;
    let mut names = Names::default();
    for (name, text) in references {
        let reference = parse(text).map_err(|e| format!("the reference {name}: {e}"))?;
        let object =
            reference.as_object().ok_or(format!("the reference {name} is no named type"))?;
        let full = full_name(object, "").ok_or(format!("the reference {name} has no name"))?;
        names.references.insert(full, reference);
    }
    names.walk(&mut schema, "")?;
    Ok(schema.to_string())
}

fn parse(text: &str) -> Result<Value, String> {
    // A registry may give a primitive type as a bare word.
    serde_json::from_str(text).map_err(|e| format!("not an Avro schema: {e}"))
}

/// What a type costs.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// How many fields it is, written out.
    fields: usize,
    /// It can take no bytes.
    empty: bool,
}

#[derive(Debug, Default)]
struct Names {
    /// By full name, until they are put in their places.
    references: HashMap<String, Value>,
    /// By full name; none while the type is being walked through.
    sizes: HashMap<String, Option<Size>>,
}

impl Names {
    fn walk(&mut self, schema: &mut Value, namespace: &str) -> Result<Size, String> {
        match schema {
            Value::String(name) => {
                if let Some(size) = primitive(name) {
                    return Ok(size);
                }
                let name = name.clone();
                self.named(&name, schema, namespace)
            }
            Value::Array(branches) => {
                let mut size = Size { fields: 1, empty: false };
                for branch in branches {
                    size.fields += self.walk(branch, namespace)?.fields;
                }
                bounded(size)
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("not an Avro schema: {other}")),
        }
    }

    /// The use of a named type.
    fn named(&mut self, name: &str, schema: &mut Value, namespace: &str) -> Result<Size, String> {
        let qualified = qualify(name, namespace);
        for full in [qualified.as_str(), name] {
            match self.sizes.get(full) {
                Some(Some(size)) => return Ok(*size),
                Some(None) => return Err(format!("type {full} refers to itself")),
                None => {}
            }
            if let Some(mut reference) = self.references.remove(full) {
                if let Some(object) = reference.as_object_mut()
                    && !object.contains_key("namespace")
                {
                    // Its name may say the namespace. One that has none is found
                    // from any, as in Avro for Java, and belongs there then.
                    let own = full.rsplit_once('.').map_or(namespace, |(own, _)| own);
                    object.insert("namespace".to_owned(), own.into());
                }
                *schema = reference;
                return self.walk(schema, "");
            }
        }
        Err(format!("type {name} is not known"))
    }

    fn object(&mut self, object: &mut Map<String, Value>, namespace: &str) -> Result<Size, String> {
        let of = match object.get_mut("type") {
            Some(Value::String(of)) => of.clone(),
            Some(nested) => return self.walk(nested, namespace),
            None => return Err("a type is missing".to_owned()),
        };
        match of.as_str() {
            "record" | "error" | "enum" | "fixed" => self.definition(&of, object, namespace),
            "array" | "map" => {
                let inner = if of == "array" { "items" } else { "values" };
                let inner = object.get_mut(inner).ok_or(format!("{of} without {inner}"))?;
                let size = self.walk(inner, namespace)?;
                if of == "array" && size.empty {
                    return Err("an array of items that take no bytes".to_owned());
                }
                bounded(Size { fields: size.fields + 1, empty: false })
            }
            name => match primitive(name) {
                Some(size) => Ok(size),
                None => match object.get_mut("type") {
                    Some(of) => self.named(name, of, namespace),
                    None => Err("a type is missing".to_owned()),
                },
            },
        }
    }

    fn definition(
        &mut self,
        of: &str,
        object: &mut Map<String, Value>,
        namespace: &str,
    ) -> Result<Size, String> {
        let full = full_name(object, namespace).ok_or(format!("{of} without a name"))?;
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        self.sizes.insert(full.clone(), None);
        let mut size = Size { fields: 1, empty: false };
        match of {
            "enum" => {}
            "fixed" => size.empty = object.get("size").and_then(Value::as_u64) == Some(0),
            _ => {
                size.empty = true;
                let fields = object.get_mut("fields").and_then(Value::as_array_mut);
                for field in fields.ok_or(format!("{of} {full} without fields"))? {
                    let of = field.get_mut("type").ok_or("a field without type")?;
                    let inner = self.walk(of, &inner)?;
                    size.fields += inner.fields;
                    size.empty &= inner.empty;
                }
            }
        }
        let size = bounded(size)?;
        self.sizes.insert(full, Some(size));
        Ok(size)
    }
}

fn primitive(name: &str) -> Option<Size> {
    PRIMITIVE.contains(&name).then(|| Size { fields: 1, empty: name == "null" })
}

fn bounded(size: Size) -> Result<Size, String> {
    if size.fields > MAX_FIELDS {
        return Err(format!("more than {MAX_FIELDS} fields with all types written out"));
    }
    Ok(size)
}

fn full_name(object: &Map<String, Value>, namespace: &str) -> Option<String> {
    let name = object.get("name")?.as_str()?;
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    Some(qualify(name, namespace))
}

fn qualify(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        return name.to_owned();
    }
    format!("{namespace}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, fields: &str) -> String {
        format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
    }

    #[test]
    fn references_stand_where_they_are_used_first() {
        let text = record("a.R", r#"{"name":"x","type":"b.S"},{"name":"y","type":["null","b.S"]}"#);
        let references = [
            ("T".to_owned(), r#"{"type":"enum","name":"T","symbols":["A"]}"#.to_owned()),
            ("b.S".to_owned(), record("b.S", r#"{"name":"t","type":"T"}"#)),
        ];
        let whole = resolve(&text, &references).unwrap();
        assert_eq!(whole.matches(r#""name":"b.S""#).count(), 1, "{whole}");
        assert_eq!(whole.matches(r#""symbols""#).count(), 1, "{whole}");
        let error = resolve(&text, &references[..1]).unwrap_err();
        assert_eq!(error, "type b.S is not known");
    }

    #[test]
    fn schemas_that_would_never_end_are_refused() {
        let own = record("R", r#"{"name":"next","type":["null","R"]}"#);
        assert_eq!(resolve(&own, &[]).unwrap_err(), "type R refers to itself");

        let nulls = record("R", r#"{"name":"l","type":{"type":"array","items":"null"}}"#);
        assert_eq!(resolve(&nulls, &[]).unwrap_err(), "an array of items that take no bytes");

        // Each level is twice the one below.
        let mut types = r#"{"name":"f0","type":{"type":"fixed","name":"T0","size":4}}"#.to_owned();
        for level in 1..40 {
            let below = level - 1;
            let pair =
                format!(r#"{{"name":"l","type":"T{below}"}},{{"name":"r","type":"T{below}"}}"#);
            let of = record(&format!("T{level}"), &pair);
            types.push_str(&format!(r#",{{"name":"f{level}","type":{of}}}"#));
        }
        let error = resolve(&record("R", &types), &[]).unwrap_err();
        assert_eq!(error, "more than 10000 fields with all types written out");
    }

    #[test]
    fn what_is_no_schema_says_so() {
        for text in ["", "{", "17", r#"{"type":"record"}"#, r#"{"type":"strange"}"#, r#""x""#] {
            resolve(text, &[]).unwrap_err();
        }
    }
}
