//! The gate: asked before every start in a daemon, in the order of the manager's thread.
//!
//! May not touch a run nor wait for anything. Invariant: whoever was let in holds their key from
//! that moment on, durable or not; whoever was not is called when the answer is another one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::codecs::event::{Event, Record};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, EffectName, RunId};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::ledger::{Answer, Ledger, Row, Settled, State};
use crate::machines::replay::facts::KeyFacts;
use crate::machines::replay::state::RunState;
use crate::services::why::memory::Hold;

use super::slots::Slots;

/// Everything that may keep an effect from being started although its run lets it.
pub(super) struct Gate {
    ledger: Ledger,
    /// What limits say.
    pub(super) slots: Slots,
    /// Keys that were given for records which are not durable yet.
    unwritten: HashMap<RunId, Vec<Given>>,
    /// Requested effects with keys.
    asking: BTreeMap<EffectName, Asking>,
    /// The same by key.
    by_key: HashMap<String, BTreeSet<EffectName>>,
    /// Those for which the answer is another one.
    called: VecDeque<Called>,
    /// Those whose outcome is being copied.
    copying: HashSet<EffectName>,
    /// How many of those that ask are held.
    held: usize,
}

/// What is known of explicit idempotency keys when a daemon starts.
pub struct Keys {
    /// What effects say about theirs.
    pub known: Vec<(RunId, KeyFacts)>,
    /// How long a key is kept after the end of whoever had it.
    pub kept_ms: u64,
}

/// Whether an effect may be started.
#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    /// It may, and what it needs is its own from now on.
    Free,
    /// Not now: it is called when that may have changed.
    Held(Hold),
    /// It is not started at all: this becomes of it.
    Ends(Settled),
}

/// A key that was given.
struct Given {
    key: String,
    effect: EffectId,
    /// What the key had before.
    before: Option<Row>,
}

/// A requested effect with a key.
struct Asking {
    key: String,
    kind: String,
    digest: Digest,
}

/// An effect that may go on.
pub(super) struct Called {
    pub(super) holder: EffectName,
    pub(super) kind: String,
    /// It may be started; otherwise its run knows what becomes of it.
    pub(super) is_free: bool,
}

impl Gate {
    /// The gate of a root with these keys and limits.
    pub(super) fn new(keys: Keys, slots: Slots) -> Self {
        let mut gate = Self {
            ledger: Ledger::new(keys.kept_ms),
            slots,
            unwritten: HashMap::new(),
            asking: BTreeMap::new(),
            by_key: HashMap::new(),
            called: VecDeque::new(),
            copying: HashSet::new(),
            held: 0,
        };
        // As time brought them: what took a key over comes after what it took it from.
        let mut known = keys.known;
        known.sort_by_key(|(_, key)| {
            let ended_at = key.row.as_ref().and_then(|row| row.ended_at);
            (ended_at.is_none(), ended_at)
        });
        for (run, facts) in known {
            if facts.status == EffectStatus::Requested {
                let KeyFacts { key, kind, digest, .. } = facts.clone();
                gate.ask_for(EffectName::of(&run, facts.effect_id), Asking { key, kind, digest });
            }
            if let Some(row) = facts.row {
                gate.change(&facts.key, |gate| gate.ledger.put(&facts.key, row));
            }
        }
        let settled = |(asker, asking): (&EffectName, &Asking)| {
            let answer = gate.ledger.ask(&asking.key, asking.digest, asker);
            matches!(answer, Answer::Settled(_)).then(|| asking.call(asker, false))
        };
        gate.called = gate.asking.iter().filter_map(settled).collect();
        gate
    }

    /// Whether an effect may be started. What it needs for that is its own from now on, until
    /// [`Gate::withdraw`] or the end of what its records say.
    pub(super) fn admit(&mut self, run: &RunId, effect: &Effect, now: Timestamp) -> Admission {
        let admission = self.look(run, effect, now);
        if admission != Admission::Free {
            return admission;
        }
        self.reserve(run, effect);
        if effect.wait.is_never_started() {
            return Admission::Free;
        }
        if let Err(held) = self.slots.take(run, effect, now) {
            self.withdraw(run, effect.id);
            return Admission::Held(held);
        }
        Admission::Free
    }

    /// The same for an effect that nobody asks for again: it is called when its turn has come.
    pub(super) fn admit_or_call(&mut self, run: &RunId, effect: &Effect, now: Timestamp) -> bool {
        let is_free = self.look(run, effect, now) == Admission::Free
            && self.slots.take_or_wait(run, effect, now);
        if is_free {
            self.reserve(run, effect);
        }
        is_free
    }

