//! Requests: what the planner asks of the outside, with keys that only the document decides.
//!
//! May not decide when something is asked for. Invariant: a key is a function of the place in the
//! document and the number of the attempt; no two requests of a run have the same.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::hooks::Trigger;
use super::kinds::{self, Asked, waits};
use super::outcome::Outcome;
use super::unit::Phase;
use super::{Planner, Purpose};
use crate::codecs::json::Json;
use crate::codecs::turn::{Output, Request};
use crate::ground::id::EffectId;
use crate::ground::limits::WORKFLOW_OPEN_EFFECTS_MAX;
use crate::machines::effect::UNCERTAIN_ERROR;
use crate::machines::effect::key::{args_digest, def_digest, shortened};
use crate::machines::effect::sleep::DEADLINE_MARK;
use crate::machines::workflow::model::{Moment, Task, Template};

/// Attempts at work that may be done again and whose outcome nobody knows.
const UNKNOWN_ATTEMPTS_MAX: u32 = 5;

/// Something to be asked for, when there is a place.
#[derive(Debug)]
pub(super) enum Ask {
    Leaf(usize),
    Suspension(usize),
    Backoff(usize, u64),
    Deadline(usize),
    RunDeadline,
    Hook(usize),
}

/// What goes into a request.
pub(super) struct Parts<'a> {
    pub(super) key: String,
    pub(super) asked: Asked,
    pub(super) args: Value,
    pub(super) options: Value,
    pub(super) template: Option<&'a Template>,
    pub(super) cleanup: bool,
}

impl Planner {
    /// Asks for what there is a place for.
    pub(super) fn emit(&mut self) {
        while self.effects.len() < WORKFLOW_OPEN_EFFECTS_MAX
            && self.outputs.len() < WORKFLOW_OPEN_EFFECTS_MAX
        {
            let urgent = self.urgent.pop_front().map(Ask::Hook);
            let Some(ask) = urgent.or_else(|| self.queue.pop_front()) else { return };
            match ask {
                Ask::Leaf(id) => self.ask_leaf(id),
                Ask::Suspension(id) => self.ask_suspension(id),
                Ask::Backoff(id, delay_ms) => {
                    if !self.units[id].phase.is_terminal() {
                        let n = self.units[id].retries;
                        let key = format!("{}~backoff[{n}]", self.units[id].path);
                        let ordinal = self.ask_timer(Purpose::Backoff(id), key, delay_ms);
                        self.units[id].effect = Some(ordinal);
                    }
                }
                Ask::Deadline(id) => {
                    if let (false, Some(ms)) =
                        (self.units[id].phase.is_terminal(), self.timeout_of(id))
                    {
                        let key = format!("{}{DEADLINE_MARK}", self.units[id].path);
                        let ordinal = self.ask_timer(Purpose::Deadline(id), key, ms);
                        self.units[id].deadline = Some(ordinal);
                    }
                }
                Ask::RunDeadline => {
                    let ms = self.flow.timeout_ms.unwrap_or(0);
                    self.ask_timer(Purpose::RunDeadline, DEADLINE_MARK.to_owned(), ms);
                }
                Ask::Hook(hook) => self.ask_hook(hook),
            }
        }
    }

    fn ask_leaf(&mut self, id: usize) {
        if self.units[id].phase.is_terminal() {
            return;
        }
        if self.units[id].started_micros.is_none() {
            self.has_begun(id);
            if !self.urgent.is_empty() {
                return self.queue.push_front(Ask::Leaf(id));
            }
        }
        let flow = Arc::clone(&self.flow);
        let template = &flow.templates[self.units[id].template];
        let Some(task) = template.task() else { return };
        let unit = &self.units[id];
        let counted = |word: &str, n: u32| match n {
            0 => String::new(),
            n => format!("~{word}[{n}]"),
        };
        let (again, resumed) =
            (counted("retry", unit.retries), counted("resume", unit.suspensions));
        let key = format!("{}{resumed}{again}", unit.path);
        let now = (self.clock_micros, unit.retries);
        let asked = match kinds::ask(&task.kind, &unit.inputs, &unit.path, now) {
            Ok(asked) => asked,
            Err(why) => return self.leaf_over(id, Outcome::fault("E-INPUT-TYPE", &why)),
        };
        let args = json!({ "type": task.kind, "inputs": unit.inputs });
        let deadline = self.timeout_of(id).filter(|_| !waits(&task.kind));
        let options = self.options(task, deadline);
        let phase = match task.kind.as_str() {
            kind if waits(kind) => Phase::Suspended,
            "sleep" => Phase::Running,
            _ => Phase::Ready,
        };
        let template = Some(template);
        let parts = Parts { key, asked, args, options, template, cleanup: false };
        let ordinal = self.request(Purpose::Leaf(id), parts, Some(id));
        let unit = &mut self.units[id];
        unit.effect = Some(ordinal);
        unit.last_effect = Some(ordinal);
        unit.phase = phase;
        unit.asked_micros = self.clock_micros;
        if phase == Phase::Suspended {
            self.hook_at(Trigger::Unit(id), Moment::Suspend);
        }
    }

