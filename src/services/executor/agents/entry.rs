//! One agent of a file: its members, as whatever kind it is needs them.
//!
//! May not know how a file lists agents. Invariant: a member that means nothing for its kind of
//! agent was remarked upon; one that is wrong is an error with its line.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::agent::{Agent, AgentKind, CommandLine, Endpoint, Protocol, Token};
use super::duration;
use crate::codecs::json::Json;
use crate::codecs::yaml::{Node, NotYaml, Yaml};
use crate::ground::id::is_secret_name;
use crate::ground::limits::{
    AGENT_ATTEMPT_MS_DEFAULT, AGENT_LEASE_MS_DEFAULT, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN,
};
use crate::machines::effect::policy;
use crate::machines::limits::Limit;
use crate::services::executor::guard::{self, Origin};
use crate::services::executor::http::request::header_name;

const OVER_HTTP: &[&str] =
    &["external_http", "langchain", "langgraph", "autogen", "crewai", "semantic_kernel"];

/// Members that every agent may have.
const COMMON: &[&str] = &[
    "id",
    "type",
    "description",
    "external",
    "mode",
    "framework",
    "agent_id",
    "timeout",
    "idempotent",
    "retry",
    "limitKeys",
    "concurrency",
    "rate",
    "probe",
];
const OF_HTTP: &[&str] = &["endpoint", "url", "token", "token_env", "headers", "protocol", "async"];
const OF_COMMAND: &[&str] = &["argv", "cwd", "env"];

/// Options of effects, besides the time that one may take.
const OPTIONS: &[&str] = &["idempotent", "retry", "limitKeys", "probe"];
/// Members of options that are time spans.
const SPANS: &[&str] = &["initial", "max", "maxElapsed", "after"];

/// Reads agents, and notices what does not matter.
pub(super) struct Reader<'a> {
    pub(super) remarks: Vec<NotYaml>,
    /// Which variables the environment has.
    pub(super) has_variable: &'a dyn Fn(&str) -> bool,
    /// What paths are relative to.
    pub(super) folder: &'a Path,
}

/// The members of an agent and of its `external`, one beside the other.
struct Members<'a> {
    line: usize,
    all: Vec<&'a (usize, String, Node)>,
}

pub(super) fn wrong(line: usize, why: impl Into<String>) -> NotYaml {
    NotYaml { line, why: why.into() }
}

impl<'a> Members<'a> {
    fn of(node: &'a Node, line: usize) -> Result<Self, NotYaml> {
        let top = node.members().ok_or_else(|| wrong(line, "an agent is a map"))?;
        let mut all: Vec<_> = top.iter().filter(|(_, name, _)| name != "external").collect();
        if let Some(inner) = node.member("external").filter(|inner| !inner.is_null()) {
            all.extend(inner.members().ok_or_else(|| wrong(inner.line, "external is a map"))?);
        }
        Ok(Self { line, all })
    }

    fn get(&self, name: &str) -> Option<&'a Node> {
        let found = self.all.iter().find(|(_, n, node)| n == name && !node.is_null());
        found.map(|(_, _, node)| node)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, NotYaml> {
        let read = |node: &'a Node| {
            node.text().ok_or_else(|| wrong(node.line, format!("{name} is a text")))
        };
        self.get(name).map(read).transpose()
    }

    fn needed(&self, name: &str) -> Result<&'a str, NotYaml> {
        self.text(name)?.ok_or_else(|| wrong(self.line, format!("{name} is missing")))
    }

    fn texts(&self, name: &str) -> Result<BTreeMap<String, String>, NotYaml> {
        let Some(node) = self.get(name) else { return Ok(BTreeMap::new()) };
        let no_map = || wrong(node.line, format!("{name} is a map"));
        let text = |(line, name, value): &(usize, String, Node)| {
            let text = value.text().ok_or_else(|| wrong(*line, format!("{name} is a text")))?;
            Ok((name.clone(), text.to_owned()))
        };
        node.members().ok_or_else(no_map)?.iter().map(text).collect()
    }

    fn span(&self, name: &str) -> Result<Option<u64>, NotYaml> {
        self.get(name).map(|node| span(name, node)).transpose()
    }
}

fn span(name: &str, node: &Node) -> Result<u64, NotYaml> {
    let read = node.text().and_then(duration::read);
    let why = || format!("{name} is seconds or a time span such as 1m30s");
    read.ok_or_else(|| wrong(node.line, why()))
}

