//! `/api/agents`: who messages can be given to.
//!
//! May not ask an agent. Invariant: `default` is always somebody.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Map;

use super::super::Door;
use super::super::problem::{Answer, Problem};
use super::Inside;
use crate::machines::limits::Limit;
use crate::services::executor::agents::agent::{Agent, AgentKind};
use crate::services::executor::agents::book::DEFAULT_AGENT;

/// An agent, for lists.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    description: Option<String>,
    /// Why it gets no messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsupported: Option<String>,
}

/// All agents.
#[derive(Debug, Serialize)]
pub(super) struct Agents {
    agents: Vec<Listed>,
    total: usize,
}

/// Who gets a message.
#[derive(Debug)]
pub(super) enum Receiver {
    /// The agent of this name, whose effect is executed here.
    Here(String),
    /// The agent of this name, whose effect somebody claims or posts.
    Outside(String),
    /// A run of the process at this place.
    Process(String),
}

impl Inside {
    /// Who gets the messages for the agent `id`.
    pub(super) fn receiver(&self, id: &str) -> Answer<Receiver> {
        let book = self.agents.agents();
        if let Some(agent) = book.agents.get(id) {
            return receiver(id, agent);
        }
        if id != DEFAULT_AGENT {
            let known = self.all().into_keys().collect::<Vec<_>>().join(", ");
            let what = format!("there is no agent {id:?}; there are: {known}");
            return Err(Problem::new("agent_unknown", StatusCode::NOT_FOUND, what)
                .next("list it in agents.yaml; GET /api/agents shows what is listed"));
        }
        let name = self.default_agent.as_deref().unwrap_or(DEFAULT_AGENT);
        match book.agents.get(name) {
            Some(agent) => receiver(name, agent),
            None => Ok(Receiver::Outside(name.to_owned())),
        }
    }

    fn all(&self) -> BTreeMap<String, Agent> {
        let mut all = self.agents.agents().agents.clone();
        let stands_for = self.default_agent.as_deref().and_then(|name| all.get(name).cloned());
        all.entry(DEFAULT_AGENT.to_owned()).or_insert_with(|| {
            stands_for.unwrap_or(Agent {
                description: Some("whoever claims or posts its effects".to_owned()),
                kind: AgentKind::External,
                options: Map::new(),
                limit: Limit::default(),
                problems: Vec::new(),
            })
        });
        all
    }
}

fn receiver(name: &str, agent: &Agent) -> Answer<Receiver> {
    match &agent.kind {
        AgentKind::Unsupported { why } => {
            let what = format!("the agent {name} cannot be asked here: {why}");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new("agent_unsupported", status, what))
        }
        AgentKind::Process { entry } | AgentKind::Workflow { document: entry } => {
            Ok(Receiver::Process(entry.clone()))
        }
        AgentKind::External => Ok(Receiver::Outside(name.to_owned())),
        AgentKind::Http(_) | AgentKind::Command(_) | AgentKind::Echo => {
            Ok(Receiver::Here(name.to_owned()))
        }
    }
}

/// Lists the agents.
pub(super) async fn list(State(door): State<Door>) -> Json<Agents> {
    let agents = door.compat.all().into_iter().map(|(id, agent)| {
        let unsupported = match &agent.kind {
            AgentKind::Unsupported { why } => Some(why.clone()),
            _ => None,
        };
        let kind = agent.kind.name();
        Listed { name: id.clone(), id, kind, description: agent.description, unsupported }
    });
    let agents: Vec<Listed> = agents.collect();
    Json(Agents { total: agents.len(), agents })
}