    fn ask_hook(&mut self, hook: usize) {
        let flow = Arc::clone(&self.flow);
        let hooked = &self.hooked[hook];
        let template = &flow.templates[hooked.template];
        let Some(task) = template.task() else { return };
        let key = hooked.key.clone();
        let now = (self.clock_micros, 0);
        let asked = match kinds::ask(&task.kind, &hooked.inputs, &key, now) {
            Ok(asked) => asked,
            Err(why) => {
                let error = crate::machines::effect::plain_error("E-INPUT-TYPE", why);
                return self.hook_over(hook, Some(&error));
            }
        };
        let args = json!({ "type": task.kind, "inputs": hooked.inputs });
        let options = self.options(task, Some(hooked.timeout_ms));
        let (template, cleanup) = (Some(template), self.is_cancelled);
        let parts = Parts { key, asked, args, options, template, cleanup };
        let ordinal = self.request(Purpose::Hook(hook), parts, None);
        self.hooked[hook].effect = Some(ordinal);
    }

    pub(super) fn ask_timer(&mut self, purpose: Purpose, key: String, millis: u64) -> u32 {
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        let target = (self.clock_micros / 1_000).saturating_add(millis).min(8_640_000_000_000_000);
        let asked = Asked { kind: "sleep".to_owned(), definition: kinds::sleep(&key, target) };
        let args = json!({ "targetEpochMs": target });
        let parts = Parts { key, asked, args, options: json!({}), template: None, cleanup: false };
        self.request(purpose, parts, None)
    }

    /// The rules under which work is done: what failed is repeated by the planner, which knows the
    /// author's conditions; what nobody knows of by the engine, which knows what began.
    fn options(&self, task: &Task, deadline_ms: Option<u64>) -> Value {
        let mut out = Map::new();
        if let Some(priority) = self.flow.priority {
            out.insert("priority".into(), priority.into());
        }
        if let Some(ms) = deadline_ms {
            out.insert("deadline".into(), ms.into());
        }
        if let Some(idempotent) = task.idempotent {
            out.insert("idempotent".into(), idempotent.into());
        }
        if let Some(word) = &task.on_uncertain {
            out.insert("onUncertain".into(), word.as_str().into());
        }
        let on = [UNCERTAIN_ERROR];
        let mut retry = json!({ "maxAttempts": UNKNOWN_ATTEMPTS_MAX, "on": on });
        // A command whose runner was killed before it began has not failed: it is begun again.
        if task.kind != "shell" {
            retry["maxNotBegun"] = 1.into();
        }
        out.insert("retry".into(), retry);
        Value::Object(out)
    }

    pub(super) fn request(
        &mut self,
        purpose: Purpose,
        parts: Parts<'_>,
        unit: Option<usize>,
    ) -> u32 {
        let Parts { key, asked, args, options, template, cleanup } = parts;
        let key = shortened(key);
        // After an accepted change of the document a call may have been made before.
        let ordinal = self.known.remove(&key).unwrap_or_else(|| {
            self.next_ordinal += 1;
            self.next_ordinal - 1
        });
        let mut definition = asked.definition;
        if let Some(template) = template {
            let (name, word) = (&template.name, template.body.word());
            let task = unit.map_or("", |id| self.units[id].name.as_str());
            let retries = unit.map_or(0, |id| self.units[id].retries);
            definition["wf"] = json!({
                "path": key, "taskName": task, "templateName": name, "templateType": word,
                "retryCount": retries,
            });
            if let Some(task) = template.task().filter(|task| !task.resources.is_empty()) {
                definition["resources"] = task.resources.clone().into();
            }
        }
        let (definition, args) = (Json::of(&definition), Json::of(&args));
        let (scope, name) = key.rsplit_once('/').unwrap_or(("", &key));
        let (scope, name) = (scope.to_owned(), name.to_owned());
        let request = Request {
            ordinal,
            name,
            scope,
            kind: asked.kind,
            task_id: unit.map(|id| self.units[id].name.clone()),
            title: Some(key.clone()),
            label: None,
            labels: Vec::new(),
            def_digest: {
                let id = EffectId::new(ordinal).to_string();
                def_digest(&definition, &id, &self.run_dir).to_string()
            },
            def: definition,
            args_digest: args_digest(Some(&args), &self.run_dir).to_string(),
            args: Some(args),
            options: Some(Json::of(&options)).filter(|_| unit.is_some() || template.is_some()),
            cleanup,
            site: template.map(|template| template.pointer.clone()),
            key,
        };
        self.effects.insert(ordinal, purpose);
        self.outputs.push(Output::Request(Box::new(request)));
        ordinal
    }
}
