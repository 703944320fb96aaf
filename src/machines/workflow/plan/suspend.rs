//! Work that waits for somebody: code 1 parks it, an answer lets it run again with more inputs.
//!
//! May not know who answers. Invariant: one answer wakes it once; what it brought before stays
//! unless it brings something newer.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::bind::weight;
use super::hooks::Trigger;
use super::kinds::{self, Asked};
use super::outcome::{FAILED, Outcome};
use super::request::{Ask, Parts};
use super::unit::Phase;
use super::{Planner, Purpose, echo};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::ground::limits::WORKFLOW_SUSPENSIONS_MAX;
use crate::machines::effect::policy::millis;
use crate::machines::effect::sleep::DEADLINE_MARK;
use crate::machines::workflow::executors::kebab;
use crate::machines::workflow::model::Moment;
use crate::machines::workflow::shape::RESUMED;
use crate::machines::workflow::values::misfit;

/// The end of the key of a timer that answers by itself.
const WAKE_MARK: &str = "~wake";

impl Planner {
    /// Work ended with code 1.
    pub(super) fn suspend(&mut self, id: usize, outcome: Outcome) {
        if self.units[id].suspensions >= WORKFLOW_SUSPENSIONS_MAX {
            let why = format!("it waited {WORKFLOW_SUSPENSIONS_MAX} times");
            return self.leaf_over(id, Outcome::fault("E-LIMIT", &why));
        }
        self.weigh(id, weight(&outcome.outputs));
        let unit = &mut self.units[id];
        unit.outputs.extend(outcome.outputs);
        unit.suspensions += 1;
        unit.phase = Phase::Suspended;
        unit.message = outcome.message;
        for note in outcome.notes {
            unit.note(note);
        }
        self.queue.push_back(Ask::Suspension(id));
        self.hook_at(Trigger::Unit(id), Moment::Suspend);
    }

    /// Asks for an answer.
    pub(super) fn ask_suspension(&mut self, id: usize) {
        let flow = Arc::clone(&self.flow);
        let unit = &self.units[id];
        if unit.phase.is_terminal() {
            return;
        }
        let template = &flow.templates[unit.template];
        let key = format!("{}~suspend[{}]", unit.path, unit.suspensions);
        let mut payload = unit.outputs.clone();
        if !unit.message.is_empty() {
            payload.insert("title".into(), unit.message.as_str().into());
        }
        let definition = kinds::breakpoint(&payload, &key);
        let args = json!({ "type": "breakpoint", "inputs": payload });
        let after = unit.inputs.get(echo::RESUME_AFTER);
        let after = after.filter(|_| template.task().is_some_and(|task| task.kind == "echo"));
        let after = after.and_then(|after| millis(echo::RESUME_AFTER, after).ok());
        let gone = u64::try_from((self.clock_micros - unit.asked_micros) / 1_000).unwrap_or(0);
        let left = self.timeout_of(id).map(|limit| limit.saturating_sub(gone));
        let asked = Asked { kind: "breakpoint".to_owned(), definition };
        let (options, template) = (json!({}), Some(template));
        let (deadline, wake) = (format!("{key}{DEADLINE_MARK}"), format!("{key}{WAKE_MARK}"));
        let parts = Parts { key, asked, args, options, template, cleanup: false };
        let ordinal = self.request(Purpose::Suspension(id), parts, Some(id));
        self.units[id].effect = Some(ordinal);
        if let Some(left) = left {
            let timer = self.ask_timer(Purpose::Deadline(id), deadline, left);
            self.units[id].deadline = Some(timer);
        }
        if let Some(after) = after {
            let timer = self.ask_timer(Purpose::Wake(id), wake, after);
            self.units[id].wake = Some(timer);
        }
    }

    /// Somebody answered, or time did.
    pub(super) fn answered(&mut self, id: usize, value: Option<&Json>, error: Option<&ErrorInfo>) {
        self.end_timers(id);
        if let Some(error) = error {
            return self.leaf_over(id, Outcome::of_code(FAILED, error.message.clone()));
        }
        let value = value.map(Json::to_value).unwrap_or_default();
        if value.get("approved") == Some(&Value::Bool(false)) {
            let why = value.get("feedback").or_else(|| value.get("response"));
            let why = why.and_then(Value::as_str).unwrap_or("rejected").to_owned();
            return self.leaf_over(id, Outcome::of_code(FAILED, why));
        }
        let payload = payload(value);
        let flow = Arc::clone(&self.flow);
        let declared = &flow.templates[self.units[id].template].inputs;
        for parameter in declared {
            let Some(given) = payload.get(&parameter.name) else { continue };
            if let Some(why) = misfit(parameter.of_type, &parameter.choices, given) {
                let why = format!("{} {why}", parameter.name);
                return self.leaf_over(id, Outcome::fault("E-INPUT-TYPE", &why));
            }
        }
        self.weigh(id, weight(&payload));
        let unit = &mut self.units[id];
        unit.inputs.extend(payload);
        unit.inputs.insert(RESUMED.to_owned(), true.into());
        unit.phase = Phase::Created;
        self.queue.push_back(Ask::Leaf(id));
    }

    /// What waited was answered: hooks hear of it before anything follows.
    pub(super) fn resumed(&mut self, id: usize) {
        if std::mem::take(&mut self.hook_book.is_parked) {
            self.hook_at(Trigger::Run, Moment::Resume);
        }
        self.hook_at(Trigger::Unit(id), Moment::Resume);
    }

    /// Notes whether all that is open waits for somebody. Only a run with hooks for it asks.
    pub(super) fn notice_parked(&mut self) {
        let hooks = &self.flow.hooks;
        let is_asked = hooks.at(Moment::Suspend).is_some() || hooks.at(Moment::Resume).is_some();
        if !is_asked || self.end.is_some() {
            return;
        }
        let (mut waits, mut works) = (false, false);
        for purpose in self.effects.values() {
            self.look();
            match purpose {
                Purpose::Leaf(id) | Purpose::Suspension(id) => {
                    let is_waiting = self.units[*id].phase == Phase::Suspended;
                    waits |= is_waiting;
                    works |= !is_waiting;
                }
                Purpose::Backoff(_) => works = true,
                _ => {}
            }
        }
        let is_parked = waits && !works && self.queue.is_empty();
        if std::mem::replace(&mut self.hook_book.is_parked, is_parked) != is_parked {
            let moment = if is_parked { Moment::Suspend } else { Moment::Resume };
            self.hook_at(Trigger::Run, moment);
        }
    }

    /// Gives up the timers of an answer.
    fn end_timers(&mut self, id: usize) {
        let unit = &mut self.units[id];
        let open = [unit.effect.take(), unit.deadline.take(), unit.wake.take()];
        for ordinal in open.into_iter().flatten() {
            if self.effects.remove(&ordinal).is_some() {
                self.cancels.push((ordinal, format!("{}: answered", self.units[id].path)));
            }
        }
    }
}

/// What an answer adds to the inputs: the members of an object, or those of a person's response.
fn payload(value: Value) -> Map<String, Value> {
    let Value::Object(mut members) = value else { return Map::new() };
    if !members.contains_key("approved") {
        return members;
    }
    let told = match members.shift_remove("response") {
        Some(Value::Object(told)) => told,
        Some(other) => Map::from_iter([("response".to_owned(), other)]),
        None => Map::new(),
    };
    let rest = members.into_iter().map(|(name, value)| (kebab(&name), value));
    rest.chain(told).collect()
}
