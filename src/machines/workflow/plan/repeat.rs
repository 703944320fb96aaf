//! Loops: a template, once for each item or while a condition holds.
//!
//! May not know what rounds do. Invariant: the list of items is looked up once, and there are never
//! more rounds at once than the author allows.

use serde_json::{Map, Value};

use super::bind::weight;
use super::outcome::Outcome;
use super::seen::Seen;
use super::unit::{LoopScope, Phase, Round, Scope, Unit};
use super::{Planner, bind::Fault};
use crate::machines::workflow::expression::Scope as _;
use crate::machines::workflow::model::{ItemSource, Loop, Rounds, Strategy};

impl Planner {
    pub(super) fn open_loop(&mut self, id: usize, l: &Loop) {
        let (items, total) = match &l.rounds {
            Rounds::Items(items) => (items.clone(), Some(items.len())),
            Rounds::While(_) => (Vec::new(), None),
            Rounds::From(source) => match self.items(id, source, l.max) {
                Ok(items) => {
                    let total = items.len();
                    (items, Some(total))
                }
                Err(fault) => return self.fault(id, &fault),
            },
        };
        let kept = Map::from_iter([(String::new(), Value::Array(items.clone()))]);
        self.weigh(id, weight(&kept));
        self.units[id].scope = Scope::Loop(LoopScope { items, total, ..LoopScope::default() });
        self.refill(id, l);
    }

    /// The list behind `itemsFrom`.
    fn items(&mut self, id: usize, source: &ItemSource, most: usize) -> Result<Vec<Value>, Fault> {
        let seen = Seen { inputs: Some(id), ..Seen::around(self, id) };
        let found = match source {
            ItemSource::Path(reference) => seen.get(reference),
            ItemSource::Expression(expression) => {
                Some(expression.value(&seen).map_err(|why| ("E-ITEMS", why))?)
            }
        };
        let found = match found {
            Some(Value::String(text)) => serde_json::from_str(&text)
                .map_err(|_| ("E-ITEMS", "the text is not a JSON list".to_owned()))?,
            other => other.unwrap_or_default(),
        };
        match found {
            Value::Null => {
                self.units[id].note("there was no list: no rounds".to_owned());
                Ok(Vec::new())
            }
            Value::Array(items) if items.len() > most => {
                let what = format!("{} items are more than {most} rounds", items.len());
                Err(("E-ITEMS-LIMIT", what))
            }
            Value::Array(items) => Ok(items),
            _ => Err(("E-ITEMS", "what was found is not a list".to_owned())),
        }
    }

    /// Begins rounds while there is a place for them, and ends the loop when none is left.
    fn refill(&mut self, id: usize, l: &Loop) {
        loop {
            let Scope::Loop(scope) = &mut self.units[id].scope else { return };
            let stops = l.fail_fast && scope.has_failed;
            let is_left = match scope.total {
                Some(total) => scope.next < total,
                // The condition is asked after each round.
                None => scope.next == 0,
            };
            if stops || !is_left {
                if scope.live.is_empty() {
                    self.close_loop(id, l);
                }
                return;
            }
            if scope.live.len() >= l.concurrency || !self.open_round(id, l) {
                return;
            }
        }
    }

    fn open_round(&mut self, id: usize, l: &Loop) -> bool {
        let Scope::Loop(scope) = &mut self.units[id].scope else { return false };
        let index = scope.next;
        scope.next += 1;
        let item = scope.total.and_then(|_| scope.items.get(index).cloned());
        let body = &self.flow.templates[l.body];
        let path = format!("{}[{index}]/{}", self.units[id].path, body.name);
        let name = body.name.clone();
        let unit = self.child(id, path, &name, l.body);
        let round = Some(Round { index, item });
        let Some(made) = self.create(Unit { round, ..unit }) else { return false };
        if let Scope::Loop(scope) = &mut self.units[id].scope {
            scope.live.insert(made);
            if self.keeps {
                scope.children.push(made);
            }
        }
        true
    }