    /// The key of an effect, which is free, is its own from now on.
    fn reserve(&mut self, run: &RunId, effect: &Effect) {
        let Some(key) = &effect.policy.idempotency_key else { return };
        let (asker, before) = (EffectName::of(run, effect.id), self.ledger.get(key).cloned());
        self.change(key, |gate| gate.ledger.reserve(key, effect.def_digest, &asker));
        self.given(run, effect.id, key, before);
    }

    /// The same without taking anything.
    pub(super) fn look(&mut self, run: &RunId, effect: &Effect, now: Timestamp) -> Admission {
        let Some(key) = &effect.policy.idempotency_key else { return Admission::Free };
        self.ledger.forget(now);
        if let Some(row) = Row::of(run, effect).filter(|row| row.is_decided) {
            // Somebody decided that it stands in for who held the key before.
            let before = self.ledger.get(key).cloned();
            self.change(key, |gate| gate.ledger.put(key, row));
            self.given(run, effect.id, key, before);
        }
        match self.ledger.ask(key, effect.def_digest, &EffectName::of(run, effect.id)) {
            Answer::Free => Admission::Free,
            Answer::Held(holder) => Admission::Held(key_hold(key, holder)),
            Answer::Settled(settled) => Admission::Ends(settled),
        }
    }

    /// Notes that the key is an effect's own by a record that is not durable yet, if it was not.
    fn given(&mut self, run: &RunId, effect: EffectId, key: &str, before: Option<Row>) {
        let asker = EffectName::of(run, effect);
        let is_its_own = before.as_ref().is_some_and(|row| row.holder == asker);
        if !is_its_own && self.ledger.get(key).is_some_and(|row| row.holder == asker) {
            let given = Given { key: key.to_owned(), effect, before };
            self.unwritten.entry(run.clone()).or_default().push(given);
        }
    }

    /// A start that was let in was not recorded.
    pub(super) fn withdraw(&mut self, run: &RunId, effect: EffectId) {
        self.slots.give_back(run, effect);
        let Some(of_run) = self.unwritten.get_mut(run) else { return };
        let back: Vec<Given> = of_run.extract_if(.., |given| given.effect == effect).collect();
        if of_run.is_empty() {
            self.unwritten.remove(run);
        }
        self.take_back(run, back);
    }

    /// What a run made and is not durable never was.
    pub(super) fn lose(&mut self, run: &RunId) {
        let back = self.unwritten.remove(run).unwrap_or_default();
        self.take_back(run, back);
    }

    fn take_back(&mut self, run: &RunId, back: Vec<Given>) {
        for Given { key, effect, before } in back.into_iter().rev() {
            let asker = EffectName::of(run, effect);
            if self.ledger.get(&key).is_some_and(|row| row.holder == asker) {
                self.change(&key, |gate| gate.ledger.restore(&key, before));
                self.call(&key, &asker);
            }
        }
    }

    /// Nobody else needs to know of an effect that it was requested; it is called from now on.
    pub(super) fn requested(&mut self, run: &RunId, effect: &Effect) {
        if let Some(key) = &effect.policy.idempotency_key {
            let (key, kind, digest) = (key.clone(), effect.kind.clone(), effect.def_digest);
            self.ask_for(EffectName::of(run, effect.id), Asking { key, kind, digest });
        }
    }

    fn ask_for(&mut self, asker: EffectName, asking: Asking) {
        self.change(&asking.key.clone(), |gate| {
            gate.by_key.entry(asking.key.clone()).or_default().insert(asker.clone());
            gate.asking.insert(asker, asking);
        });
    }

    fn ask_no_more(&mut self, asker: &EffectName) {
        let Some(asking) = self.asking.remove(asker) else { return };
        self.change(&asking.key, |gate| {
            if let Some(of_key) = gate.by_key.get_mut(&asking.key) {
                of_key.remove(asker);
                if of_key.is_empty() {
                    gate.by_key.remove(&asking.key);
                }
            }
        });
    }

    /// Changes who has a key or asks for it, and counts who is held by that.
    fn change<T>(&mut self, key: &str, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.count_held(key);
        let changed = change(self);
        self.held = self.held + self.count_held(key) - before;
        changed
    }

    /// How many are held by who has a key.
    fn count_held(&self, key: &str) -> usize {
        let Some(row) = self.ledger.get(key).filter(|row| row.state == State::Open) else {
            return 0;
        };
        let asking = self.by_key.get(key);
        asking.map_or(0, |asking| asking.len() - usize::from(asking.contains(&row.holder)))
    }

