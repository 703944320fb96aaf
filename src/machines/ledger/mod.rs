//! The ledger: which effect holds an explicit idempotency key, over all runs of a root.
//!
//! May not know how rows are kept nor who asks. Invariant: a key has at most one holder; one whose
//! outcome is not known to be a failure lets nobody else execute what the key stands for.

pub mod settled;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::effect::life::{Effect, EffectStatus};
use crate::codecs::event::ReusedFrom;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectName, RunId, Seq};

/// Who records what follows from the ledger, as it stands in records.
pub const BY: &str = "ledger";

/// What is known of the work behind a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It may be going on, or its outcome is open.
    Open,
    /// It succeeded.
    Ok {
        /// The record of its outcome.
        seq: Seq,
        /// Digest of its value.
        value_digest: Option<Digest>,
    },
    /// It failed, or never began, and that is known.
    Failed,
    /// It ended, and nobody knows whether it was done.
    Unknown,
}

/// What one effect says about its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The effect.
    pub holder: EffectName,
    /// What identifies the work.
    pub digest: Digest,
    /// What is known of it.
    pub state: State,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Somebody decided about it: it stands in for whoever held the key in doubt.
    pub is_decided: bool,
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ok { .. } => "ok",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether an effect with a key may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Free,
    /// Not before the holder has ended.
    Held(EffectName),
    /// Never, or not without a person.
    Settled(Settled),
}

/// What becomes of an effect that its key keeps from ever being started by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was done already: this is its outcome.
    Reuse(ReusedFrom),
    /// The key stands for other work.
    Conflict {
        /// Who holds it.
        holder: EffectName,
        /// What that work is.
        digest: Digest,
    },
    /// Nobody knows whether it was done.
    Unknown(EffectName),
}

/// All keys with their holders.
#[derive(Debug)]
pub struct Ledger {
    rows: HashMap<String, Row>,
    ended: BTreeSet<(Timestamp, String)>,
    counts: BTreeMap<&'static str, u64>,
    keep_ms: u64,
}

impl Row {
    /// What a folded effect says about its key: nothing unless it was started, has an outcome that
    /// others may take over, or was decided about. One that took over another's outcome says
    /// nothing that is not known.
    #[must_use]
    pub fn of(run: &RunId, effect: &Effect) -> Option<Self> {
        effect.policy.idempotency_key.as_ref()?;
        let ended = effect.ended.as_ref();
        if ended.is_some_and(|ended| ended.by == BY) {
            return None;
        }
        let is_decided = ended.is_some_and(|e| e.is_decided) || effect.failures.decided > 0;
        let was_started = effect.epoch.0 > 0;
        let state = match (effect.status, ended) {
            (EffectStatus::Ok, Some(ended)) => {
                State::Ok { seq: ended.seq, value_digest: ended.value_digest }
            }
            (_, Some(ended)) if ended.is_unknown => State::Unknown,
            (_, Some(_)) => State::Failed,
            _ => State::Open,
        };
        let counts = was_started || is_decided || matches!(state, State::Ok { .. });
        counts.then(|| Self {
            holder: EffectName::of(run, effect.id),
            digest: effect.def_digest,
            state,
            ended_at: ended.map(|e| e.at),
            is_decided,
        })
    }

    /// Whether it takes the key from `present`.
    fn displaces(&self, present: &Self) -> bool {
        self.holder == present.holder
            || match (&present.state, &self.state) {
                (State::Ok { .. }, _) => false,
                // That it was done is known, whoever did it and whatever else is going on.
                (State::Failed, _) | (_, State::Ok { .. }) => true,
                (State::Unknown, _) => self.is_decided,
                (State::Open, _) => false,
            }
    }
}

impl Ledger {
    /// An empty one, which keeps a key for `keep_ms` after the end of its holder.
    #[must_use]
    pub fn new(keep_ms: u64) -> Self {
        let counts = ["open", "ok", "failed", "unknown"].map(|name| (name, 0)).into();
        Self { rows: HashMap::new(), ended: BTreeSet::new(), counts, keep_ms }
    }

