//! `agents.yaml`: which agents there are, in any of the forms that such files have.
//!
//! May not open files or ask agents. Invariant: an [`Agents`] holds agents whose ids, addresses and
//! times are within bounds; every member that means nothing here was remarked upon.

use std::collections::BTreeMap;

use super::duration;
use crate::codecs::yaml::{self, Node, NotYaml, Yaml};
use crate::ground::limits::AGENT_ATTEMPT_MS_DEFAULT;
use crate::services::executor::guard::{self, Origin};
use crate::services::executor::http::request::header_name;
use crate::services::executor::secrets::is_name;

/// Longest id of an agent.
const ID_BYTES_MAX: usize = 64;

/// All agents of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agents {
    /// By id.
    pub agents: BTreeMap<String, Agent>,
    /// What was noticed and does not matter, by line.
    pub remarks: Vec<NotYaml>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// What it is for, in its operator's words.
    pub description: Option<String>,
    /// How it is reached.
    pub how: How,
}

/// How an agent is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// Over HTTP.
    Http(Box<Endpoint>),
    /// It is here, and says what it was told.
    Echo,
    /// A worker claims its effects.
    External,
    /// Not at all; what to use instead.
    Unsupported(String),
}

/// An agent that is asked over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where.
    pub url: String,
    /// How long it may take.
    pub timeout_ms: u64,
    /// What proves that we may ask.
    pub token: Option<Token>,
    /// More header fields, which may hold placeholders.
    pub headers: BTreeMap<String, String>,
    /// What is spoken.
    pub protocol: Protocol,
    /// What made it, if that was said.
    pub framework: Option<String>,
    /// Its name over there, if it is another one.
    pub agent_id: Option<String>,
}

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A secret of the configuration.
    Secret(String),
    /// A variable of the daemon's environment.
    Variable(String),
}

/// What is spoken with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One JSON object each way.
    Json,
    /// An answer in pieces.
    Sse,
}

const OVER_HTTP: &[&str] =
    &["external_http", "langchain", "langgraph", "autogen", "crewai", "semantic_kernel"];

const KNOWN: &[&str] = &[
    "type",
    "description",
    "external",
    "endpoint",
    "url",
    "timeout",
    "token",
    "token_env",
    "headers",
    "protocol",
    "agent_id",
    "framework",
    "mode",
];

/// Members that are part of the form and do nothing here yet.
const UNUSED: &[&str] =
    &["async", "idempotent", "retry", "concurrency", "rate", "limitKeys", "probe"];

/// Reads a file. `has_variable` says which variables the environment has.
pub fn read(text: &str, has_variable: &dyn Fn(&str) -> bool) -> Result<Agents, NotYaml> {
    let top = yaml::read(text)?;
    let mut reader = Reader { remarks: Vec::new(), has_variable };
    let mut agents = BTreeMap::new();
    for (line, id, node) in reader.listed(&top)? {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(wrong(line, format!("id {id:?} is not 1 to 64 of A-Z a-z 0-9 . _ -")));
        }
        let agent = reader.agent(&id, line, node)?;
        if agents.insert(id.clone(), agent).is_some() {
            return Err(wrong(line, format!("the agent {id:?} stands there twice")));
        }
    }
    Ok(Agents { agents, remarks: reader.remarks })
}

fn wrong(line: usize, why: String) -> NotYaml {
    NotYaml { line, why }
}

struct Reader<'a> {
    remarks: Vec<NotYaml>,
    has_variable: &'a dyn Fn(&str) -> bool,
}

/// The members of an agent and of its `external`, one beside the other.
struct Members<'a>(Vec<&'a (usize, String, Node)>);

impl<'a> Members<'a> {
    fn of(node: &'a Node, line: usize) -> Result<Self, NotYaml> {
        let top = node.members().ok_or_else(|| wrong(line, "an agent is a map".to_owned()))?;
        let mut all: Vec<_> = top.iter().filter(|(_, name, _)| name != "external").collect();
        if let Some(inner) = node.member("external").filter(|inner| !inner.is_null()) {
            let inner = inner.members();
            all.extend(inner.ok_or_else(|| wrong(line, "external is a map".to_owned()))?);
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&'a Node> {
        let found = self.0.iter().find(|(_, n, node)| n == name && !node.is_null());
        found.map(|(_, _, node)| node)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, NotYaml> {
        let read = |node: &'a Node| {
            node.text().ok_or_else(|| wrong(node.line, format!("{name} is a text")))
        };
        self.get(name).map(read).transpose()
    }
}

impl Reader<'_> {
    fn remark(&mut self, line: usize, why: String) {
        self.remarks.push(wrong(line, why));
    }

