//! Clients of the simulation: workers that claim, do, post and come late, an operator who decides,
//! somebody who leaves notes and somebody who looks.
//!
//! Invariant: nobody knows more than what they were told.

use std::collections::BTreeMap;

use dormouse::ground::id::{EffectId, RunId};
use dormouse::machines::effect::life::EffectStatus;

use super::daemon::{Ask, Call, Told};
use super::judge::Judge;
use dormouse::services::torture::dice::Dice;

const RUNS: u64 = 4;
const WORKERS: usize = 3;

/// A start that a worker was given.
#[derive(Debug, Clone)]
struct Hand {
    run: RunId,
    effect: EffectId,
    epoch: u64,
    /// What it brought, once it was done.
    value: Option<u64>,
}

/// What is known of a run.
#[derive(Debug, Default, Clone)]
struct Known {
    made: bool,
    ended: bool,
    open: Option<(EffectId, EffectStatus, u64)>,
}

pub(super) struct People {
    dice: Dice,
    next: u64,
    asked: BTreeMap<u64, Call>,
    hands: Vec<(usize, Hand)>,
    runs: BTreeMap<RunId, Known>,
    stale: u64,
}

impl People {
    pub(super) fn new(seed: u64) -> Self {
        let name = |n| format!("r{n}").parse().unwrap();
        Self {
            dice: Dice::of(seed, "people"),
            next: 0,
            asked: BTreeMap::new(),
            hands: Vec::new(),
            runs: (0..RUNS).map(|n| (name(n), Known::default())).collect(),
            stale: 0,
        }
    }

    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    pub(super) fn is_done(&self) -> bool {
        self.runs.values().all(|known| known.ended)
    }

    pub(super) fn unfinished(&self) -> String {
        let open = self.runs.iter().filter(|(_, known)| !known.ended);
        open.map(|(run, known)| format!("{run} {known:?}")).collect::<Vec<_>>().join(", ")
    }

    /// Nobody is told any more what they asked for.
    pub(super) fn hang_up(&mut self) {
        self.asked.clear();
    }

    /// What was said before does not count for the last time.
    pub(super) fn create_all(&mut self) {
        for known in self.runs.values_mut() {
            *known = Known::default();
        }
    }

    fn call(&mut self, run: &RunId, ask: Ask) -> Call {
        self.next += 1;
        let call = Call { number: self.next, run: run.clone(), ask };
        self.asked.insert(call.number, call.clone());
        call
    }

    fn some_run(&mut self) -> RunId {
        let at = usize::try_from(self.dice.below(RUNS)).unwrap();
        self.runs.keys().nth(at).unwrap().clone()
    }

    /// Somebody does something.
    pub(super) fn act(&mut self, judge: &mut Judge) -> Vec<Call> {
        let run = self.some_run();
        let known = self.runs[&run].clone();
        if !known.made {
            return vec![self.call(&run, Ask::Create)];
        }
        if let Some((effect, EffectStatus::Uncertain, epoch)) = known.open
            && self.dice.one_in(3)
        {
            return vec![self.call(&run, Ask::Decide { effect, epoch })];
        }
        match self.dice.below(10) {
            0 | 1 => {
                let worker = usize::try_from(self.dice.below(WORKERS as u64)).unwrap();
                let id = format!("c{}", self.next);
                vec![self.call(&run, Ask::Claim { worker, id })]
            }
            2..=5 if !self.hands.is_empty() => self.work(judge),
            6 => {
                let text = format!("note {} of {run}", self.next);
                vec![self.call(&run, Ask::Note { text })]
            }
            _ => vec![self.call(&run, Ask::Read)],
        }
    }

    /// A worker does what it was given, posts it, gives it back, says that it lives, or forgets.
    fn work(&mut self, judge: &mut Judge) -> Vec<Call> {
        let at = usize::try_from(self.dice.below(self.hands.len() as u64)).unwrap();
        let (worker, hand) = self.hands[at].clone();
        let Hand { run, effect, epoch, value } = hand;
        match (value, self.dice.below(8)) {
            (None, 0) => {
                self.hands.remove(at);
                vec![self.call(&run, Ask::Release { worker, effect, epoch })]
            }
            (None, 1) => vec![self.call(&run, Ask::Beat { effect, epoch })],
            (None, _) => {
                let value = self.next * 1_000 + epoch;
                judge.done(&run, effect, epoch);
                self.hands[at].1.value = Some(value);
                Vec::new()
            }
            (Some(_), 0) => {
                self.hands.remove(at);
                Vec::new()
            }
            (Some(value), _) => vec![self.call(&run, Ask::Post { worker, effect, epoch, value })],
        }
    }

    /// An answer arrives.
    pub(super) fn hear(&mut self, number: u64, told: &Told, judge: &mut Judge) {
        let Some(call) = self.asked.remove(&number) else { return };
        judge.heard(&call, told);
        let Some(known) = self.runs.get_mut(&call.run) else { return };
        match (&call.ask, told) {
            (Ask::Create, Told::Made) => known.made = true,
            (Ask::Create, Told::Refused(code)) if code == "run_exists" => known.made = true,
            (Ask::Claim { worker, .. }, Told::Started { effect, epoch }) => {
                let (run, effect, epoch) = (call.run.clone(), *effect, *epoch);
                self.hands.push((*worker, Hand { run, effect, epoch, value: None }));
            }
            (Ask::Read, Told::Seen { open, ended, .. }) => {
                known.open = *open;
                known.ended |= *ended;
            }
            (Ask::Post { effect, epoch, .. }, Told::Taken | Told::Refused(_)) => {
                let refused = matches!(told, Told::Refused(_));
                self.stale += u64::from(refused);
                if refused && !self.dice.one_in(8) {
                    // It does not believe it, and will try again.
                    return;
                }
                let (run, effect, epoch) = (call.run.clone(), *effect, *epoch);
                self.hands.retain(|(_, hand)| {
                    (&hand.run, hand.effect, hand.epoch) != (&run, effect, epoch)
                });
            }
            _ => {}
        }
    }
}