    /// Takes in what a folded effect says, after each record about it.
    pub fn note(&mut self, run: &RunId, effect: &Effect) {
        let key = effect.policy.idempotency_key.as_ref();
        if let (Some(key), Some(row)) = (key, Row::of(run, effect)) {
            self.put(key, row);
        }
    }

    /// Takes in a row, unless another effect holds the key.
    pub fn put(&mut self, key: &str, row: Row) {
        if self.rows.get(key).is_none_or(|present| row.displaces(present)) {
            self.restore(key, Some(row));
        }
    }

    /// Whether `asker` may be started to do the work `digest` under `key`.
    #[must_use]
    pub fn ask(&self, key: &str, digest: Digest, asker: &EffectName) -> Answer {
        let Some(row) = self.rows.get(key).filter(|row| row.holder != *asker) else {
            return Answer::Free;
        };
        if row.state == State::Failed {
            return Answer::Free;
        }
        let holder = row.holder.clone();
        if row.digest != digest {
            return Answer::Settled(Settled::Conflict { holder, digest: row.digest });
        }
        match &row.state {
            State::Ok { seq, value_digest } => Answer::Settled(Settled::Reuse(ReusedFrom {
                run_id: holder.run,
                effect_id: holder.effect,
                seq: *seq,
                value_digest: *value_digest,
            })),
            State::Unknown => Answer::Settled(Settled::Unknown(holder)),
            State::Open | State::Failed => Answer::Held(holder),
        }
    }

    /// Asks, and takes the key if it is free: others are held from now on, although the start is
    /// not durable yet. Lost with the process, as is the start.
    pub fn reserve(&mut self, key: &str, digest: Digest, asker: &EffectName) -> Answer {
        let answer = self.ask(key, digest, asker);
        if answer == Answer::Free {
            let (holder, state) = (asker.clone(), State::Open);
            let row = Row { holder, digest, state, ended_at: None, is_decided: false };
            self.put(key, row);
        }
        answer
    }

    /// Gives a key the row that it had, or none.
    pub fn restore(&mut self, key: &str, row: Option<Row>) {
        if let Some(before) = self.rows.remove(key) {
            *self.counts.entry(before.state.name()).or_default() -= 1;
            if let Some(at) = before.ended_at {
                self.ended.remove(&(at, key.to_owned()));
            }
        }
        if let Some(row) = row {
            *self.counts.entry(row.state.name()).or_default() += 1;
            self.ended.extend(row.ended_at.map(|at| (at, key.to_owned())));
            self.rows.insert(key.to_owned(), row);
        }
    }

    /// Forgets keys whose effects ended long ago.
    pub fn forget(&mut self, now: Timestamp) {
        while let Some((ended, key)) = self.ended.first()
            && ended.later_by(self.keep_ms) <= now
        {
            let key = key.clone();
            self.restore(&key, None);
        }
    }

    /// The row of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    /// How many keys are in a state, by the state's name.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::id::EffectId;

    const KEEP_MS: u64 = 86_400_000;

    fn holder(n: u32) -> EffectName {
        EffectName { run: format!("r{n}").parse().unwrap(), effect: EffectId::new(1) }
    }