    /// Line, id and members of every agent, whatever the form.
    fn listed<'a>(&mut self, top: &'a Node) -> Result<Vec<(usize, String, &'a Node)>, NotYaml> {
        if top.is_null() {
            return Ok(Vec::new());
        }
        let no_map = || wrong(top.line, "there is no map with a member agents".to_owned());
        let members = top.members().ok_or_else(no_map)?;
        for (line, name, _) in members.iter().filter(|(_, name, _)| name != "agents") {
            self.remark(*line, format!("{name} means nothing here"));
        }
        let mut agents = top.member("agents").ok_or_else(no_map)?;
        if let Some(inner) = agents.member("agents").filter(|inner| is_nest(inner)) {
            for (line, name, _) in agents.members().unwrap_or_default() {
                if name != "agents" {
                    self.remark(*line, format!("agents.{name} means nothing here"));
                }
            }
            agents = inner;
        }
        match &agents.yaml {
            Yaml::Map(members) => {
                Ok(members.iter().map(|(line, id, node)| (*line, id.clone(), node)).collect())
            }
            Yaml::List(items) => items.iter().map(item).collect(),
            Yaml::Plain(_) if agents.is_null() => Ok(Vec::new()),
            _ => Err(wrong(agents.line, "agents is a list or a map".to_owned())),
        }
    }

    fn agent(&mut self, id: &str, line: usize, node: &Node) -> Result<Agent, NotYaml> {
        let members = Members::of(node, line)?;
        let reached = members.get("endpoint").or_else(|| members.get("url"));
        let kind = match (members.text("type")?, reached) {
            (Some(kind), _) => kind,
            (None, Some(_)) => "external_http",
            (None, None) => return Err(wrong(line, format!("the agent {id} has no type"))),
        };
        let embedded = members.text("mode")? == Some("embedded");
        let asynchronous = members.get("async").and_then(Node::switch) == Some(true);
        let how = match kind {
            "echo" => How::Echo,
            "external" => How::External,
            _ if embedded => How::Unsupported(
                "frameworks are not embedded here: serve it over HTTP and give its url".to_owned(),
            ),
            kind if OVER_HTTP.contains(&kind) && asynchronous => How::Unsupported(
                "async is not spoken yet: leave it out, or let a worker claim the effects of \
                 `type: external`"
                    .to_owned(),
            ),
            kind if OVER_HTTP.contains(&kind) => {
                How::Http(Box::new(self.endpoint(kind, line, &members)?))
            }
            kind => {
                let instead = instead_of(kind);
                How::Unsupported(
                    instead.ok_or_else(|| wrong(line, format!("{id}: there is no type {kind}")))?,
                )
            }
        };
        if !matches!(how, How::Unsupported(_)) {
            self.look_at_names(id, &members);
        }
        Ok(Agent { description: members.text("description")?.map(str::to_owned), how })
    }

    fn look_at_names(&mut self, id: &str, members: &Members<'_>) {
        for (line, name, node) in &members.0 {
            if UNUSED.contains(&name.as_str()) && node.switch() != Some(false) {
                self.remark(*line, format!("{id}.{name} is not heeded yet"));
            } else if !KNOWN.contains(&name.as_str()) && name != "id" && name != "async" {
                self.remark(*line, format!("{id}.{name} means nothing here"));
            }
        }
    }

    fn endpoint(
        &mut self,
        kind: &str,
        line: usize,
        members: &Members<'_>,
    ) -> Result<Endpoint, NotYaml> {
        let missing = || wrong(line, "endpoint is missing".to_owned());
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
        let timeout = members.get("timeout").map(|node| {
            let text = node.text().and_then(duration::read);
            let allowed = "timeout is seconds or a time span such as 1m30s";
            text.ok_or_else(|| wrong(node.line, allowed.to_owned()))
        });
        let protocol = match members.text("protocol")? {
            None | Some("json" | "http") => Protocol::Json,
            Some("sse" | "sse_legacy") => Protocol::Sse,
            Some(other) => {
                return Err(wrong(line, format!("protocol is json or sse, not {other}")));
            }
        };
        let framework = members.text("framework")?;
        let framework = framework.or_else(|| (kind != "external_http").then_some(kind));
        Ok(Endpoint {
            url: text.to_owned(),
            timeout_ms: timeout.transpose()?.unwrap_or(AGENT_ATTEMPT_MS_DEFAULT),
            token: self.token(members)?,
            headers: headers(members)?,
            protocol,
            framework: framework.map(str::to_owned),
            agent_id: members.text("agent_id")?.map(str::to_owned),
        })
    }

    fn token(&mut self, members: &Members<'_>) -> Result<Option<Token>, NotYaml> {
        if let Some(node) = members.get("token") {
            let name = node.text().and_then(|text| text.strip_prefix("secret:"));
            let name = name.filter(|name| is_name(name));
            let why = "token is secret:NAME, never the token itself";
            let name = name.ok_or_else(|| wrong(node.line, why.to_owned()))?;
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

/// Whether these are agents and not one agent with the id `agents`.
fn is_nest(node: &Node) -> bool {
    let own = ["type", "endpoint", "url", "external"];
    node.members().is_some_and(|members| !members.iter().any(|(_, n, _)| own.contains(&n.as_str())))
        || matches!(node.yaml, Yaml::List(_))
}

fn item(node: &Node) -> Result<(usize, String, &Node), NotYaml> {
    let id = node.member("id").and_then(Node::text);
    let id = id.ok_or_else(|| wrong(node.line, "an agent in a list has an id".to_owned()))?;
    Ok((node.line, id.to_owned(), node))
}

fn headers(members: &Members<'_>) -> Result<BTreeMap<String, String>, NotYaml> {
    let Some(node) = members.get("headers") else { return Ok(BTreeMap::new()) };
    let no_map = || wrong(node.line, "headers is a map".to_owned());
    let mut headers = BTreeMap::new();
    for (line, name, value) in node.members().ok_or_else(no_map)? {
        header_name(name).map_err(|e| wrong(*line, e.message))?;
        let text = value.text().ok_or_else(|| wrong(*line, format!("{name} is a text")))?;
        headers.insert(name.clone(), text.to_owned());
    }
    Ok(headers)
}

/// What to use instead of a type that is known and not supported.
fn instead_of(kind: &str) -> Option<String> {
    let instead = match kind {
        "command" => "let a process ask for a `shell` task that executes it",
        "process" | "workflow" => "create a run of it: dormouse run create --entry FILE",
        "react" | "deer" | "manus" => {
            "serve the agent over HTTP and list it as `type: external_http` with its url"
        }
        "chain" | "graph" => {
            "write it as a process: a function that asks for one task after another"
        }
        _ => return None,
    };
    Some(instead.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(text: &str) -> Agents {
        read(text, &|name| name == "SET").unwrap()
    }

    fn endpoint(agents: &Agents, id: &str) -> Endpoint {
        match &agents.agents[id].how {
            How::Http(endpoint) => (**endpoint).clone(),
            other => panic!("{id}: {other:?}"),
        }
    }

    fn remarks(agents: &Agents) -> Vec<String> {
        agents.remarks.iter().map(ToString::to_string).collect()
    }

    const LIST: &str = "\
agents:
  - id: helper
    type: external_http
    endpoint: http://localhost:5000/agent
    timeout: 30s
";
    const MAP: &str = "\
agents:
  helper:
    type: langchain
    description: helps
    external:
      url: https://a.example/x
      timeout: 90
      token_env: UNSET
      protocol: sse_legacy
      agent_id: other
      mode: http
";
    const NESTED: &str = "\
agents:
  agents:
    helper: { url: 'http://127.0.0.1:1', idempotent: true, retry: { maxAttempts: 3 } }
  llm: x
";

    #[test]
    fn every_form_is_read() {
        let list = agents(LIST);
        let helper = endpoint(&list, "helper");
        assert_eq!(helper.url, "http://localhost:5000/agent");
        assert_eq!((helper.timeout_ms, helper.protocol), (30_000, Protocol::Json));
        assert_eq!((helper.framework.clone(), list.remarks.len()), (None, 0));

        let map = agents(MAP);
        let helper = endpoint(&map, "helper");
        assert_eq!((helper.timeout_ms, helper.protocol), (90_000, Protocol::Sse));
        assert_eq!(helper.framework.as_deref(), Some("langchain"));
        assert_eq!(helper.agent_id.as_deref(), Some("other"));
        assert_eq!(helper.token, Some(Token::Variable("UNSET".to_owned())));
        assert_eq!(map.agents["helper"].description.as_deref(), Some("helps"));
        assert_eq!(remarks(&map), ["line 8: there is no $UNSET: the agent cannot be asked"]);

        let nested = agents(NESTED);
        let helper = endpoint(&nested, "helper");
        assert_eq!((helper.url.as_str(), helper.timeout_ms), ("http://127.0.0.1:1", 120_000));
        assert_eq!(
            remarks(&nested),
            [
                "line 4: agents.llm means nothing here",
                "line 3: helper.idempotent is not heeded yet",
                "line 3: helper.retry is not heeded yet",
            ]
        );

        let one = agents("agents:\n  agents: {type: echo}\n");
        assert_eq!(one.agents["agents"].how, How::Echo);
        assert_eq!(agents(""), Agents::default());
        assert_eq!(agents("agents:\n"), Agents::default());
    }

    #[test]
    fn what_is_not_supported_says_what_to_use() {
        for kind in ["react", "deer", "manus", "chain", "graph", "workflow", "command", "process"] {
            let set = agents(&format!("agents:\n  a: {{type: {kind}, llm: x, tools: [y]}}\n"));
            assert!(matches!(set.agents["a"].how, How::Unsupported(_)), "{kind}");
            assert!(set.remarks.is_empty(), "{kind}");
        }
        for more in ["mode: embedded", "async: true"] {
            let set = agents(&format!("agents:\n  a: {{type: crewai, url: 'http://x', {more}}}\n"));
            assert!(matches!(set.agents["a"].how, How::Unsupported(_)), "{more}");
        }
        assert_eq!(agents("agents: {a: {type: external}}").agents["a"].how, How::External);
    }

    #[test]
    fn one_remark_for_each_member_that_means_nothing() {
        let set = agents(
            "version: 1\nagents:\n  a:\n    url: http://far.example\n    colour: red\n    \
             rate: 5\n    async: false\n    token_env: SET\n",
        );
        assert_eq!(
            remarks(&set),
            [
                "line 1: version means nothing here",
                "line 4: http://far.example is asked without TLS: anybody can listen",
                "line 5: a.colour means nothing here",
                "line 6: a.rate is not heeded yet",
            ]
        );
    }

    #[test]
    fn what_is_wrong_has_a_line_and_a_name() {
        for (text, said) in [
            ("agents: 3", "line 1: agents is a list or a map"),
            ("x: 3", "line 1: there is no map"),
            ("agents:\n  - type: echo", "line 2: an agent in a list has an id"),
            ("agents:\n  'a b': {type: echo}", "line 2: id \"a b\""),
            ("agents:\n - {id: a, type: echo}\n - {id: a, type: echo}", "line 3: the agent \"a\""),
            ("agents:\n  a: {}", "line 2: the agent a has no type"),
            ("agents:\n  a: {type: nonsense}", "line 2: a: there is no type nonsense"),
            ("agents:\n  a: {type: external_http}", "line 2: endpoint is missing"),
            ("agents:\n  a:\n    url: ftp://x", "line 3: the URL is neither"),
            ("agents:\n  a:\n    url: http://x\n    timeout: soon", "line 4: timeout is"),
            ("agents:\n  a:\n    url: http://x\n    timeout: 0", "line 4: timeout is"),
            ("agents:\n  a:\n    url: http://x\n    token: abc", "line 4: token is secret:NAME"),
            ("agents:\n  a: {url: 'http://x', protocol: xml}", "protocol is json or sse"),
            ("agents:\n  a: {url: 'http://x', headers: {Host: y}}", "is set by the connection"),
            ("agents:\n  a: 7", "line 2: an agent is a map"),
            ("agents: [", "line"),
        ] {
            let error = read(text, &|_| true).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
