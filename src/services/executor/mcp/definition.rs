//! What an effect of kind `mcp` asks for: a tool of a server, and its arguments.
//!
//! May not know which servers there are. Invariant: a definition that is read names a server and a
//! tool; a word that is wrong is an error that names it.

use serde_json::{Map, Value};

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    pub(super) server: String,
    pub(super) tool: String,
    pub(super) arguments: Option<Map<String, Value>>,
}

impl Definition {
    /// Reads a definition: the members of its `mcp` object, else its own.
    pub(super) fn read(definition: &Value) -> Result<Self, String> {
        let members = definition.get("mcp").unwrap_or(definition);
        let name = |member: &str| match members.get(member) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => Err(format!("{member} is no name")),
            None => Err(format!("{member} is missing")),
        };
        let arguments = match members.get("arguments") {
            None | Some(Value::Null) => None,
            Some(Value::Object(arguments)) => Some(arguments.clone()),
            Some(_) => return Err("arguments is no object".to_owned()),
        };
        Ok(Self { server: name("server")?, tool: name("tool")?, arguments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_names_a_server_and_a_tool() {
        let call = json!({ "server": "s", "tool": "t", "arguments": { "a": 1 } });
        let read = Definition::read(&call).unwrap();
        assert_eq!((read.server.as_str(), read.tool.as_str()), ("s", "t"));
        assert_eq!(Value::Object(read.arguments.clone().unwrap()), json!({ "a": 1 }));
        assert_eq!(Definition::read(&json!({ "kind": "mcp", "mcp": call })), Ok(read));
        for (definition, why) in [
            (json!({ "tool": "t" }), "server is missing"),
            (json!({ "server": "s", "tool": "" }), "tool is no name"),
            (json!({ "server": 1, "tool": "t" }), "server is no name"),
            (json!({ "server": "s", "tool": "t", "arguments": [] }), "arguments is no object"),
            (json!(null), "server is missing"),
        ] {
            assert_eq!(Definition::read(&definition).unwrap_err(), why);
        }
    }
}
