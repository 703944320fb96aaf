//! The planner: a document and outcomes in their order, folded into requests and an end.
//!
//! May not read a clock, a file or chance: time is what turns carry. Invariant: the same turns give
//! the same outputs; what an outcome costs does not grow with what is over already.

mod bind;
mod dag;
mod echo;
mod hooks;
mod kinds;
mod leaf;
mod outcome;
mod repeat;
mod request;
mod seen;
mod suspend;
pub(in crate::machines::workflow) mod unit;

pub use unit::Phase;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::finding::did_you_mean;
use super::model::{Body, Workflow};
use super::values::misfit;
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::codecs::turn::{Feed, Output, TurnDone, TurnInput};
use crate::ground::clock::Timestamp;
use crate::ground::limits::WORKFLOW_TASK_RUNS_MAX;
use crate::machines::effect::plain_error;
use bind::{Call, Fault, bind, fallback, sourced, weight};
use hooks::{HookBook, Hooked, Trigger};
use outcome::Outcome;
use request::Ask;
use seen::Seen;
use unit::{Round, Scope, Unit};

/// What the engine knows as the name of an error that is no surprise after a cancel request.
const CANCELLED: &str = "RunCancelledError";

/// What a run of a document begins with.
#[derive(Debug, Clone)]
pub struct Begin {
    /// The document.
    pub flow: Arc<Workflow>,
    /// The run.
    pub run_id: String,
    /// Absolute path of its directory: digests do not depend on it.
    pub run_dir: String,
    /// When it was created.
    pub created_micros: i64,
    /// The time that a schedule made it for.
    pub scheduled_at: Option<Timestamp>,
    /// What it was given: an object with arguments by name, or nothing.
    pub inputs: Option<Value>,
    /// Number of its first effect.
    pub next_ordinal: u32,
    /// Effects from before an accepted change of the document, by key.
    pub known: HashMap<String, u32>,
    /// Values of what is over are kept, for looking at.
    pub keeps: bool,
    /// The system and the processor that it sees: `linux/amd64`.
    pub system: Option<String>,
}

impl Begin {
    /// A run that is only played through, and looked at afterwards.
    #[must_use]
    pub fn rehearsal(flow: Arc<Workflow>, inputs: Option<Value>) -> Self {
        Self {
            flow,
            run_id: "rehearsal".to_owned(),
            run_dir: "/rehearsal".to_owned(),
            created_micros: 0,
            scheduled_at: None,
            inputs,
            next_ordinal: 1,
            known: HashMap::new(),
            keeps: true,
            system: Some("linux/amd64".to_owned()),
        }
    }
}

/// Why an effect was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Leaf(usize),
    /// The answer that work waits for.
    Suspension(usize),
    /// The timer that answers instead.
    Wake(usize),
    Backoff(usize),
    Deadline(usize),
    RunDeadline,
    Hook(usize),
}

/// Something to do before the turn is over.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(usize),
    Over(usize),
}

/// How the run ends.
#[derive(Debug, Clone)]
struct End {
    phase: Phase,
    message: String,
    is_told: bool,
}

/// One run of a document.
#[derive(Debug)]
pub struct Planner {
    pub(in crate::machines::workflow) flow: Arc<Workflow>,
    pub(in crate::machines::workflow) run_id: String,
    run_dir: String,
    pub(in crate::machines::workflow) created_micros: i64,
    scheduled_at: Option<Timestamp>,
    pub(in crate::machines::workflow) arguments: Map<String, Value>,
    pub(in crate::machines::workflow) units: Vec<Unit>,
    pub(in crate::machines::workflow) hooked: Vec<Hooked>,
    effects: HashMap<u32, Purpose>,
    next_ordinal: u32,
    known: HashMap<String, u32>,
    queue: VecDeque<Ask>,
    /// Hooks of what has just begun: they go first.
    urgent: VecDeque<usize>,
    steps: VecDeque<Step>,
    outputs: Vec<Output>,
    cancels: Vec<(u32, String)>,
    warnings: Vec<String>,
    clock_micros: i64,
    over: usize,
    open_hooks: usize,
    has_started: bool,
    /// Task runs that were looked at so far.
    looks: Cell<u64>,
    system: Option<String>,
    is_cancelled: bool,
    hook_book: HookBook,
    keeps: bool,
    bytes: usize,
    end: Option<End>,
}

