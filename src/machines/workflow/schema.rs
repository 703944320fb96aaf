//! The JSON Schema of documents, printed from the table of fields.
//!
//! May not add rules of its own. Invariant: a document with a member that the schema does not know
//! is refused by the reader as well.

use serde_json::{Map, Value, json};

use super::fields::{DOCUMENT, Field, Kind, Shape, TYPES};
use super::shape::EXTENSION;

/// The schema, for editors and validators.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut whole = object(&DOCUMENT, &mut definitions);
    let mut out = Map::new();
    out.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("$id".into(), json!("urn:dormouse:workflow:aether/v1"));
    out.insert("title".into(), json!("Workflow document for dormouse"));
    if let Some(members) = whole.as_object_mut() {
        out.append(members);
    }
    out.insert("$defs".into(), Value::Object(definitions));
    Value::Object(out)
}

fn object(shape: &Shape, definitions: &mut Map<String, Value>) -> Value {
    let mut members = properties(shape.fields, definitions);
    if !shape.extension.is_empty() {
        let inner = properties(shape.extension, definitions);
        let about = "What other engines do not know.";
        members.insert(
            EXTENSION.into(),
            json!({
                "description": about, "type": "object", "properties": inner,
                "additionalProperties": false,
            }),
        );
    }
    let needed: Vec<&str> = shape.fields.iter().filter(|f| f.needed).map(|f| f.name).collect();
    let mut out = json!({ "type": "object", "properties": members, "additionalProperties": false });
    if !needed.is_empty() {
        out["required"] = json!(needed);
    }
    if shape.name == "Template" {
        out["minProperties"] = json!(1);
        out["maxProperties"] = json!(1);
    }
    out
}

fn properties(fields: &[Field], definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for field in fields {
        let mut value = value(&field.kind, definitions);
        if let Some(members) = value.as_object_mut() {
            members.insert("description".into(), json!(field.about));
        }
        out.insert(field.name.into(), value);
    }
    out
}

fn value(kind: &Kind, definitions: &mut Map<String, Value>) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Kind::Text | Kind::Expression | Kind::Reference => json!({ "type": "string" }),
        Kind::Name => text("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        Kind::ParameterName => json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        Kind::Version => text(r"^\d+\.\d+\.\d+(-[A-Za-z0-9.]+)?$"),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Kind::Span(false) => text(r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"),
        Kind::Span(true) => text(r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"),
        Kind::Amount(units) => {
            let pattern = format!("^\\d+({})$", units.join("|"));
            let number = if units.contains(&"m") { "number" } else { "integer" };
            let written = json!({ "type": "string", "pattern": pattern });
            json!({ "anyOf": [{ "type": number, "minimum": 0 }, written] })
        }
        Kind::Word(words) if *words == TYPES => json!({ "enum": words }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Any => json!({}),
        Kind::Texts => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Free => json!({ "type": "object" }),
        Kind::List(of) => json!({ "type": "array", "items": value(of, definitions) }),
        Kind::Names => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        }),
        Kind::Barred(..) => json!({ "deprecated": true, "maxItems": 0, "maxProperties": 0 }),
        Kind::Object(shape) => {
            if !definitions.contains_key(shape.name) {
                // The place is taken first: shapes may contain themselves one day.
                definitions.insert(shape.name.into(), Value::Null);
                let made = object(shape, definitions);
                definitions.insert(shape.name.into(), made);
            }
            json!({ "$ref": format!("#/$defs/{}", shape.name) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_used_and_every_use_is_defined() {
        let schema = schema();
        let text = schema.to_string();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, shape) in definitions {
            assert!(text.contains(&format!("\"#/$defs/{name}\"")), "{name} is not used");
            assert_eq!(shape["type"], "object", "{name}");
        }
        for used in text.split("\"#/$defs/").skip(1) {
            let name = used.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name} is not defined");
        }
        assert_eq!(schema["$defs"]["Task"]["properties"]["when"]["type"], "string");
    }
}
