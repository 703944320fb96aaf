//! `[mcp.servers.NAME]`: servers of tools, as a file has them and as one would write them.
//!
//! May not know how a server is reached. Invariant: what is printed is read as the same.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Kind, Value};
use crate::ground::limits::{MCP_SERVERS_MAX, MCP_START_MS};
use crate::services::executor::mcp::{Section, Way};

/// The members of a section.
const WORDS: &[&str] =
    &["command", "args", "env", "url", "headers", "start_timeout", "allow_tools", "trust_hints"];
/// Longest time that a server may be given to begin.
const START_MS_MAX: u64 = 60 * 60 * 1000;

/// What a table of sections says; nothing if one of them is wrong.
pub(super) fn read(table: &DeTable<'_>) -> Option<BTreeMap<String, Section>> {
    if table.len() > MCP_SERVERS_MAX {
        return None;
    }
    let server = |(name, section): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        Some((name.to_string(), read_section(section.get_ref().as_table()?)?))
    };
    table.iter().map(server).collect()
}

fn read_section(table: &DeTable<'_>) -> Option<Section> {
    if table.keys().any(|word| !WORDS.contains(&word.get_ref().as_ref())) {
        return None;
    }
    let member = |name: &str| table.get(name).map(Spanned::get_ref);
    let way = match (member("command"), member("url")) {
        (Some(program), None) if member("headers").is_none() => Way::Program {
            program: program.as_str()?.into(),
            args: member("args").map_or(Some(Vec::new()), super::layers::texts)?,
            env: member("env").map_or(Some(BTreeMap::new()), pairs)?,
        },
        (None, Some(url)) if member("args").is_none() && member("env").is_none() => Way::Url {
            url: url.as_str()?.to_owned(),
            headers: member("headers").map_or(Some(BTreeMap::new()), pairs)?,
        },
        _ => return None,
    };
    let start_timeout_ms = match member("start_timeout") {
        None => MCP_START_MS,
        Some(span) => match Kind::Millis(1, START_MS_MAX).read(span.as_str()?)? {
            Value::Number(ms) => ms,
            _ => return None,
        },
    };
    let allow_tools = match member("allow_tools") {
        Some(tools) => Some(super::layers::texts(tools)?),
        None => None,
    };
    let trust_hints = member("trust_hints").map_or(Some(false), DeValue::as_bool)?;
    Some(Section { way, start_timeout_ms, allow_tools, trust_hints })
}

/// Texts by name.
fn pairs(value: &DeValue<'_>) -> Option<BTreeMap<String, String>> {
    let pair = |(name, text): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        Some((name.to_string(), text.get_ref().as_str()?.to_owned()))
    };
    value.as_table()?.iter().map(pair).collect()
}

/// Sections as one would write them.
pub(super) fn print(servers: &BTreeMap<String, Section>) -> String {
    table(servers.iter().map(|(name, section)| format!("{name:?} = {}", print_section(section))))
}

fn print_section(section: &Section) -> String {
    let texts = |texts: &BTreeMap<String, String>| {
        table(texts.iter().map(|(name, text)| format!("{name:?} = {text:?}")))
    };
    let mut members = match &section.way {
        Way::Program { program, args, env } => vec![
            format!("command = {:?}", program.display().to_string()),
            format!("args = {args:?}"),
            format!("env = {}", texts(env)),
        ],
        Way::Url { url, headers } => {
            vec![format!("url = {url:?}"), format!("headers = {}", texts(headers))]
        }
    };
    let span = Kind::Millis(1, START_MS_MAX).print(&Value::Number(section.start_timeout_ms));
    members.push(format!("start_timeout = {span}"));
    members.extend(section.allow_tools.iter().map(|tools| format!("allow_tools = {tools:?}")));
    if section.trust_hints {
        members.push("trust_hints = true".to_owned());
    }
    table(members.into_iter())
}

fn table(members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}