impl Reader<'_> {
    pub(super) fn remark(&mut self, line: usize, why: String) {
        self.remarks.push(wrong(line, why));
    }

    pub(super) fn agent(&mut self, id: &str, line: usize, node: &Node) -> Result<Agent, NotYaml> {
        let members = Members::of(node, line)?;
        let remarked = self.remarks.len();
        let (kind, known) = self.kind(id, &members)?;
        if !matches!(kind, AgentKind::Unsupported { .. }) {
            for (line, name, _) in &members.all {
                if !COMMON.contains(&name.as_str()) && !known.contains(&name.as_str()) {
                    self.remark(*line, format!("{id}.{name} means nothing here"));
                }
            }
        }
        Ok(Agent {
            description: members.text("description")?.map(str::to_owned),
            options: options(&members, &kind)?,
            limit: limit(&members)?,
            problems: self.remarks[remarked..].iter().map(ToString::to_string).collect(),
            kind,
        })
    }

    /// How an agent is reached, and the members that this kind of it has.
    fn kind(
        &mut self,
        id: &str,
        members: &Members<'_>,
    ) -> Result<(AgentKind, &'static [&'static str]), NotYaml> {
        let reached = members.get("endpoint").or_else(|| members.get("url"));
        let kind = match (members.text("type")?, reached) {
            (Some(kind), _) => kind,
            (None, Some(_)) => "external_http",
            (None, None) => return Err(wrong(members.line, format!("the agent {id} has no type"))),
        };
        Ok(match kind {
            "echo" => (AgentKind::Echo, &[]),
            "external" => (AgentKind::External, &[]),
            _ if members.text("mode")? == Some("embedded") => {
                let why = "frameworks are not embedded here: serve it over HTTP and give its url";
                (AgentKind::Unsupported { why: why.to_owned() }, &[])
            }
            "command" => (AgentKind::Command(command(members)?), OF_COMMAND),
            "process" => {
                let entry = self.whole(members.needed("entry")?);
                (AgentKind::Process { entry }, &["entry"])
            }
            "workflow" if members.get("workflow_type").is_none() => {
                let document = self.whole(members.needed("document")?);
                (AgentKind::Workflow { document }, &["document"])
            }
            kind if OVER_HTTP.contains(&kind) => {
                (AgentKind::Http(Box::new(self.endpoint(kind, members)?)), OF_HTTP)
            }
            kind => {
                let none = || wrong(members.line, format!("{id}: there is no type {kind}"));
                (AgentKind::Unsupported { why: instead_of(kind).ok_or_else(none)?.to_owned() }, &[])
            }
        })
    }

    fn whole(&self, path: &str) -> String {
        self.folder.join(path).display().to_string()
    }

    fn endpoint(&mut self, kind: &str, members: &Members<'_>) -> Result<Endpoint, NotYaml> {
        let missing = || wrong(members.line, "endpoint is missing");
        let node = members.get("endpoint").or_else(|| members.get("url")).ok_or_else(missing)?;
        let text = node.text().ok_or_else(missing)?;
        let url = guard::read(text).map_err(|e| wrong(node.line, e.to_string()))?;
        let origin = Origin::of(&url);
        let ip = origin.host.parse().ok();
        let local = origin.host == "localhost"
            || ip.is_some_and(|ip| guard::class(ip) == Some("a loopback address"));
        if !origin.tls && !local {
            self.remark(node.line, format!("{origin} is asked without TLS: anybody can listen"));
        }
        let protocol = match members.text("protocol")? {
            None | Some("json" | "http") => Protocol::Json,
            Some("sse" | "sse_legacy") => Protocol::Sse,
            Some(other) => {
                let line = members.get("protocol").map_or(members.line, |node| node.line);
                return Err(wrong(line, format!("protocol is json or sse, not {other}")));
            }
        };
        let headers = members.texts("headers")?;
        for name in headers.keys() {
            let line = members.get("headers").map_or(members.line, |node| node.line);
            header_name(name).map_err(|e| wrong(line, e.message))?;
        }
        let framework = members.text("framework")?;
        let framework = framework.or_else(|| (kind != "external_http").then_some(kind));
        Ok(Endpoint {
            url: text.to_owned(),
            token: self.token(members)?,
            headers,
            protocol,
            posts_later_ms: posts_later_ms(members)?,
            framework: framework.map(str::to_owned),
            agent_id: members.text("agent_id")?.map(str::to_owned),
        })
    }

    fn token(&mut self, members: &Members<'_>) -> Result<Option<Token>, NotYaml> {
        if let Some(node) = members.get("token") {
            let name = node.text().and_then(|text| text.strip_prefix("secret:"));
            let name = name.filter(|name| is_secret_name(name));
            let why = "token is secret:NAME, never the token itself";
            let name = name.ok_or_else(|| wrong(node.line, why))?;
            return Ok(Some(Token::Secret(name.to_owned())));
        }
        let Some(name) = members.text("token_env")? else { return Ok(None) };
        if !(self.has_variable)(name) {
            let line = members.get("token_env").map_or(1, |node| node.line);
            self.remark(line, format!("there is no ${name}: the agent cannot be asked"));
        }
        Ok(Some(Token::Variable(name.to_owned())))
    }
}

