//! Leaves: work that is asked for, its outcome, and whether it is asked for again.
//!
//! May not know executors. Invariant: an attempt whose outcome nobody knows is not followed by
//! another from here.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Planner;
use super::bind::weight;
use super::dag::judge;
use super::outcome::{self, Outcome};
use super::request::Ask;
use super::seen::{Own, Seen};
use super::unit::Phase;
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::machines::workflow::model::{Backoff, Retry};

impl Planner {
    pub(super) fn leaf_resolved(
        &mut self,
        id: usize,
        value: Option<&Json>,
        error: Option<&ErrorInfo>,
    ) {
        self.units[id].effect = None;
        let flow = Arc::clone(&self.flow);
        let template = &flow.templates[self.units[id].template];
        let outcome = if let Some(error) = error {
            outcome::of_error(error, template, flow.is_lenient)
        } else {
            let value = value.map(Json::to_value).unwrap_or_default();
            outcome::of_value(&value, template, &self.units[id].inputs, flow.is_lenient)
        };
        self.leaf_over(id, outcome);
    }

    /// An attempt is over.
    pub(super) fn leaf_over(&mut self, id: usize, mut outcome: Outcome) {
        if outcome.phase == Phase::Suspended {
            return self.suspend(id, outcome);
        }
        let flow = Arc::clone(&self.flow);
        let template = &flow.templates[self.units[id].template];
        let node = self.node_of(id);
        let conditions = node.and_then(|node| node.conditions.as_ref());
        let conditions = conditions.unwrap_or(&template.conditions).clone();
        let own = template.task().map(|task| task.retry.clone()).unwrap_or_default();
        let retry = node.and_then(|node| node.retry.clone()).unwrap_or(own);
        let mut outputs = self.units[id].outputs.clone();
        outputs.append(&mut outcome.outputs);
        judge(&mut outcome, &outputs, &conditions, Seen::around(self, id));
        if self.is_repeated(id, &outcome, &outputs, &retry) {
            return;
        }
        self.weigh(id, weight(&outputs));
        let unit = &mut self.units[id];
        unit.outputs = outputs;
        for note in outcome.notes {
            unit.note(note);
        }
        self.finish(id, outcome.phase, Some(outcome.code), outcome.message);
    }

    /// Asks for the work again, at once or after a while, if that is wanted.
    fn is_repeated(
        &mut self,
        id: usize,
        outcome: &Outcome,
        outputs: &Map<String, Value>,
        retry: &Retry,
    ) -> bool {
        let fails = matches!(outcome.phase, Phase::Failed | Phase::Error | Phase::Timeout);
        let used = self.units[id].retries;
        if !fails || outcome.is_unknown || used >= retry.limit {
            return false;
        }
        let wanted = match &retry.expression {
            None => Ok(outcome.phase != Phase::Failed),
            Some(expression) => {
                let Outcome { phase, message, .. } = outcome;
                let (phase, code) = (*phase, Some(outcome.code));
                let own = Own { phase, code, message, outputs };
                let counted = Some((used + 1, retry.limit));
                let seen = Seen { retry: counted, ..Seen::around(self, id) }.with_own(own);
                expression.holds(&seen)
            }
        };
        let wanted = wanted.unwrap_or_else(|why| {
            self.units[id].note(format!("retry.expression: {why}"));
            false
        });
        let delay_ms = match &retry.backoff {
            Some(backoff) => self.delay_ms(id, used + 1, backoff),
            None => 0,
        };
        let began = self.units[id].started_micros.unwrap_or(self.clock_micros);
        let elapsed_ms = u64::try_from((self.clock_micros - began) / 1_000).unwrap_or(0);
        let is_late =
            retry.max_elapsed_ms.is_some_and(|most| elapsed_ms.saturating_add(delay_ms) > most);
        if !wanted || is_late {
            return false;
        }
        let unit = &mut self.units[id];
        unit.retries += 1;
        unit.phase = Phase::Created;
        unit.note(format!("attempt {}: {}: {}", used + 1, outcome.phase.word(), outcome.message));
        let ask = if delay_ms == 0 { Ask::Leaf(id) } else { Ask::Backoff(id, delay_ms) };
        self.queue.push_back(ask);
        true
    }

    /// How long to wait before the `k`-th repetition. Chance is a function of run, place and
    /// number.
    fn delay_ms(&self, id: usize, k: u32, backoff: &Backoff) -> u64 {
        let Backoff { initial_ms, factor, max_ms, jitter } = backoff;
        let mut delay = *initial_ms;
        for _ in 1..k {
            if delay >= *max_ms {
                break;
            }
            delay = scaled(delay, *factor);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{}\0{}\0{k}", self.run_id, self.units[id].path).as_bytes());
        let mut eight = [0; 8];
        hasher.finalize_xof().fill(&mut eight);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let chance = (u64::from_le_bytes(eight) >> 11) as f64 / 9_007_199_254_740_992.0;
        scaled(delay.min(*max_ms), 1.0 - jitter * chance)
    }
}

fn scaled(millis: u64, factor: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "delays are years at most, and factors are checked"
    )]
    let scaled = (millis as f64 * factor).round().clamp(0.0, 1e15) as u64;
    scaled
}
