//! What was asked and told about each effect, as a history that has to be linearizable.
//!
//! Claims are told a run's open effect, so a claim that was never answered may have been of any:
//! it is left out, and epochs may be missing. Invariant: whatever is not known to be wrong is
//! allowed; what a daemon without fences does is not.

use std::collections::BTreeMap;

use dormouse::ground::id::{EffectId, RunId};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::daemon::{Ask, Call, Told};

/// Longest history that is looked at: the search is exponential in what is open at once.
const CALLS_MAX: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Claim,
    Post { epoch: u64, value: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ret {
    Started(u64),
    Taken,
    Refused,
}

/// An effect, as far as its clients can tell.
#[derive(Debug, Clone, Default)]
struct Effect {
    epoch: u64,
    outcome: Option<u64>,
}

impl SequentialSpec for Effect {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, _: &Op) -> Ret {
        Ret::Refused
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        match (op, ret) {
            (Op::Claim, Ret::Started(epoch)) => {
                let is_next = *epoch > self.epoch && self.outcome.is_none();
                self.epoch = *epoch;
                is_next
            }
            (Op::Post { epoch, value }, Ret::Taken) => {
                let is_first = self.outcome.is_none();
                let stands = *self.outcome.get_or_insert(*value);
                if is_first { *epoch == self.epoch } else { stands == *value }
            }
            (_, Ret::Refused) => true,
            _ => false,
        }
    }
}

/// Something that happened at a client.
#[derive(Debug, Clone)]
enum Event {
    Asked(u64, Op),
    Told(u64, Ret),
}

#[derive(Default)]
pub(super) struct Histories {
    /// When each claim was asked, by its number: of which effect it is, its answer says.
    claims: BTreeMap<u64, usize>,
    clock: usize,
    events: BTreeMap<(RunId, EffectId), Vec<(usize, Event)>>,
}

impl Histories {
    fn tick(&mut self) -> usize {
        self.clock += 1;
        self.clock
    }

    fn note(&mut self, run: &RunId, effect: EffectId, at: usize, event: Event) {
        self.events.entry((run.clone(), effect)).or_default().push((at, event));
    }

    pub(super) fn asked(&mut self, call: &Call) {
        let now = self.tick();
        match call.ask {
            Ask::Claim { .. } => drop(self.claims.insert(call.number, now)),
            Ask::Post { effect, epoch, value, .. } => {
                let op = Op::Post { epoch, value };
                self.note(&call.run, effect, now, Event::Asked(call.number, op));
            }
            _ => {}
        }
    }

    pub(super) fn told(&mut self, call: &Call, told: &Told) {
        let now = self.tick();
        match (&call.ask, told) {
            (Ask::Claim { .. }, Told::Started { effect, epoch }) => {
                let Some(asked) = self.claims.remove(&call.number) else { return };
                self.note(&call.run, *effect, asked, Event::Asked(call.number, Op::Claim));
                let ret = Ret::Started(*epoch);
                self.note(&call.run, *effect, now, Event::Told(call.number, ret));
            }
            (Ask::Post { effect, .. }, told) => {
                let ret = if *told == Told::Taken { Ret::Taken } else { Ret::Refused };
                self.note(&call.run, *effect, now, Event::Told(call.number, ret));
            }
            _ => {}
        }
    }

    /// How many histories were looked at, and those that cannot have happened.
    pub(super) fn check(&mut self) -> (u64, Vec<String>) {
        let (mut seen, mut broken) = (0, Vec::new());
        for ((run, effect), events) in &mut self.events {
            events.sort_by_key(|(at, _)| *at);
            if events.len() > 2 * CALLS_MAX {
                continue;
            }
            seen += 1;
            let mut tester = LinearizabilityTester::new(Effect::default());
            for (_, event) in events.iter() {
                let heard = match event {
                    Event::Asked(number, op) => tester.on_invoke(*number, *op).err(),
                    Event::Told(number, ret) => tester.on_return(*number, *ret).err(),
                };
                assert_eq!(heard, None);
            }
            if !tester.is_consistent() {
                broken.push(format!("{run} {effect}: {events:?}"));
            }
        }
        (seen, broken)
    }
}
