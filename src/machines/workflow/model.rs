//! A document that was read: names are numbers, texts are parsed, defaults are filled in.
//!
//! May not know where things stood in the text, but for messages. Invariant: every index in a
//! [`Workflow`] without errors leads to what it names.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::expression::Expression;
use super::reference::Reference;
use super::values::Type;

/// A workflow.
#[derive(Debug, Clone, Default)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// What other engines put up with is put up with.
    pub is_lenient: bool,
    /// Where the name belongs.
    pub namespace: String,
    /// What the run is given.
    pub arguments: Vec<Parameter>,
    /// How long the run may take.
    pub timeout_ms: Option<u64>,
    /// Which run's work is taken first.
    pub priority: Option<u32>,
    /// How deep templates may stand in each other.
    pub depth_max: usize,
    /// All templates; executors of nodes are templates without a name.
    pub templates: Vec<Template>,
    /// The one that the run begins with.
    pub entry: usize,
    /// What runs when the run begins or ends.
    pub hooks: Hooks,
}

/// A template.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name; empty for the executor of a node.
    pub name: String,
    /// JSON pointer.
    pub pointer: String,
    /// What it needs.
    pub inputs: Vec<Parameter>,
    /// What comes of it.
    pub outputs: Vec<Parameter>,
    /// How long it may take.
    pub timeout_ms: Option<u64>,
    /// What its end means.
    pub conditions: Conditions,
    /// What it does.
    pub body: Body,
}

/// What a template does.
#[derive(Debug, Clone)]
pub enum Body {
    /// One piece of work.
    Task(Box<Task>),
    /// Tasks with dependencies.
    Dag(Dag),
    /// A template, again and again.
    Loop(Loop),
}

impl Body {
    /// `task`, `dag` or `loop`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Dag(_) => "dag",
            Self::Loop(_) => "loop",
        }
    }
}

/// Work for an executor.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Who does it.
    pub kind: String,
    /// Inputs that are fixed in the document.
    pub config: Map<String, Value>,
    /// What a worker needs for it.
    pub resources: Map<String, Value>,
    /// It may be done again.
    pub idempotent: Option<bool>,
    /// What happens when its outcome is unknown.
    pub on_uncertain: Option<String>,
    /// When it is tried again.
    pub retry: Retry,
    /// What runs when it begins or ends.
    pub hooks: Hooks,
}

/// Repetition of work that failed.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// How often at most.
    pub limit: u32,
    /// When.
    pub expression: Option<Expression>,
    /// How long to wait in between.
    pub backoff: Option<Backoff>,
    /// No later than this after the first attempt.
    pub max_elapsed_ms: Option<u64>,
}

/// Delays between attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// The first.
    pub initial_ms: u64,
    /// Each is that many times longer.
    pub factor: f64,
    /// The longest.
    pub max_ms: u64,
    /// The share that chance takes off.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_ms: 1_000, factor: 2.0, max_ms: 300_000, jitter: 0.0 }
    }
}

/// Conditions on the end of something, in the order in which they are asked.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// It is Succeeded.
    pub succeeded: Option<Expression>,
    /// It is Failed.
    pub failed: Option<Expression>,
    /// It is Error.
    pub error: Option<Expression>,
}

/// Which ends of a task let the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tolerance {
    /// Failed.
    pub failed: bool,
    /// Error.
    pub error: bool,
    /// Timeout.
    pub timeout: bool,
}

/// Tasks with dependencies.
#[derive(Debug, Clone, Default)]
pub struct Dag {
    /// The tasks, in the author's order.
    pub nodes: Vec<Node>,
    /// Their numbers by name.
    pub names: HashMap<String, usize>,
    /// Who waits for each.
    pub dependents: Vec<Vec<usize>>,
    /// For tasks that say nothing themselves.
    pub tolerance: Tolerance,
}

/// A task of a dag.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the dag.
    pub name: String,
    /// JSON pointer.
    pub pointer: String,
    /// What it runs.
    pub template: usize,
    /// What it is given.
    pub arguments: Vec<Parameter>,
    /// The tasks that must be over before.
    pub dependencies: Vec<usize>,
    /// It is skipped unless this is true.
    pub when: Option<Expression>,
    /// How long it may take.
    pub timeout_ms: Option<u64>,
    /// When it is tried again.
    pub retry: Option<Retry>,
    /// Which of its ends let the others go on.
    pub tolerance: Option<Tolerance>,
    /// What its result means.
    pub conditions: Option<Conditions>,
    /// What runs when it begins or ends.
    pub hooks: Hooks,
    /// Whether it can be reached from the entrypoints.
    pub is_live: bool,
}

