//! `agents.yaml`: which agents there are, in any of the forms that such files have.
//!
//! May not open files or ask agents. Invariant: an [`Agents`] holds agents whose ids, addresses and
//! times are within bounds; every member that means nothing here was remarked upon.

use std::collections::BTreeMap;
use std::path::Path;

use super::agent::{Agent, limit_key};
use super::entry::{Reader, wrong};
use crate::codecs::yaml::{self, Node, NotYaml, Yaml};
use crate::machines::limits::{Bucket, Limit, Scope};

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

impl Agents {
    /// The limits that the file sets.
    #[must_use]
    pub fn limits(&self) -> BTreeMap<Bucket, Limit> {
        let limited = self.agents.iter().filter(|(_, agent)| agent.limit != Limit::default());
        let place = |id| Bucket { scope: Scope::Key, name: limit_key(id) };
        limited.map(|(id, agent)| (place(id), agent.limit)).collect()
    }
}

/// Reads a file that lies in `folder`. `has_variable` says which variables the environment has.
pub fn read(
    text: &str,
    folder: &Path,
    has_variable: &dyn Fn(&str) -> bool,
) -> Result<Agents, NotYaml> {
    let top = yaml::read(text)?;
    let mut reader = Reader { remarks: Vec::new(), has_variable, folder };
    let mut agents = BTreeMap::new();
    for (line, id, node) in listed(&mut reader, &top)? {
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

/// Line, id and members of every agent, whatever the form.
fn listed<'a>(
    reader: &mut Reader<'_>,
    top: &'a Node,
) -> Result<Vec<(usize, String, &'a Node)>, NotYaml> {
    if top.is_null() {
        return Ok(Vec::new());
    }
    let no_map = || wrong(top.line, "there is no map with a member agents");
    let members = top.members().ok_or_else(no_map)?;
    for (line, name, _) in members.iter().filter(|(_, name, _)| name != "agents") {
        reader.remark(*line, format!("{name} means nothing here"));
    }
    let mut agents = top.member("agents").ok_or_else(no_map)?;
    if let Some(inner) = agents.member("agents").filter(|inner| is_nest(inner)) {
        for (line, name, _) in agents.members().unwrap_or_default() {
            if name != "agents" {
                reader.remark(*line, format!("agents.{name} means nothing here"));
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
        _ => Err(wrong(agents.line, "agents is a list or a map")),
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
    let id = id.ok_or_else(|| wrong(node.line, "an agent in a list has an id"))?;
    Ok((node.line, id.to_owned(), node))
}

#[cfg(test)]
mod tests {
    use super::super::agent::{AgentKind, CommandLine, Endpoint, Protocol, Token};
    use super::*;
    use serde_json::{Value, json};

    fn agents(text: &str) -> Agents {
        read(text, Path::new("/etc/x"), &|name| name == "SET").unwrap()
    }

    fn options(agents: &Agents, id: &str) -> Value {
        Value::Object(agents.agents[id].options.clone())
    }

    fn endpoint(agents: &Agents, id: &str) -> Endpoint {
        match &agents.agents[id].kind {
            AgentKind::Http(endpoint) => (**endpoint).clone(),
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
    helper: { url: 'http://127.0.0.1:1', idempotent: true, retry: { maxAttempts: 3, initial: 2 } }
  llm: x
";

    #[test]
    fn every_form_is_read() {
        let list = agents(LIST);
        let helper = endpoint(&list, "helper");
        assert_eq!(helper.url, "http://localhost:5000/agent");
        assert_eq!(options(&list, "helper"), json!({ "timeout": 30_000 }));
        assert_eq!((helper.protocol, helper.posts_later_ms), (Protocol::Json, None));
        assert_eq!((helper.framework.clone(), list.remarks.len()), (None, 0));

        let map = agents(MAP);
        let helper = endpoint(&map, "helper");
        assert_eq!(options(&map, "helper"), json!({ "timeout": 90_000 }));
        assert_eq!(helper.protocol, Protocol::Sse);
        assert_eq!(helper.framework.as_deref(), Some("langchain"));
        assert_eq!(helper.agent_id.as_deref(), Some("other"));
        assert_eq!(helper.token, Some(Token::Variable("UNSET".to_owned())));
        assert_eq!(map.agents["helper"].description.as_deref(), Some("helps"));
        assert_eq!(remarks(&map), ["line 8: there is no $UNSET: the agent cannot be asked"]);

        let nested = agents(NESTED);
        let helper = endpoint(&nested, "helper");
        assert_eq!(helper.url, "http://127.0.0.1:1");
        let retry = json!({ "maxAttempts": 3, "initial": 2_000 });
        let all = json!({ "timeout": 120_000, "idempotent": true, "retry": retry });
        assert_eq!(options(&nested, "helper"), all);
        assert_eq!(remarks(&nested), ["line 4: agents.llm means nothing here"]);

        let one = agents("agents:\n  agents: {type: echo}\n");
        assert_eq!(one.agents["agents"].kind, AgentKind::Echo);
        assert_eq!(agents(""), Agents::default());
        assert_eq!(agents("agents:\n"), Agents::default());
    }

    #[test]
    fn what_is_not_supported_says_what_to_use() {
        for kind in ["react", "deer", "manus", "chain", "graph", "workflow"] {
            let more = "workflow_type: x, llm: x, tools: [y]";
            let set = agents(&format!("agents:\n  a: {{type: {kind}, {more}}}\n"));
            assert!(matches!(set.agents["a"].kind, AgentKind::Unsupported { .. }), "{kind}");
            assert!(set.remarks.is_empty(), "{kind}");
        }
        let set = agents("agents:\n  a: {type: crewai, url: 'http://x', mode: embedded}\n");
        assert!(matches!(set.agents["a"].kind, AgentKind::Unsupported { .. }));
        assert_eq!(agents("agents: {a: {type: external}}").agents["a"].kind, AgentKind::External);
    }

    #[test]
    fn agents_need_not_be_reached_over_http() {
        let set = agents(
            "agents:\n  c: {type: command, argv: [tool, '1'], cwd: /w, env: {A: b}, timeout: 5}\n  \
             p: {type: process, entry: flow.ts#main}\n  w: {type: workflow, document: /d.yaml}\n  \
             l: {url: 'http://localhost', async: true, idempotent: true, limitKeys: [gpu]}\n",
        );
        let kind = |id: &str| set.agents[id].kind.clone();
        let command = CommandLine {
            argv: vec!["tool".to_owned(), "1".to_owned()],
            cwd: Some("/w".to_owned()),
            env: [("A".to_owned(), "b".to_owned())].into(),
        };
        assert_eq!(kind("c"), AgentKind::Command(command));
        assert_eq!(kind("p"), AgentKind::Process { entry: "/etc/x/flow.ts#main".to_owned() });
        assert_eq!(kind("w"), AgentKind::Workflow { document: "/d.yaml".to_owned() });
        assert_eq!(endpoint(&set, "l").posts_later_ms, Some(3_600_000));
        let keys = json!({ "idempotent": true, "limitKeys": ["gpu"] });
        assert_eq!((options(&set, "c"), options(&set, "l")), (json!({ "timeout": 5_000 }), keys));
        assert_eq!((options(&set, "p"), remarks(&set).len()), (json!({}), 0));
    }

    #[test]
    fn an_agent_may_have_limits() {
        let set = agents(
            "agents:\n  a: {url: 'http://localhost', concurrency: 2, rate: 10/s}\n  \
             b: {type: external, concurrency: 0}\n  c: {type: echo}\n",
        );
        let limits: Vec<_> = set.limits().into_iter().collect();
        let [(a, of_a), (b, of_b)] = &limits[..] else { panic!("{limits:?}") };
        assert_eq!((a.to_string(), b.to_string()), ("key:agent:a".into(), "key:agent:b".into()));
        assert_eq!((of_a.concurrency, of_a.rate), (Some(2), Some("10/s".parse().unwrap())));
        assert_eq!((of_b.concurrency, of_b.rate), (Some(0), None));
        assert!(set.remarks.is_empty(), "{:?}", remarks(&set));
    }

    #[test]
    fn one_remark_for_each_member_that_means_nothing() {
        let set = agents(
            "version: 1\nagents:\n  a:\n    url: http://far.example\n    colour: red\n    \
             argv: [x]\n    async: false\n    token_env: SET\n",
        );
        assert_eq!(
            remarks(&set),
            [
                "line 1: version means nothing here",
                "line 4: http://far.example is asked without TLS: anybody can listen",
                "line 5: a.colour means nothing here",
                "line 6: a.argv means nothing here",
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
            ("agents:\n  a: {type: command}", "line 2: argv is missing"),
            ("agents:\n  a:\n    type: command\n    argv: []", "line 4: argv is a list"),
            ("agents:\n  a: {type: process}", "line 2: entry is missing"),
            ("agents:\n  a: {type: workflow}", "line 2: document is missing"),
            ("agents:\n  a:\n    type: echo\n    idempotent: 1", "line 4: idempotent is true"),
            ("agents:\n  a:\n    type: echo\n    retry:\n      max: x", "line 5: max is seconds"),
            ("agents:\n  a:\n    url: http://x\n    async: 1", "line 4: async is true"),
            ("agents:\n  a: {url: 'http://x', async: true, timeout: 1s}", "is 5s to 24h"),
            ("agents:\n  a:\n    type: echo\n    concurrency: -1", "line 4: concurrency is"),
            ("agents:\n  a:\n    type: echo\n    rate: fast", "line 4: rate is"),
            ("agents: [", "line"),
        ] {
            let error = read(text, Path::new("/"), &|_| true).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