/// The arguments of a run: what was given, else what the document says.
///
/// # Errors
/// All that does not fit, each with its code.
pub fn arguments(
    flow: &Workflow,
    inputs: Option<&Value>,
) -> Result<Map<String, Value>, Vec<String>> {
    let nothing = Map::new();
    let mut errors = Vec::new();
    let given = match inputs {
        None | Some(Value::Null) => &nothing,
        Some(Value::Object(given)) => given,
        Some(_) => return Err(vec!["E-TYPE: inputs are an object: arguments by name".to_owned()]),
    };
    for name in given.keys().filter(|_| !flow.is_lenient) {
        if flow.arguments.iter().all(|known| known.name != *name) {
            let hint = did_you_mean(name, flow.arguments.iter().map(|known| known.name.as_str()));
            errors.push(format!("E-UNKNOWN-ARG: there is no argument {name:?}; {hint}"));
        }
    }
    let mut out = Map::new();
    for known in &flow.arguments {
        let Some(value) = given.get(&known.name).filter(|value| !value.is_null()) else {
            continue;
        };
        match misfit(known.of_type, &known.choices, value) {
            Some(why) => errors.push(format!("E-PARAM-VALUE: {:?} {why}", known.name)),
            None => drop(out.insert(known.name.clone(), value.clone())),
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

impl Planner {
    /// A run that is about to begin.
    ///
    /// # Errors
    /// All that is wrong with its inputs.
    pub fn new(begin: Begin) -> Result<Self, Vec<String>> {
        let given = arguments(&begin.flow, begin.inputs.as_ref())?;
        let mut planner = Self {
            flow: begin.flow,
            run_id: begin.run_id,
            run_dir: begin.run_dir,
            created_micros: begin.created_micros,
            scheduled_at: begin.scheduled_at,
            arguments: Map::new(),
            units: Vec::new(),
            hooked: Vec::new(),
            effects: HashMap::new(),
            next_ordinal: begin.next_ordinal,
            known: begin.known,
            queue: VecDeque::new(),
            urgent: VecDeque::new(),
            steps: VecDeque::new(),
            outputs: Vec::new(),
            cancels: Vec::new(),
            warnings: Vec::new(),
            clock_micros: begin.created_micros,
            over: 0,
            open_hooks: 0,
            has_started: false,
            looks: Cell::new(0),
            system: begin.system,
            is_cancelled: false,
            hook_book: HookBook::default(),
            keeps: begin.keeps,
            bytes: 0,
            end: None,
        };
        let flow = Arc::clone(&planner.flow);
        for argument in &flow.arguments {
            let value = given.get(&argument.name).cloned().or_else(|| {
                // An argument may be made of those before it.
                let seen = Seen::run(&planner);
                let value = sourced(argument, &seen, None).ok().flatten();
                value.or_else(|| fallback(argument, &seen))
            });
            planner.arguments.extend(value.map(|value| (argument.name.clone(), value)));
        }
        Ok(planner)
    }

    /// Applies one turn.
    pub fn turn(&mut self, input: &TurnInput) -> TurnDone {
        self.clock_micros = input.clock_micros;
        if self.end.as_ref().is_none_or(|end| !end.is_told) {
            self.feed(&input.feed);
            self.settle();
        }
        TurnDone {
            outputs: std::mem::take(&mut self.outputs),
            cancels: std::mem::take(&mut self.cancels),
            warnings: std::mem::take(&mut self.warnings),
            ..TurnDone::default()
        }
    }

    /// How far the run is: task runs that are over, of those that there are.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.over, self.units.len())
    }

    /// About how many bytes the values have that are remembered.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// How many task runs were looked at so far: what turns have cost, whatever the machine.
    #[must_use]
    pub const fn looks(&self) -> u64 {
        self.looks.get()
    }

    fn look(&self) {
        self.looks.set(self.looks.get() + 1);
    }

    /// How the run ended, or will as soon as its hooks are over.
    #[must_use]
    pub fn end(&self) -> Option<(Phase, &str)> {
        self.end.as_ref().map(|end| (end.phase, end.message.as_str()))
    }

    /// The outputs of the run so far.
    #[must_use]
    pub fn run_outputs(&self) -> Map<String, Value> {
        self.units.first().map(|root| root.outputs.clone()).unwrap_or_default()
    }

    fn feed(&mut self, feed: &Feed) {
        match feed {
            Feed::RunStarted => self.start(),
            Feed::Resolved { ordinal, value, error, .. } => {
                let Some(purpose) = self.effects.remove(ordinal) else { return };
                self.resolved(purpose, value.as_ref(), error.as_ref());
            }
            Feed::Cancelled { ordinal, reason } => {
                let Some(purpose) = self.effects.remove(ordinal) else { return };
                self.given_up(purpose, reason);
            }
            Feed::CancelRequested { .. } => {
                self.is_cancelled = true;
                self.queue.clear();
                // The engine ends what is open; only hooks are asked for after this.
                self.effects.retain(|_, purpose| matches!(purpose, Purpose::Hook(_)));
                if !self.units.is_empty() {
                    self.close_tree(0, Phase::Cancelled, "the run was cancelled");
                }
            }
        }
    }

    fn start(&mut self) {
        if !self.units.is_empty() {
            return;
        }
        let flow = Arc::clone(&self.flow);
        let Some(template) = flow.templates.get(flow.entry) else { return };
        let unit =
            Unit { path: template.name.clone(), name: template.name.clone(), ..Unit::default() };
        if flow.timeout_ms.is_some() {
            self.queue.push_back(Ask::RunDeadline);
        }
        self.create(Unit { template: flow.entry, ..unit });
    }

    fn resolved(&mut self, purpose: Purpose, value: Option<&Json>, error: Option<&ErrorInfo>) {
        match purpose {
            Purpose::Leaf(unit) => {
                if self.units[unit].phase == Phase::Suspended {
                    self.resumed(unit);
                }
                self.leaf_resolved(unit, value, error);
            }
            Purpose::Suspension(unit) => {
                self.resumed(unit);
                self.answered(unit, value, error);
            }
            Purpose::Wake(unit) => {
                self.resumed(unit);
                self.answered(unit, None, None);
            }
            Purpose::Backoff(unit) => self.queue.push_back(Ask::Leaf(unit)),
            Purpose::Hook(hook) => self.hook_over(hook, error),
            Purpose::Deadline(unit) => {
                self.units[unit].deadline = None;
                self.close_tree(unit, Phase::Timeout, "it took too long");
            }
            Purpose::RunDeadline => {
                self.close_tree(0, Phase::Timeout, "the run took too long");
                self.finish_run(Phase::Timeout, "the run took too long".to_owned());
            }
        }
    }

    /// An effect was cancelled from outside.
    fn given_up(&mut self, purpose: Purpose, reason: &str) {
        match purpose {
            Purpose::Leaf(unit) | Purpose::Suspension(unit) | Purpose::Backoff(unit) => {
                self.units[unit].effect = None;
                self.finish(unit, Phase::Cancelled, None, reason.to_owned());
            }
            // Without its timer it may take as long as it likes.
            Purpose::Deadline(unit) => self.units[unit].deadline = None,
            Purpose::Wake(unit) => self.units[unit].wake = None,
            Purpose::RunDeadline => {}
            Purpose::Hook(hook) => self.hook_over(hook, None),
        }
    }

    /// Does everything that follows, and asks for what there is a place for.
    fn settle(&mut self) {
        loop {
            while let Some(step) = self.steps.pop_front() {
                match step {
                    Step::Begin(unit) => self.begin(unit),
                    Step::Over(unit) => self.tell_parent(unit),
                }
            }
            self.emit();
            if self.steps.is_empty() {
                self.notice_parked();
                self.emit();
                break;
            }
        }
        if self.open_hooks == 0 && self.queue.is_empty() && self.urgent.is_empty() {
            self.tell_end();
        }
    }

    /// Makes a task run; more than there may be is a fault of the one above.
    fn create(&mut self, unit: Unit) -> Option<usize> {
        if self.units.len() >= WORKFLOW_TASK_RUNS_MAX {
            let why = format!("E-LIMIT: a run has at most {WORKFLOW_TASK_RUNS_MAX} task runs");
            let parent = unit.parent?;
            self.close_tree(parent, Phase::Error, &why);
            return None;
        }
        let id = self.units.len();
        self.units.push(Unit { created_micros: self.clock_micros, ..unit });
        self.steps.push_back(Step::Begin(id));
        Some(id)
    }

    /// A part of something, at its place below.
    fn child(&self, parent: usize, path: String, name: &str, template: usize) -> Unit {
        let (parent, depth) = (Some(parent), self.units[parent].depth + 1);
        Unit { path, name: name.to_owned(), template, parent, depth, ..Unit::default() }
    }

    fn begin(&mut self, id: usize) {
        self.look();
        if self.units[id].phase.is_terminal() {
            return;
        }
        match self.is_wanted(id) {
            Ok(true) => {}
            Ok(false) => return self.finish(id, Phase::Skipped, None, String::new()),
            Err(fault) => return self.fault(id, &fault),
        }
        match self.bound(id) {
            Ok((inputs, notes)) => {
                self.weigh(id, weight(&inputs));
                let unit = &mut self.units[id];
                unit.inputs = inputs;
                for note in notes {
                    unit.note(note);
                }
            }
            Err(fault) => return self.fault(id, &fault),
        }
        let flow = Arc::clone(&self.flow);
        let template = &flow.templates[self.units[id].template];
        if self.timeout_of(id).is_some()
            && !matches!(&template.body, Body::Task(task) if !kinds::waits(&task.kind))
        {
            self.queue.push_back(Ask::Deadline(id));
        }
        match &template.body {
            Body::Task(_) => self.queue.push_back(Ask::Leaf(id)),
            Body::Dag(dag) => self.open_dag(id, dag),
            Body::Loop(l) => self.open_loop(id, l),
        }
    }

    /// Whether the condition of a node lets it begin.
    fn is_wanted(&mut self, id: usize) -> Result<bool, Fault> {
        let Some(node) = self.node_of(id) else { return Ok(true) };
        let Some(when) = &node.when else { return Ok(true) };
        match when.holds(&Seen::around(self, id)) {
            Err(why) if self.flow.is_lenient => {
                self.units[id].note(format!("when: {why}"));
                Ok(false)
            }
            wanted => wanted.map_err(|why| ("E-WHEN", why)),
        }
    }

    /// The inputs of a task run.
    fn bound(&self, id: usize) -> Result<(Map<String, Value>, Vec<String>), Fault> {
        let flow = &self.flow;
        let unit = &self.units[id];
        let template = &flow.templates[unit.template];
        let around = Seen::around(self, id);
        let (given, caller) = match (self.node_of(id), unit.parent) {
            (Some(node), _) => (node.arguments.as_slice(), around),
            (None, Some(parent)) => match &flow.templates[self.units[parent].template].body {
                // Arguments of a loop see what is beside the loop, and the round.
                Body::Loop(l) => {
                    let beside = Seen::around(self, parent);
                    let inputs = Some(parent);
                    let round = unit.round.as_ref();
                    (l.arguments.as_slice(), Seen { inputs, round, ..beside })
                }
                _ => (&[][..], around),
            },
            (None, None) => (&[][..], around),
        };
        let round = unit.round.as_ref();
        let declared = &template.inputs;
        let is_lenient = flow.is_lenient;
        let call = Call { declared, given, caller, own: around, round, is_lenient };
        let (mut inputs, mut notes) = bind(&call)?;
        if let Some(task) = template.task() {
            for (name, value) in &task.config {
                if inputs.contains_key(name) {
                    continue;
                }
                match around.fill(value, None) {
                    Ok(value) => drop(inputs.insert(name.clone(), value)),
                    Err(why) => notes.push(format!("config {name}: {why} is not there")),
                }
            }
        }
        Ok((inputs, notes))
    }

    /// The node that a task run belongs to.
    fn node_of(&self, id: usize) -> Option<&super::model::Node> {
        let unit = &self.units[id];
        let parent = &self.units[unit.parent?];
        match &self.flow.templates[parent.template].body {
            Body::Dag(dag) => dag.nodes.get(unit.node?),
            _ => None,
        }
    }

    /// How long a task run may take.
    fn timeout_of(&self, id: usize) -> Option<u64> {
        let own = self.flow.templates[self.units[id].template].timeout_ms;
        self.node_of(id).and_then(|node| node.timeout_ms).or(own)
    }

    /// The round that a task run is in: the innermost counts.
    fn round_of(&self, id: usize) -> Option<&Round> {
        let mut at = Some(id);
        while let Some(i) = at {
            self.look();
            let unit = &self.units[i];
            if unit.round.is_some() {
                return unit.round.as_ref();
            }
            at = unit.parent;
        }
        None
    }

    /// It cannot begin.
    fn fault(&mut self, id: usize, (code, why): &Fault) {
        let outcome = Outcome::fault(code, why);
        self.finish(id, outcome.phase, Some(outcome.code), outcome.message);
    }

    /// Ends a task run, once.
    fn finish(&mut self, id: usize, phase: Phase, code: Option<i64>, message: String) {
        let now = self.clock_micros;
        let unit = &mut self.units[id];
        if unit.phase.is_terminal() {
            return;
        }
        unit.phase = phase;
        unit.code = code.or(phase.code());
        unit.message = message;
        unit.finished_micros = Some(now);
        let gone = [unit.effect.take(), unit.deadline.take(), unit.wake.take()];
        for ordinal in gone.into_iter().flatten() {
            if self.effects.remove(&ordinal).is_some() {
                self.cancels.push((ordinal, format!("{}: {}", self.units[id].path, phase.word())));
            }
        }
        self.over += 1;
        self.hook(Trigger::Unit(id), phase);
        self.steps.push_back(Step::Over(id));
    }

    /// Ends a task run and everything in it that is not over.
    fn close_tree(&mut self, top: usize, phase: Phase, why: &str) {
        let mut all = vec![top];
        let mut at = 0;
        while at < all.len() {
            self.look();
            match &self.units[all[at]].scope {
                Scope::Dag(scope) => all.extend(&scope.live),
                Scope::Loop(scope) => all.extend(&scope.live),
                Scope::Leaf => {}
            }
            at += 1;
        }
        for id in all.into_iter().rev() {
            self.finish(id, phase, None, why.to_owned());
        }
    }

    fn tell_parent(&mut self, id: usize) {
        self.look();
        let Some(parent) = self.units[id].parent else {
            let root = &self.units[0];
            let phase = match root.phase {
                Phase::Timeout => Phase::Error,
                Phase::Skipped => Phase::Succeeded,
                phase => phase,
            };
            let message = root.message.clone();
            return self.finish_run(phase, message);
        };
        let is_open = !self.units[parent].phase.is_terminal();
        match &mut self.units[parent].scope {
            Scope::Dag(scope) => drop(scope.live.remove(&id)),
            Scope::Loop(scope) => drop(scope.live.remove(&id)),
            Scope::Leaf => {}
        }
        if !is_open {
            return self.release(id);
        }
        let flow = Arc::clone(&self.flow);
        match &flow.templates[self.units[parent].template].body {
            Body::Dag(dag) => self.dag_child_over(parent, id, dag),
            Body::Loop(l) => self.round_over(parent, id, l),
            Body::Task(_) => {}
        }
    }

    fn weigh(&mut self, id: usize, bytes: usize) {
        self.units[id].bytes += bytes;
        self.bytes += bytes;
    }

    /// Forgets the values of a task run that nobody can see any more.
    fn release(&mut self, id: usize) {
        self.look();
        if self.keeps {
            return;
        }
        let unit = &mut self.units[id];
        self.bytes -= std::mem::take(&mut unit.bytes);
        unit.inputs = Map::new();
        unit.outputs = Map::new();
        unit.notes = Vec::new();
        unit.round = None;
        unit.scope = Scope::Leaf;
    }

    fn finish_run(&mut self, phase: Phase, message: String) {
        if self.end.is_some() {
            return;
        }
        let phase = if self.is_cancelled { Phase::Cancelled } else { phase };
        self.end = Some(End { phase, message, is_told: false });
        if let Some(ordinal) = self.open_deadline() {
            self.effects.remove(&ordinal);
            self.cancels.push((ordinal, "the run is over".to_owned()));
        }
        self.queue.retain(|ask| matches!(ask, Ask::Hook(_)));
        self.hook(Trigger::Run, phase);
    }

    fn open_deadline(&self) -> Option<u32> {
        self.effects.iter().find(|(_, p)| **p == Purpose::RunDeadline).map(|(ordinal, _)| *ordinal)
    }

    /// Says how the run ended, when nothing is open any more.
    fn tell_end(&mut self) {
        let outputs = self.run_outputs();
        let Some(end) = self.end.as_mut().filter(|end| !end.is_told) else { return };
        end.is_told = true;
        let output = match end.phase {
            Phase::Succeeded => Output::Completed { output: Json::of(&outputs) },
            Phase::Cancelled if self.is_cancelled => {
                let error = plain_error(CANCELLED, "the run was cancelled".to_owned());
                Output::Failed { error }
            }
            phase => {
                let data = json!({ "phase": phase.word(), "outputs": outputs });
                let message = match end.message.as_str() {
                    "" => format!("the workflow ended as {}", phase.word()),
                    message => message.to_owned(),
                };
                let name = format!("Workflow{}", phase.word());
                let error = plain_error(&name, message);
                Output::Failed { error: ErrorInfo { data: Some(Json::of(&data)), ..error } }
            }
        };
        self.outputs.push(output);
    }
}
