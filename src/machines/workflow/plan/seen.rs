//! What an expression sees: values of the run, behind the paths of authors.
//!
//! May not change anything. Invariant: what is not there is absent, never a failure.

use serde_json::{Map, Value, json};

use super::Planner;
use super::unit::{Phase, Round, Scope as Inside, Unit};
use crate::ground::clock::Timestamp;
use crate::machines::workflow::expression::Scope;
use crate::machines::workflow::model::Body;
use crate::machines::workflow::reference::{Piece, Reference, Root, drill, longest, pieces};
use crate::machines::workflow::values::text;

/// A place in a run from which values are looked up.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) planner: &'a Planner,
    /// Whose inputs are seen.
    pub(super) inputs: Option<usize>,
    /// Whose parts are seen.
    pub(super) tasks: Option<usize>,
    pub(super) round: Option<&'a Round>,
    pub(super) is_exhausted: bool,
    pub(super) own: Option<Own<'a>>,
    pub(super) retry: Option<(u32, u32)>,
    pub(super) hook: Option<&'a Value>,
}

/// What something knows of itself.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) phase: Phase,
    pub(super) code: Option<i64>,
    pub(super) message: &'a str,
    pub(super) outputs: &'a Map<String, Value>,
}

impl<'a> Seen<'a> {
    /// From the run itself.
    pub(super) const fn run(planner: &'a Planner) -> Self {
        Self {
            planner,
            inputs: None,
            tasks: None,
            round: None,
            is_exhausted: false,
            own: None,
            retry: None,
            hook: None,
        }
    }

    /// From inside a dag or a loop.
    pub(super) fn inside(planner: &'a Planner, unit: usize) -> Self {
        let round = planner.round_of(unit);
        Self { inputs: Some(unit), tasks: Some(unit), round, ..Self::run(planner) }
    }

    /// From where a task run was called.
    pub(super) fn around(planner: &'a Planner, unit: usize) -> Self {
        let round = planner.round_of(unit);
        match planner.units[unit].parent {
            Some(parent) => Self { round, ..Self::inside(planner, parent) },
            None => Self { round, ..Self::run(planner) },
        }
    }

    pub(super) const fn with_own(mut self, own: Own<'a>) -> Self {
        self.own = Some(own);
        self
    }

    fn fact(&self, name: &str) -> Option<Value> {
        let Planner { flow, run_id, created_micros, .. } = self.planner;
        match name {
            "name" => Some(flow.name.as_str().into()),
            "namespace" => Some(flow.namespace.as_str().into()),
            "runID" => Some(run_id.as_str().into()),
            "createdAt" => Some(Timestamp::from_micros(*created_micros).to_string().into()),
            _ => None,
        }
    }

    /// What is known of the machine on which the run was created.
    fn machine(&self, name: &str) -> Option<Value> {
        let (system, processor) = self.planner.system.as_deref()?.split_once('/')?;
        match name {
            "os" => Some(system.into()),
            "arch" => Some(processor.into()),
            _ => None,
        }
    }

    /// What the schedule says that made the run; nothing in other runs.
    fn cron(&self) -> Value {
        match self.planner.scheduled_at {
            Some(at) => json!({ "scheduledAt": at.iso_seconds() }),
            None => json!({}),
        }
    }

