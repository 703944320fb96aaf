//! What an agent of a file is: how it is reached, and under which rules.
//!
//! May not read files. Invariant: what stands here was checked when it was read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::machines::limits::Limit;

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// What it is for, in its operator's words.
    pub description: Option<String>,
    /// How it is reached.
    pub kind: AgentKind,
    /// Options of its effects that their author leaves open, in an author's words.
    pub options: Map<String, Value>,
    /// How many of its effects may be at work, and how many may start in a span of time.
    pub limit: Limit,
    /// What was noticed about its entry in the file.
    pub problems: Vec<String>,
}

/// The key under which an agent's effects are limited.
#[must_use]
pub fn limit_key(id: &str) -> String {
    format!("agent:{id}")
}

impl AgentKind {
    /// What files and lists call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "external_http",
            Self::Command(_) => "command",
            Self::Process { .. } => "process",
            Self::Workflow { .. } => "workflow",
            Self::Echo => "echo",
            Self::External => "external",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}

/// How an agent is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentKind {
    /// Over HTTP.
    Http(Box<Endpoint>),
    /// It is a command of this machine, under the rules of `[executors.shell]`.
    Command(CommandLine),
    /// A run of a process is the agent's work.
    Process {
        /// Where the process is; a whole path.
        entry: String,
    },
    /// A run of a document is the agent's work.
    Workflow {
        /// Where the document is; a whole path.
        document: String,
    },
    /// It is here, and says what it was told.
    Echo,
    /// A worker claims its effects.
    External,
    /// Not at all.
    Unsupported {
        /// What to use instead.
        why: String,
    },
}

/// An agent that is asked over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where.
    pub url: String,
    /// What proves that we may ask.
    pub token: Option<Token>,
    /// More header fields, which may hold placeholders.
    pub headers: BTreeMap<String, String>,
    /// What is spoken.
    pub protocol: Protocol,
    /// It may say 202 and post its answer later: how long its silence is then taken for work.
    pub posts_later_ms: Option<u64>,
    /// What made it, if that was said.
    pub framework: Option<String>,
    /// Its name over there, if it is another one.
    pub agent_id: Option<String>,
}

/// An agent that is a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Where it is started.
    pub cwd: Option<String>,
    /// Its variables, which may hold secrets.
    pub env: BTreeMap<String, String>,
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
