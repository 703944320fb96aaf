//! Hooks: tasks that run when something begins or ends. They change no phase.
//!
//! May not hold up a dag. Invariant: a run ends only after its hooks are over.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Planner;
use super::bind::{Call, bind};
use super::request::Ask;
use super::seen::Seen;
use super::unit::Phase;
use crate::codecs::event::ErrorInfo;
use crate::machines::workflow::model::{Hooks, Moment};
use crate::machines::workflow::span;

/// What a hook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machines::workflow) enum Trigger {
    Run,
    Unit(usize),
}

/// One hook that runs, or ran.
#[derive(Debug)]
pub(in crate::machines::workflow) struct Hooked {
    pub(in crate::machines::workflow) key: String,
    pub(super) template: usize,
    pub(super) timeout_ms: u64,
    pub(super) inputs: Map<String, Value>,
    pub(in crate::machines::workflow) effect: Option<u32>,
    pub(in crate::machines::workflow) is_over: bool,
    pub(in crate::machines::workflow) problem: Option<String>,
}

/// What hooks must remember.
#[derive(Debug, Default)]
pub(super) struct HookBook {
    /// All that is open waits for somebody.
    pub(super) is_parked: bool,
    /// How often each hook ran that may run again.
    counts: HashMap<String, u32>,
}

impl Planner {
    /// Runs the hooks of an end: the one for this end, then the one for every end.
    pub(super) fn hook(&mut self, trigger: Trigger, phase: Phase) {
        let moment = match phase {
            Phase::Succeeded => Some(Moment::Success),
            Phase::Failed => Some(Moment::Failure),
            Phase::Error | Phase::Timeout => Some(Moment::Error),
            Phase::Cancelled => Some(Moment::Cancel),
            _ => None,
        };
        if let Some(moment) = moment {
            self.hook_at(trigger, moment);
            self.hook_at(trigger, Moment::Exit);
        }
    }

    /// Runs the hook of a moment.
    pub(super) fn hook_at(&mut self, trigger: Trigger, moment: Moment) {
        let flow = Arc::clone(&self.flow);
        let hooks = match trigger {
            Trigger::Run => flow.hooks.clone(),
            Trigger::Unit(id) => self.hooks_of(id),
        };
        let Some(hook) = hooks.at(moment) else { return };
        let path = match trigger {
            Trigger::Run => "",
            Trigger::Unit(id) => self.units[id].path.as_str(),
        };
        let mut key = format!("{path}~hook.{}", moment.word());
        if matches!(moment, Moment::Suspend | Moment::Resume) {
            // Only these come more than once.
            let count = self.hook_book.counts.entry(key.clone()).or_insert(0);
            *count += 1;
            if *count > 1 {
                let _ = write!(key, "[{count}]");
            }
        }
        let context = self.context(trigger, moment);
        let seen = Seen { hook: Some(&context), ..Seen::run(self) };
        let template = &flow.templates[hook.template];
        let call = Call {
            declared: &template.inputs,
            given: &[],
            caller: seen,
            own: seen,
            round: None,
            is_lenient: true,
        };
        let mut problem = None;
        let mut inputs = match bind(&call) {
            Ok((inputs, _)) => inputs,
            Err((code, why)) => {
                problem = Some(format!("{code}: {why}"));
                Map::new()
            }
        };
        for (name, value) in template.task().map(|task| &task.config).into_iter().flatten() {
            if let (false, Ok(value)) = (inputs.contains_key(name), seen.fill(value, None)) {
                inputs.insert(name.clone(), value);
            }
        }
        let (template, timeout_ms) = (hook.template, hook.timeout_ms);
        let is_over = problem.is_some();
        let made = Hooked { key, template, timeout_ms, inputs, effect: None, is_over, problem };
        self.hooked.push(made);
        if !is_over {
            self.open_hooks += 1;
            let hook = self.hooked.len() - 1;
            match moment {
                Moment::Start => self.urgent.push_back(hook),
                _ => self.queue.push_back(Ask::Hook(hook)),
            }
        }
    }

    /// Work begins for the first time: here, and in everything around.
    pub(super) fn has_begun(&mut self, id: usize) {
        if !std::mem::replace(&mut self.has_started, true) {
            self.hook_at(Trigger::Run, Moment::Start);
        }
        let mut all = vec![id];
        let mut at = self.units[id].parent;
        while let Some(parent) = at {
            all.push(parent);
            at = self.units[parent].parent;
        }
        for id in all.into_iter().rev() {
            let unit = &mut self.units[id];
            if unit.started_micros.is_none() {
                unit.started_micros = Some(self.clock_micros);
                if unit.phase == Phase::Created {
                    unit.phase = Phase::Running;
                }
                self.hook_at(Trigger::Unit(id), Moment::Start);
            }
        }
    }

    pub(super) fn hook_over(&mut self, hook: usize, error: Option<&ErrorInfo>) {
        self.open_hooks = self.open_hooks.saturating_sub(1);
        let hooked = &mut self.hooked[hook];
        hooked.is_over = true;
        hooked.problem = error.map(|error| format!("{}: {}", error.name, error.message));
        let (key, problem) = (&hooked.key, &hooked.problem);
        self.warnings.extend(problem.as_ref().map(|why| format!("hook {key}: {why}")));
    }

    fn hooks_of(&self, id: usize) -> Hooks {
        let template = &self.flow.templates[self.units[id].template];
        let own = template.task().map(|task| task.hooks.clone()).unwrap_or_default();
        self.node_of(id).map_or_else(|| own.clone(), |node| node.hooks.over(&own))
    }

    /// What a hook can see.
    fn context(&self, trigger: Trigger, moment: Moment) -> Value {
        let end = self.end.as_ref();
        let phase = end.map_or("Running", |end| end.phase.word());
        let millis = (self.clock_micros - self.created_micros).max(0) / 1_000;
        let duration = span::print(u64::try_from(millis).unwrap_or(0));
        let trigger = match trigger {
            Trigger::Run => json!({ "node": "", "path": "", "phase": phase, "msg":
                end.map_or("", |end| end.message.as_str()) }),
            Trigger::Unit(id) => {
                let unit = &self.units[id];
                json!({ "node": unit.name, "path": unit.path, "phase": unit.phase.word(),
                    "code": unit.code, "msg": unit.message })
            }
        };
        json!({
            "name": moment.word(),
            "workflow": {
                "name": self.flow.name, "id": self.run_id, "phase": phase, "duration": duration,
                "parameters": self.arguments, "outputs": { "parameters": self.run_outputs() },
            },
            "trigger": trigger,
        })
    }
}