    /// The task run behind a name.
    fn task(&self, name: &str) -> Option<&'a Unit> {
        let planner = self.planner;
        planner.look();
        let around = &planner.units[self.tasks?];
        match (&around.scope, &planner.flow.templates[around.template].body) {
            (Inside::Dag(scope), Body::Dag(dag)) => {
                let i = *dag.names.get(name)?;
                scope.children.get(i).copied().flatten().map(|unit| &planner.units[unit])
            }
            (Inside::Loop(scope), Body::Loop(l)) => {
                let is_body = planner.flow.templates[l.body].name == name;
                scope.last.filter(|_| is_body).map(|unit| &planner.units[unit])
            }
            _ => None,
        }
    }

    fn of_task(&self, reference: &Reference) -> Option<Value> {
        let unit = self.task(reference.task()?);
        match reference.name(1)? {
            "phase" => Some(unit.map_or("", |unit| unit.phase.word()).into()),
            "code" => unit?.code.map(Value::from),
            "msg" => unit.map(|unit| unit.message.as_str().into()),
            "retries" => unit.map(|unit| unit.retries.into()),
            "outputs" => parameter(&unit?.outputs, reference),
            _ => None,
        }
    }

    fn of_round(&self, reference: &Reference) -> Option<Value> {
        let round = self.round?;
        let item = round.item.as_ref();
        match reference.name(0)? {
            "index" => Some(round.index.into()),
            "exhausted" => Some(self.is_exhausted.into()),
            "item" => drill(item?, &reference.segments[1..]).cloned(),
            _ => drill(item?, &reference.segments).cloned(),
        }
    }

    fn tasks_value(&self, names: &[String]) -> Value {
        let value = |unit: Option<&Unit>| match unit {
            None => json!({ "phase": "", "outputs": { "parameters": {} } }),
            Some(unit) => json!({
                "phase": unit.phase.word(), "code": unit.code, "msg": unit.message,
                "retries": unit.retries, "outputs": { "parameters": unit.outputs },
            }),
        };
        let all = names.iter().map(|name| (name.clone(), value(self.task(name))));
        Value::Object(all.collect())
    }

    fn round_value(&self) -> Value {
        let Some(round) = self.round else { return json!({}) };
        let mut out = match &round.item {
            Some(Value::Object(members)) => members.clone(),
            _ => Map::new(),
        };
        out.insert("index".into(), round.index.into());
        out.insert("exhausted".into(), self.is_exhausted.into());
        out.extend(round.item.clone().map(|item| ("item".to_owned(), item)));
        Value::Object(out)
    }

    /// Fills placeholders in. `bare` gives words that are no paths.
    ///
    /// # Errors
    /// The path that leads nowhere.
    pub(super) fn fill(&self, value: &Value, bare: Option<&Value>) -> Result<Value, String> {
        match value {
            Value::String(given) if given.contains("{{") => self.fill_text(given, bare),
            Value::Array(items) => {
                items.iter().map(|item| self.fill(item, bare)).collect::<Result<_, _>>()
            }
            Value::Object(members) => {
                let filled = members.iter().map(|(k, v)| Ok((k.clone(), self.fill(v, bare)?)));
                filled.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            other => Ok(other.clone()),
        }
    }

    fn fill_text(&self, given: &str, bare: Option<&Value>) -> Result<Value, String> {
        let pieces = pieces(given);
        let word = |piece: &str| bare?.get(piece.trim_matches(['{', '}']).trim()).cloned();
        let value = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => Ok(Some((*text).into())),
            Piece::Reference(reference, path) => {
                self.get(reference).map(Some).ok_or_else(|| (*path).to_owned())
            }
            Piece::Broken(path, _) => Err((*path).to_owned()),
            Piece::Other(written) => Ok(word(written).or_else(|| Some((*written).into()))),
        };
        if let [only] = &pieces[..] {
            return value(only).map(Option::unwrap_or_default);
        }
        let mut out = String::new();
        for piece in &pieces {
            out.push_str(&value(piece)?.as_ref().map(text).unwrap_or_default());
        }
        Ok(Value::String(out))
    }
}

/// The parameter that a path names, or all of them.
fn parameter(map: &Map<String, Value>, reference: &Reference) -> Option<Value> {
    let path = reference.parameter()?;
    if path.is_empty() {
        return Some(Value::Object(map.clone()));
    }
    let (value, taken) = longest(path, |name| map.get(name))?;
    drill(value, &path[taken..]).cloned()
}

impl Scope for Seen<'_> {
    fn get(&self, reference: &Reference) -> Option<Value> {
        let own = self.own;
        let value = match reference.root {
            Root::Workflow if reference.name(0) == Some("parameters") => {
                parameter(&self.planner.arguments, reference)
            }
            Root::Workflow => self.fact(reference.name(0)?),
            Root::Inputs => parameter(&self.planner.units[self.inputs?].inputs, reference),
            Root::Tasks => self.of_task(reference),
            Root::Round => self.of_round(reference),
            Root::Outputs => parameter(own?.outputs, reference),
            Root::Phase => Some(own?.phase.word().into()),
            Root::Code => own?.code.map(Value::from),
            Root::Message => Some(own?.message.into()),
            Root::Retry => match reference.name(0)? {
                "attempt" => Some(self.retry?.0.into()),
                "limit" => Some(self.retry?.1.into()),
                _ => None,
            },
            Root::Hook => drill(self.hook?, &reference.segments).cloned(),
            Root::System => self.machine(reference.name(0)?),
            Root::Cron => drill(&self.cron(), &reference.segments).cloned(),
        };
        value.filter(|value| !value.is_null())
    }

    fn root(&self, root: Root, tasks: &[String]) -> Value {
        let own = |value: &dyn Fn(Own<'_>) -> Value| self.own.map_or(Value::Null, value);
        match root {
            Root::Workflow => {
                let mut out = Map::new();
                for name in ["name", "namespace", "runID", "createdAt"] {
                    out.extend(self.fact(name).map(|value| (name.to_owned(), value)));
                }
                out.insert("parameters".into(), self.planner.arguments.clone().into());
                Value::Object(out)
            }
            Root::Inputs => {
                let inputs = self.inputs.map(|unit| &self.planner.units[unit].inputs);
                json!({ "parameters": inputs.unwrap_or(&Map::new()) })
            }
            Root::Tasks => self.tasks_value(tasks),
            Root::Round => self.round_value(),
            Root::Outputs => own(&|own| json!({ "parameters": own.outputs })),
            Root::Phase => own(&|own| own.phase.word().into()),
            Root::Code => own(&|own| own.code.into()),
            Root::Message => own(&|own| own.message.into()),
            Root::Retry => self.retry.map_or(
                Value::Null,
                |(attempt, limit)| json!({ "attempt": attempt, "limit": limit }),
            ),
            Root::Hook => self.hook.cloned().unwrap_or_default(),
            Root::System => {
                json!({ "os": self.machine("os"), "arch": self.machine("arch") })
            }
            Root::Cron => self.cron(),
        }
    }
}