    /// How many requested effects are held, at most.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// A record of a run is durable, and folded already.
    pub(super) fn committed(&mut self, run: &RunId, state: &RunState, record: &Record) {
        self.slots.committed(run, state, record);
        let effect = record.event.effect_id().and_then(|id| state.effect(id));
        let Some(effect) = effect.filter(|effect| effect.policy.idempotency_key.is_some()) else {
            return;
        };
        let is_start =
            !matches!(record.event, Event::EffectRequested(_) | Event::EffectUncertain(_));
        self.heard(run, effect, is_start, effect.seq == record.seq);
    }

    /// Records about an effect are durable. `is_start` says that one of them gave it its key,
    /// `is_last` that nothing newer is folded into it.
    pub(super) fn heard(&mut self, run: &RunId, effect: &Effect, is_start: bool, is_last: bool) {
        let Some(key) = &effect.policy.idempotency_key else { return };
        if is_start && let Some(of_run) = self.unwritten.get_mut(run) {
            of_run.retain(|given| given.effect != effect.id);
            if of_run.is_empty() {
                self.unwritten.remove(run);
            }
        }
        if !is_last {
            return;
        }
        if effect.status == EffectStatus::Requested {
            self.requested(run, effect);
        } else {
            self.ask_no_more(&EffectName::of(run, effect.id));
        }
        let before = self.ledger.get(key).cloned();
        self.change(key, |gate| gate.ledger.note(run, effect));
        if self.ledger.get(key) != before.as_ref() {
            self.call(key, &EffectName::of(run, effect.id));
        }
    }

    /// Calls whoever else asks for a key that `but` had, unless somebody has it still.
    fn call(&mut self, key: &str, but: &EffectName) {
        let row = self.ledger.get(key);
        if row.is_some_and(|row| row.state == State::Open) {
            return;
        }
        let is_free = row.is_none_or(|row| row.state == State::Failed);
        let others = self.by_key.get(key).into_iter().flatten().filter(|asker| *asker != but);
        for asker in others {
            if let Some(asking) = self.asking.get(asker) {
                self.called.push_back(asking.call(asker, is_free));
            }
        }
    }

    /// An effect that may go on.
    pub(super) fn next_called(&mut self) -> Option<Called> {
        self.called.pop_front()
    }

    /// What keeps a requested effect from being started.
    pub(super) fn hold(&self, asker: &EffectName) -> Option<Hold> {
        self.asking.get(asker).and_then(|asking| self.hold_of(asker, asking))
    }

    /// The same for all effects of a run.
    pub(super) fn holds_of(&self, run: &RunId) -> BTreeMap<EffectId, Hold> {
        let of_run = self.asking.range(EffectName::of(run, EffectId::new(0))..);
        let of_run = of_run.take_while(|(asker, _)| asker.run == *run);
        of_run.filter_map(|(asker, its)| Some((asker.effect, self.hold_of(asker, its)?))).collect()
    }

    fn hold_of(&self, asker: &EffectName, asking: &Asking) -> Option<Hold> {
        match self.ledger.ask(&asking.key, asking.digest, asker) {
            Answer::Held(holder) => Some(key_hold(&asking.key, holder)),
            Answer::Free | Answer::Settled(_) => None,
        }
    }

    /// The outcome for an effect is about to be copied. False if it is already.
    pub(super) fn begin_copy(&mut self, run: &RunId, effect: EffectId) -> bool {
        self.copying.insert(EffectName::of(run, effect))
    }

    /// It was, or could not be.
    pub(super) fn end_copy(&mut self, run: &RunId, effect: EffectId) {
        self.copying.remove(&EffectName::of(run, effect));
    }

    /// How many keys are in a state, by the state's name.
    pub(super) const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        self.ledger.counts()
    }
}

impl Asking {
    fn call(&self, asker: &EffectName, is_free: bool) -> Called {
        Called { holder: asker.clone(), kind: self.kind.clone(), is_free }
    }
}