/// The lease of an agent that posts its answer later.
fn posts_later_ms(members: &Members<'_>) -> Result<Option<u64>, NotYaml> {
    let Some(node) = members.get("async") else { return Ok(None) };
    if !node.switch().ok_or_else(|| wrong(node.line, "async is true or false"))? {
        return Ok(None);
    }
    let ttl_ms = members.span("timeout")?.unwrap_or(AGENT_LEASE_MS_DEFAULT);
    if !(LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX).contains(&ttl_ms) {
        let line = members.get("timeout").map_or(node.line, |node| node.line);
        return Err(wrong(line, "timeout of an agent with async is 5s to 24h"));
    }
    Ok(Some(ttl_ms))
}

fn command(members: &Members<'_>) -> Result<CommandLine, NotYaml> {
    let missing = || wrong(members.line, "argv is missing");
    let node = members.get("argv").ok_or_else(missing)?;
    let no_list = || wrong(node.line, "argv is a list of texts that begins with a program");
    let Yaml::List(words) = &node.yaml else { return Err(no_list()) };
    let argv: Option<Vec<String>> =
        words.iter().map(|word| word.text().map(str::to_owned)).collect();
    Ok(CommandLine {
        argv: argv.filter(|argv| !argv.is_empty()).ok_or_else(no_list)?,
        cwd: members.text("cwd")?.map(str::to_owned),
        env: members.texts("env")?,
    })
}

/// Options of the agent's effects, as an author would write them.
fn options(members: &Members<'_>, kind: &AgentKind) -> Result<Map<String, Value>, NotYaml> {
    let timeout = members.span("timeout")?;
    let timeout = match kind {
        // It is a lease, which signs of life prolong.
        AgentKind::Http(endpoint) if endpoint.posts_later_ms.is_some() => None,
        AgentKind::Http(_) => Some(timeout.unwrap_or(AGENT_ATTEMPT_MS_DEFAULT)),
        _ => timeout,
    };
    let mut options = Map::new();
    if let Some(ms) = timeout {
        options.insert("timeout".to_owned(), ms.into());
    }
    for name in OPTIONS {
        let Some(node) = members.get(name) else { continue };
        let mut value = node.json();
        for name in SPANS {
            if let (Some(told), Some(node)) = (value.get_mut(*name), node.member(name)) {
                *told = span(name, node)?.into();
            }
        }
        // Each is read alone, so that its line is known.
        policy::resolve("agent", None, Some(&Json::of(&json!({ *name: value }))))
            .map_err(|why| wrong(node.line, why))?;
        options.insert((*name).to_owned(), value);
    }
    Ok(options)
}

/// How many of the agent's effects may be at work, and may start in a span of time.
fn limit(members: &Members<'_>) -> Result<Limit, NotYaml> {
    let mut limit = Limit::default();
    if let Some(node) = members.get("concurrency") {
        let why = || wrong(node.line, "concurrency is a whole number");
        limit.concurrency = Some(node.json().as_u64().ok_or_else(why)?);
        limit.check().map_err(|why| wrong(node.line, why))?;
    }
    if let Some(node) = members.get("rate") {
        let rate = node.text().unwrap_or_default().parse();
        limit.rate = Some(rate.map_err(|why: String| wrong(node.line, why))?);
    }
    Ok(limit)
}

/// What to use instead of a type that is known and not supported.
fn instead_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "react" | "deer" | "manus" => {
            "serve the agent over HTTP and list it as `type: external_http` with its url"
        }
        "chain" | "graph" | "workflow" => {
            "write it as a process, a function that asks for one task after another, and list it \
             as `type: process` with its entry"
        }
        _ => return None,
    })
}