    pub(super) fn round_over(&mut self, id: usize, child: usize, l: &Loop) {
        let unit = &self.units[child];
        let (phase, index) = (unit.phase, unit.round.as_ref().map_or(0, |round| round.index));
        let Scope::Loop(scope) = &mut self.units[id].scope else { return };
        scope.tally.count(phase, false);
        scope.has_failed |= !matches!(phase, Phase::Succeeded | Phase::Skipped);
        // A round that ends later is not the last, if its number is lower.
        let is_last = scope.last.is_none_or(|last| {
            self.units[last].round.as_ref().is_none_or(|round| round.index <= index)
        });
        match l.strategy {
            Strategy::List => self.keep_result(id, child, index),
            Strategy::First if index == 0 => self.keep_result(id, child, 0),
            Strategy::Last if is_last => self.keep_result(id, child, 0),
            Strategy::First | Strategy::Last => {}
        }
        let Scope::Loop(scope) = &mut self.units[id].scope else { return };
        let replaced = if is_last { scope.last.replace(child) } else { Some(child) };
        if is_last {
            scope.last_phase = phase;
        }
        if let Some(replaced) = replaced {
            self.release(replaced);
        }
        if let Rounds::While(condition) = &l.rounds
            && !self.goes_on(id, child, condition, l.max)
        {
            return;
        }
        self.refill(id, l);
    }

    /// Keeps the outputs of a round, in the place of what stood there.
    fn keep_result(&mut self, id: usize, child: usize, at: usize) {
        let outputs = self.units[child].outputs.clone();
        let added = weight(&outputs);
        let Scope::Loop(scope) = &mut self.units[id].scope else { return };
        if scope.results.len() <= at {
            scope.results.resize(at + 1, None);
        }
        let gone = scope.results[at].replace(outputs).map_or(0, |gone| weight(&gone));
        let unit = &mut self.units[id];
        unit.bytes = unit.bytes + added - gone;
        self.bytes = self.bytes + added - gone;
    }

    /// Asks the condition of a loop after a round. False: the loop ended with a fault.
    fn goes_on(
        &mut self,
        id: usize,
        child: usize,
        condition: &crate::machines::workflow::expression::Expression,
        most: usize,
    ) -> bool {
        let stops = matches!(self.units[child].phase, Phase::Cancelled);
        let round = self.units[child].round.clone();
        let seen = Seen { round: round.as_ref(), ..Seen::inside(self, id) };
        let again = if stops { Ok(false) } else { condition.holds(&seen) };
        let again = match again {
            Ok(again) => again,
            Err(why) => {
                let Outcome { phase, code, message, .. } = Outcome::fault("E-REPEAT", &why);
                self.finish(id, phase, Some(code), message);
                return false;
            }
        };
        if let Scope::Loop(scope) = &mut self.units[id].scope {
            scope.is_exhausted = again && scope.next >= most;
            let more = usize::from(again && scope.next < most);
            scope.total = Some(scope.next + more);
        }
        true
    }

    fn close_loop(&mut self, id: usize, l: &Loop) {
        if self.units[id].phase.is_terminal() {
            return;
        }
        let Scope::Loop(scope) = &mut self.units[id].scope else { return };
        let tally = scope.tally;
        let phase = match tally.phase() {
            Phase::Cancelled => Phase::Cancelled,
            _ if l.phase_of_last && scope.last.is_some() => match scope.last_phase {
                Phase::Timeout => Phase::Error,
                Phase::Skipped => Phase::Succeeded,
                last => last,
            },
            phase => phase,
        };
        let mut results = std::mem::take(&mut scope.results);
        if l.strategy == Strategy::List {
            results.resize(scope.next, None);
        }
        let last = scope.last;
        let outputs =
            if tally.phase() == Phase::Succeeded { aggregate(l, &results) } else { Map::new() };
        self.units[id].outputs = outputs;
        self.close_container(id, phase, &tally);
        if let Some(last) = last {
            self.release(last);
        }
    }
}

/// What the outputs of all rounds become.
fn aggregate(l: &Loop, results: &[Option<Map<String, Value>>]) -> Map<String, Value> {
    let wanted = |name: &String| l.names.is_empty() || l.names.contains(name);
    let of = |result: Option<&Option<Map<String, Value>>>| {
        let result = result.cloned().flatten().unwrap_or_default();
        result.into_iter().filter(|(name, _)| wanted(name)).collect()
    };
    match l.strategy {
        Strategy::First => of(results.first()),
        Strategy::Last => of(results.last()),
        Strategy::List => {
            let mut names: Vec<String> = l.names.clone();
            if names.is_empty() {
                let mut known = std::collections::HashSet::new();
                let all = results.iter().flatten().flat_map(Map::keys);
                names = all.filter(|name| known.insert(*name)).cloned().collect();
            }
            let list = |name: &String| {
                let value = |r: &Option<Map<String, Value>>| r.as_ref()?.get(name).cloned();
                results.iter().map(|result| value(result).unwrap_or_default()).collect()
            };
            names.iter().map(|name| (name.clone(), list(name))).collect()
        }
    }
}
