//! The executor of kind `agent`, for the agents that a file lists.
//!
//! [`file`] reads the file, [`book`] keeps it; [`over_http`] and [`command`] ask in the words of
//! [`contract`], and [`answer`] reads what comes back. May not know other kinds. Invariant: an
//! effect whose agent is not listed is left to whoever works outside.

pub mod agent;
pub mod answer;
pub mod book;
pub mod duration;
pub mod file;
pub mod postbox;

mod command;
mod contract;
mod entry;
mod over_http;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::agent::AgentKind;
use self::book::Book;
use self::postbox::Postbox;
use super::guard::{self, Origin};
use super::http::{Client, class_of, failure, refused};
use super::shell::Shell;
use super::{Attempt, Bar, Executor, Heir, Outcome, Stop, Working};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::machines::limits::Limit;

/// Executes effects of kind `agent` whose agents are listed.
#[derive(Clone)]
pub struct AgentExecutor {
    /// Sends.
    pub client: Client,
    /// Knows the agents.
    pub book: Arc<Book>,
    /// Executes those that are commands.
    pub shell: Arc<Shell>,
    /// Whether commands are begun here; if not, those are taken up that once were.
    pub commands: bool,
    /// Where answers that come later are posted.
    pub postbox: Arc<Postbox>,
}

impl AgentExecutor {
    fn agent(&self, definition: &Value) -> Option<(String, AgentKind)> {
        let id = contract::agent_of(definition)?;
        Some((id.to_owned(), self.book.kind_of(id)?))
    }

    async fn ask(
        self,
        found: Option<(String, AgentKind)>,
        attempt: Attempt,
        mut stop: Stop,
    ) -> Outcome {
        // It was listed when the effect was given to us.
        let gone = failure("AgentUnknown", "the agent is not listed any more".to_owned());
        let Some((id, kind)) = found else { return refused(&gone) };
        let Self { client, shell, postbox, .. } = &self;
        match &kind {
            AgentKind::Http(endpoint) => {
                let asks = over_http::Asks { client, id: &id, endpoint, postbox };
                let outcome = asks.ask(&attempt, &mut stop).await;
                client.metrics.http_executor.with([&id, class_of(&outcome)]).one();
                outcome
            }
            AgentKind::Command(line) if self.commands => {
                let order = command::order(&id, line, &attempt);
                command::heard(shell.run(order, stop).await, &attempt).await
            }
            AgentKind::Echo => echo(&attempt),
            AgentKind::External => refused(&gone),
            kind => refused(&unsupported(&id, &why_not(kind).unwrap_or_default())),
        }
    }
}

impl Executor for AgentExecutor {
    fn kind(&self) -> &'static str {
        "agent"
    }

    fn may_run(&self, definition: &Value, cwd: Option<&str>) -> Result<(), Bar> {
        let Some((id, kind)) = self.agent(definition) else { return Err(Bar::Elsewhere) };
        match kind {
            AgentKind::External => Err(Bar::Elsewhere),
            AgentKind::Command(line) if self.commands => {
                self.shell.may_run(&command::definition(&line), cwd)
            }
            AgentKind::Command(_) => Err(Bar::Held {
                why: format!("the agent {id} is a command, and commands are not executed here"),
                allow: "executors.shell.enabled = true".to_owned(),
            }),
            AgentKind::Http(endpoint)
                if endpoint.posts_later_ms.is_some() && self.postbox.base().is_none() =>
            {
                Err(Bar::Held {
                    why: format!("the agent {id} posts its answer later, and nobody listens"),
                    allow: "http.listen = \"127.0.0.1:8080\"".to_owned(),
                })
            }
            kind => why_not(&kind).map_or(Ok(()), |why| Err(Bar::Never(unsupported(&id, &why)))),
        }
    }

    fn agents(&self) -> Option<BTreeSet<String>> {
        let listed = self.book.agents();
        let here = listed.agents.iter().filter(|(_, agent)| agent.kind != AgentKind::External);
        Some(here.map(|(id, _)| id.clone()).collect())
    }

    fn options(&self, definition: &Json) -> Option<Map<String, Value>> {
        let definition = definition.to_value();
        Some(self.book.find(contract::agent_of(&definition)?)?.options)
    }

    fn limit_key(&self, definition: &Json) -> Option<String> {
        let definition = definition.to_value();
        let id = contract::agent_of(&definition)?;
        let agent = self.book.find(id)?;
        (agent.limit != Limit::default()).then(|| agent::limit_key(id))
    }

    fn heir(&self, definition: &Value) -> Option<Heir> {
        match self.agent(definition)? {
            (id, AgentKind::Http(endpoint)) => {
                let worker = format!("agent:{id}");
                Some(Heir { worker, ttl_ms: endpoint.posts_later_ms? })
            }
            _ => None,
        }
    }

    fn target(&self, definition: &Value) -> Option<String> {
        match self.agent(definition)?.1 {
            AgentKind::Http(endpoint) => {
                guard::read(&endpoint.url).ok().map(|url| Origin::of(&url).to_string())
            }
            AgentKind::Command(line) => line.argv.into_iter().next(),
            _ => None,
        }
    }

    fn run(&self, attempt: Attempt, stop: Stop) -> Working {
        let found = self.agent(&attempt.definition);
        Box::pin(self.clone().ask(found, attempt, stop))
    }

    fn resume(&self, attempt: &Attempt, stop: &Stop) -> Option<Working> {
        let attempt = attempt.clone();
        let (id, AgentKind::Command(line)) = self.agent(&attempt.definition)? else { return None };
        let working = self.shell.resume(&command::order(&id, &line, &attempt), stop)?;
        Some(Box::pin(async move { command::heard(working.await, &attempt).await }))
    }

    fn outlives(&self, definition: &Value) -> bool {
        matches!(self.agent(definition), Some((_, AgentKind::Command(_))))
    }
}

/// Why no effect asks such an agent from here.
fn why_not(kind: &AgentKind) -> Option<String> {
    match kind {
        AgentKind::Unsupported { why } => Some(why.clone()),
        AgentKind::Process { entry } | AgentKind::Workflow { document: entry } => {
            Some(format!("it is a run of its own: ask for a run of {entry} instead"))
        }
        AgentKind::Command(_) => Some("commands are not executed here".to_owned()),
        AgentKind::Http(_) | AgentKind::Echo | AgentKind::External => None,
    }
}

fn unsupported(id: &str, instead: &str) -> ErrorInfo {
    failure("AgentUnsupported", format!("the agent {id} cannot be asked here: {instead}"))
}

/// The agent that is here says what it was told.
fn echo(attempt: &Attempt) -> Outcome {
    let (text, _) = contract::prompt_of(attempt);
    Outcome::ok(Json::of(&json!({ "answer": format!("The echo agent was told: {text}") })))
}