    fn work(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn row(n: u32, state: State) -> Row {
        let ended_at = (state != State::Open).then(|| Timestamp::from_millis(1_000));
        Row { holder: holder(n), digest: work("a"), state, ended_at, is_decided: false }
    }

    fn done() -> State {
        State::Ok { seq: Seq(7), value_digest: Some(work("value")) }
    }

    fn with(row: Row) -> Ledger {
        let mut ledger = Ledger::new(KEEP_MS);
        ledger.put("k", row);
        ledger
    }

    #[test]
    fn what_an_asker_is_told_follows_from_the_holder() {
        let reused = ReusedFrom {
            run_id: holder(1).run,
            effect_id: holder(1).effect,
            seq: Seq(7),
            value_digest: Some(work("value")),
        };
        let other = Answer::Settled(Settled::Conflict { holder: holder(1), digest: work("a") });
        let unknown = Answer::Settled(Settled::Unknown(holder(1)));
        let reuse = Answer::Settled(Settled::Reuse(reused));
        for (state, same_work, other_work) in [
            (State::Open, Answer::Held(holder(1)), other.clone()),
            (done(), reuse, other.clone()),
            (State::Unknown, unknown, other),
            (State::Failed, Answer::Free, Answer::Free),
        ] {
            let ledger = with(row(1, state.clone()));
            assert_eq!(ledger.ask("k", work("a"), &holder(2)), same_work, "{state:?}");
            assert_eq!(ledger.ask("k", work("b"), &holder(2)), other_work, "{state:?}");
            assert_eq!(ledger.ask("k", work("a"), &holder(1)), Answer::Free, "its own retry");
            assert_eq!(ledger.ask("l", work("a"), &holder(2)), Answer::Free, "another key");
        }
    }

    #[test]
    fn exactly_one_of_many_askers_gets_a_free_key() {
        let mut ledger = Ledger::new(KEEP_MS);
        assert_eq!(ledger.reserve("k", work("a"), &holder(1)), Answer::Free);
        assert_eq!(ledger.reserve("k", work("a"), &holder(2)), Answer::Held(holder(1)));
        assert_eq!(ledger.reserve("k", work("a"), &holder(1)), Answer::Free);
        ledger.put("k", row(1, State::Failed));
        assert_eq!(ledger.reserve("k", work("b"), &holder(2)), Answer::Free);
        assert_eq!(
            ledger.get("k").map(|row| (&row.holder, row.digest)),
            Some((&holder(2), work("b")))
        );
    }

    #[test]
    fn who_holds_a_key_loses_it_only_by_a_known_outcome_or_a_decision() {
        let decided = |state: State| Row { is_decided: true, ..row(2, state) };
        for (present, next, taken) in [
            (State::Open, row(2, State::Open), false),
            (State::Open, row(2, done()), true),
            (State::Open, decided(State::Open), false),
            (done(), row(2, done()), false),
            (done(), decided(State::Failed), false),
            (State::Unknown, row(2, State::Open), false),
            (State::Unknown, row(2, done()), true),
            (State::Unknown, decided(State::Open), true),
            (State::Unknown, decided(done()), true),
            (State::Unknown, decided(State::Failed), true),
            (State::Failed, row(2, State::Open), true),
            (State::Failed, row(2, State::Unknown), true),
        ] {
            let mut ledger = with(row(1, present.clone()));
            ledger.put("k", next.clone());
            let by = ledger.get("k").unwrap().holder == holder(2);
            assert_eq!(by, taken, "{present:?} then {next:?}");
        }
    }

    #[test]
    fn keys_are_forgotten_long_after_the_end_and_never_before_it() {
        let mut ledger = with(row(1, done()));
        ledger.put("open", row(2, State::Open));
        ledger.put("twice", row(3, State::Failed));
        ledger.put("twice", row(3, State::Open));
        let end = Timestamp::from_millis(1_000).later_by(KEEP_MS);
        ledger.forget(end.plus_millis(-1));
        assert_eq!(
            ledger.counts(),
            &BTreeMap::from([("failed", 0), ("ok", 1), ("open", 2), ("unknown", 0)])
        );
        ledger.forget(end);
        assert_eq!(
            ledger.counts(),
            &BTreeMap::from([("failed", 0), ("ok", 0), ("open", 2), ("unknown", 0)])
        );
        assert!(ledger.get("k").is_none() && ledger.get("open").is_some());
        assert!(ledger.get("twice").is_some(), "it is open again");
    }
}