fn key_hold(key: &str, holder: EffectName) -> Hold {
    Hold::Key { key: key.to_owned(), holder }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::ManualClock;
    use std::sync::Arc;

    use crate::codecs::event::{EffectRequested, Policy};
    use crate::ground::digest::Sum;
    use crate::ground::id::{Epoch, Seq};

    fn run(name: &str) -> RunId {
        name.parse().unwrap()
    }

    /// A requested effect with the key `k`.
    fn effect() -> Effect {
        let asked = EffectRequested {
            effect_id: EffectId::new(1),
            key: "t#0".into(),
            name: "t".into(),
            scope: String::new(),
            cause: Seq(1),
            kind: "agent".into(),
            task_id: None,
            title: None,
            label: None,
            labels: Vec::new(),
            def: None,
            def_blob: None,
            def_digest: Digest::of(b"work"),
            args: None,
            args_blob: None,
            args_digest: Digest::of(b""),
            policy: Policy { idempotency_key: Some("k".into()), ..Policy::default() },
            cleanup: false,
        };
        let (seq, at, sum) = (Seq(2), Timestamp::default(), Sum::from_bytes([0; 16]));
        Effect::requested(&Record { seq, at, event: asked.clone().into(), sum }, &asked)
    }

    fn started() -> Effect {
        Effect { status: EffectStatus::Started, epoch: Epoch(1), seq: Seq(3), ..effect() }
    }

    fn facts(name: &str, effect: &Effect) -> (RunId, KeyFacts) {
        let facts = KeyFacts {
            key: "k".into(),
            effect_id: effect.id,
            kind: effect.kind.clone(),
            status: effect.status,
            digest: effect.def_digest,
            row: Row::of(&run(name), effect),
        };
        (run(name), facts)
    }

    fn gate(known: Vec<(RunId, KeyFacts)>) -> Gate {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let slots = Slots::new(BTreeMap::new(), &[], clock, Arc::default());
        Gate::new(Keys { known, kept_ms: u64::MAX }, slots)
    }

    fn admit(gate: &mut Gate, name: &str) -> bool {
        gate.admit(&run(name), &effect(), Timestamp::default()) == Admission::Free
    }

    fn called(gate: &mut Gate) -> Vec<String> {
        let next = std::iter::from_fn(|| gate.next_called());
        next.map(|called| called.holder.run.to_string()).collect()
    }

    #[test]
    fn c16_a_reservation_is_lost_with_the_start_that_it_was_for() {
        let mut before = gate(Vec::new());
        assert!(admit(&mut before, "a") && !admit(&mut before, "b"));
        // What a daemon that is killed now leaves says nothing of a start.
        let mut after = gate(vec![facts("a", &effect()), facts("b", &effect())]);
        assert!(admit(&mut after, "b") && !admit(&mut after, "a"));
        // And one that is killed after the start was durable leaves that.
        let mut after = gate(vec![facts("b", &effect()), facts("a", &started())]);
        assert!(!admit(&mut after, "b") && admit(&mut after, "a"));
        assert_eq!(after.held(), 1);
    }

    #[test]
    fn what_was_not_recorded_frees_the_key_and_calls_the_others() {
        for is_lost in [false, true] {
            let mut gate = gate(vec![facts("b", &effect())]);
            assert!(admit(&mut gate, "a") && gate.held() == 1);
            assert!(gate.hold(&EffectName::of(&run("b"), EffectId::new(1))).is_some());
            if is_lost {
                gate.lose(&run("a"));
            } else {
                gate.withdraw(&run("a"), EffectId::new(1));
            }
            assert_eq!((called(&mut gate), gate.held()), (vec!["b".to_owned()], 0));
            assert!(admit(&mut gate, "b"));
        }
    }

    #[test]
    fn what_is_durable_is_not_lost() {
        let mut gate = gate(Vec::new());
        assert!(admit(&mut gate, "a"));
        gate.heard(&run("a"), &effect(), false, false);
        gate.heard(&run("a"), &started(), true, true);
        gate.lose(&run("a"));
        assert!(!admit(&mut gate, "b") && gate.counts()["open"] == 1);
    }

    #[test]
    fn a_decision_counts_before_it_is_durable_and_not_when_it_is_lost() {
        let ended = crate::machines::effect::life::Ended {
            seq: Seq(4),
            at: Timestamp::default(),
            epoch: Epoch(1),
            post_digest: None,
            value_digest: None,
            is_unknown: true,
            is_decided: false,
            by: "operator:o".into(),
        };
        let unknown = Effect { status: EffectStatus::Cancelled, ended: Some(ended), ..started() };
        let mut gate = gate(vec![facts("a", &unknown), facts("b", &effect())]);
        assert_eq!(called(&mut gate), ["b"], "it does not wait for anybody");
        let now = Timestamp::default();
        let settled = |admission| matches!(admission, Admission::Ends(Settled::Unknown(_)));
        assert!(settled(gate.admit(&run("b"), &effect(), now)));
        let mut decided = effect();
        decided.failures.decided = 1;
        assert_eq!(gate.admit(&run("b"), &decided, now), Admission::Free);
        assert!(!admit(&mut gate, "c"), "b holds it");
        gate.lose(&run("b"));
        assert!(settled(gate.admit(&run("c"), &effect(), now)));
    }
}