/// A template, again and again.
#[derive(Debug, Clone)]
pub struct Loop {
    /// What a round runs.
    pub body: usize,
    /// How many rounds there are.
    pub rounds: Rounds,
    /// Rounds at once.
    pub concurrency: usize,
    /// Most rounds.
    pub max: usize,
    /// What a round is given.
    pub arguments: Vec<Parameter>,
    /// Which rounds count.
    pub strategy: Strategy,
    /// Which outputs; all, if none is named.
    pub names: Vec<String>,
    /// No new rounds after one that failed.
    pub fail_fast: bool,
    /// The last round alone decides how the loop ends.
    pub phase_of_last: bool,
}

/// How many rounds a loop has.
#[derive(Debug, Clone)]
pub enum Rounds {
    /// One for each of these.
    Items(Vec<Value>),
    /// One for each item of a list from elsewhere.
    From(ItemSource),
    /// As many as the condition wants.
    While(Expression),
}

/// Where a list of items comes from.
#[derive(Debug, Clone)]
pub enum ItemSource {
    /// A path.
    Path(Reference),
    /// An expression.
    Expression(Box<Expression>),
}

/// What the outputs of rounds become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Those of the last round.
    #[default]
    Last,
    /// Those of the first.
    First,
    /// A list of all.
    List,
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The author's word for its type.
    pub word: Option<String>,
    /// What it may hold.
    pub of_type: Type,
    /// Where its value comes from.
    pub source: Source,
    /// Its value when nothing else gives one.
    pub default: Option<Value>,
    /// The values that are allowed.
    pub choices: Vec<Value>,
    /// Placeholders in it stay.
    pub verbatim: bool,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Nowhere.
    None,
    /// The document; texts may hold placeholders.
    Value(Value),
    /// A path.
    Path(Reference),
    /// An expression.
    Expression(Box<Expression>),
    /// The mark of a secret: the executor that is given it puts the secret there.
    Secret(String),
}

/// Tasks that run at moments in the life of something.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// By moment.
    pub all: Vec<(Moment, Hook)>,
}

/// A task that runs at a moment.
#[derive(Debug, Clone)]
pub struct Hook {
    /// What it runs.
    pub template: usize,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// A moment in the life of a task or a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Work begins.
    Start,
    /// Succeeded.
    Success,
    /// Failed.
    Failure,
    /// Error or Timeout.
    Error,
    /// It waits for a person or a signal.
    Suspend,
    /// It was answered.
    Resume,
    /// Cancelled.
    Cancel,
    /// After every end.
    Exit,
}

impl Moment {
    /// All, with the author's words.
    pub const ALL: [(&'static str, Self); 8] = [
        ("onStart", Self::Start),
        ("onSuccess", Self::Success),
        ("onFailure", Self::Failure),
        ("onError", Self::Error),
        ("onSuspend", Self::Suspend),
        ("onResume", Self::Resume),
        ("onCancel", Self::Cancel),
        ("onExit", Self::Exit),
    ];

    /// The author's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, moment)| *moment == self).map_or("", |(word, _)| word)
    }
}

impl Hooks {
    /// What runs at a moment.
    #[must_use]
    pub fn at(&self, moment: Moment) -> Option<&Hook> {
        self.all.iter().find(|(at, _)| *at == moment).map(|(_, hook)| hook)
    }

    /// These, and for moments without one those of `others`.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        let mut all = self.all.clone();
        all.extend(others.all.iter().filter(|(at, _)| self.at(*at).is_none()).cloned());
        Self { all }
    }
}

impl Template {
    /// The outputs that others may name; nothing if any may be there.
    #[must_use]
    pub fn output_names(&self) -> Option<Vec<&str>> {
        let declared = || self.outputs.iter().map(|output| output.name.as_str()).collect();
        match &self.body {
            Body::Dag(_) => Some(declared()),
            Body::Loop(l) if !l.names.is_empty() => {
                Some(l.names.iter().map(String::as_str).collect())
            }
            Body::Task(_) | Body::Loop(_) => (!self.outputs.is_empty()).then(declared),
        }
    }

    /// The work in it, if it is a task.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match &self.body {
            Body::Task(task) => Some(task),
            _ => None,
        }
    }
}
