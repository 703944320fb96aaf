//! Claims that wait for something to do, and who gets what.
//!
//! May not ask the index nor start anything. Invariant: an effect is promised to one claim at a
//! time, and a claim that is answered is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, RunId};
use crate::machines::effect::claim::Claim;
use crate::machines::ready::{Ready, Rounds};
use crate::machines::replay::facts::{EffectFacts, ReadyFacts};
use crate::services::runs::Error;
use crate::services::runs::give::Given;
use crate::shells::store::{Candidates, ReadyFilter};

use super::claims::Reply;

/// Sorts of claims that are looked after in one round: the index answers others in between.
const SORTS_AT_ONCE: usize = 64;
/// Effects that may be hurried at a time; more wait for their time.
const HURRIED_MAX: usize = 1_000;

/// What a worker wants to do.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub worker: String,
    /// Effects of these kinds.
    pub kinds: Vec<String>,
    /// Of these, tasks of agents with one of these names; none: of all.
    pub agents: Vec<String>,
    /// What it offers, for effects that require something.
    pub offers: Vec<String>,
    /// Effects of these runs; none: of all.
    pub runs: Vec<RunId>,
    /// How many at most.
    pub max: usize,
    /// How long its silence is taken for life.
    pub ttl_ms: u64,
    /// Its name for this claim: asked again under it, the same effects are given.
    pub claim_id: Option<String>,
    /// Who asks, as it will stand in records.
    pub by: String,
}

impl Wanted {
    /// What is said to each run.
    pub(super) fn claim(&self) -> Claim {
        Claim {
            worker: self.worker.clone(),
            ttl_ms: self.ttl_ms,
            claim_id: self.claim_id.clone(),
            target: None,
            slots: Vec::new(),
        }
    }

    /// What the index is asked for it.
    fn filters(&self) -> Vec<ReadyFilter> {
        let of = |kind: &String, run: Option<&RunId>| ReadyFilter {
            kind: kind.clone(),
            run: run.cloned(),
            offers: self.offers.clone(),
            agents: if kind == "agent" { self.agents.clone() } else { Vec::new() },
        };
        let all = self.kinds.iter().flat_map(|kind| {
            let runs = self.runs.iter().map(Some).chain(self.runs.is_empty().then_some(None));
            runs.map(move |run| of(kind, run))
        });
        let all: HashSet<ReadyFilter> = all.collect();
        all.into_iter().collect()
    }
}

/// A claim that is not answered yet.
pub(super) struct Waiting {
    pub(super) wanted: Arc<Wanted>,
    /// What it could get; nothing if it wants certain effects only.
    filters: Vec<ReadyFilter>,
    /// Of these, what the index was not asked yet.
    unasked: HashSet<ReadyFilter>,
    /// It waits no longer than until it was looked for everything that it could get.
    leaves: bool,
    pub(super) replies: Vec<Reply>,
    pub(super) given: Vec<Given>,
    /// What it was promised, in order.
    pub(super) order: Vec<EffectName>,
    /// Effects that are being started for it.
    pub(super) under_way: usize,
    /// Why it gets nothing.
    pub(super) refusal: Option<Error>,
    /// It waits no longer than for what is under way.
    pub(super) is_last_call: bool,
    /// All it may get was started under its name before.
    pub(super) is_repeat: bool,
}

impl Waiting {
    pub(super) fn new(wanted: Arc<Wanted>, reply: Reply) -> Self {
        Self {
            wanted,
            filters: Vec::new(),
            unasked: HashSet::new(),
            leaves: false,
            replies: vec![reply],
            given: Vec::new(),
            order: Vec::new(),
            under_way: 0,
            refusal: None,
            is_last_call: false,
            is_repeat: false,
        }
    }

    /// Whether nothing more is looked for.
    fn is_over(&self) -> bool {
        self.is_last_call || (self.leaves && self.unasked.is_empty())
    }

    fn takes_more(&self) -> bool {
        !(self.is_last_call || self.replies.iter().all(Reply::is_closed))
            && self.refusal.is_none()
            && self.given.len() + self.under_way < self.wanted.max
    }

    /// Whether it can be answered.
    pub(super) fn is_done(&self) -> bool {
        self.under_way == 0 && (!self.given.is_empty() || self.is_over() || self.refusal.is_some())
    }
}

/// Claims that want the same.
#[derive(Default)]
struct Sort {
    claims: BTreeSet<u64>,
    /// There may be something for them.
    is_hungry: bool,
    /// The index has more than it said.
    has_more: bool,
}

/// All claims that wait.
#[derive(Default)]
pub(super) struct Book {
    claims: BTreeMap<u64, Waiting>,
    sorts: HashMap<ReadyFilter, Sort>,
    /// Effects that are being started for whoever waits for something, and for whom.
    promised: HashMap<EffectName, u64>,
    /// Effects that the index takes for ready and that could not be started, for how long.
    shunned: HashMap<EffectName, Timestamp>,
    rounds: Rounds,
    /// Effects that an operator does not let wait for their time.
    hurried: HashMap<EffectName, EffectFacts>,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Whether nothing is being started.
    pub(super) fn is_quiet(&self) -> bool {
        self.promised.is_empty() && self.claims.values().all(|waiting| waiting.under_way == 0)
    }

    /// Keeps a claim that wants certain effects, or is not known yet to want others.
    pub(super) fn enter(&mut self, id: u64, waiting: Waiting) {
        self.claims.insert(id, waiting);
    }

    /// Lets a claim wait for whatever fits it.
    pub(super) fn open(&mut self, id: u64) {
        let Some(waiting) = self.claims.get_mut(&id) else { return };
        waiting.filters = waiting.wanted.filters();
        waiting.unasked = waiting.filters.iter().cloned().collect();
        for filter in &waiting.filters {
            let sort = self.sorts.entry(filter.clone()).or_default();
            sort.claims.insert(id);
            sort.is_hungry = true;
        }
    }

    /// A claim waits no longer. One that nobody waits for any more gets nothing.
    pub(super) fn withdraw(&mut self, id: u64) {
        let Some(waiting) = self.claims.get_mut(&id) else { return };
        waiting.leaves = true;
        waiting.is_last_call |= waiting.replies.iter().all(Reply::is_closed);
    }

    /// Claims that wait no longer, and were looked for all they could get; all that wait no longer
    /// if the index does not answer.
    pub(super) fn leaving(&mut self, is_answered: bool) -> Vec<u64> {
        let leaving = self.claims.iter_mut().filter(|(_, waiting)| waiting.leaves);
        let over = leaving.filter_map(|(id, waiting)| {
            waiting.is_last_call |= !is_answered;
            waiting.is_over().then_some(*id)
        });
        over.collect()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Waiting> {
        self.claims.get_mut(&id)
    }

    /// The claim of this name by this worker.
    pub(super) fn named(&mut self, worker: &str, claim: &str) -> Option<u64> {
        let is_it =
            |w: &Waiting| w.wanted.worker == worker && w.wanted.claim_id.as_deref() == Some(claim);
        self.claims.iter().find(|(_, waiting)| is_it(waiting)).map(|(id, _)| *id)
    }

    /// Forgets a claim.
    pub(super) fn leave(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.claims.remove(&id)?;
        for filter in &waiting.filters {
            if let Some(sort) = self.sorts.get_mut(filter) {
                sort.claims.remove(&id);
                if sort.claims.is_empty() {
                    self.sorts.remove(filter);
                }
            }
        }
        Some(waiting)
    }

    /// Takes out all claims for which nothing is being started; the others wait for that only.
    pub(super) fn leave_idle(&mut self) -> Vec<Waiting> {
        self.claims.values_mut().for_each(|waiting| waiting.is_last_call = true);
        let idle = self.claims.iter().filter(|(_, waiting)| waiting.under_way == 0);
        let idle: Vec<u64> = idle.map(|(id, _)| *id).collect();
        idle.into_iter().filter_map(|id| self.leave(id)).collect()
    }

    /// An effect of this kind could be started.
    pub(super) fn ready(&mut self, kind: &str, name: &EffectName) {
        self.shunned.remove(name);
        for (filter, sort) in &mut self.sorts {
            sort.is_hungry |= filter.kind == kind;
        }
    }

    /// An operator wants an effect to be started although its time has not come.
    pub(super) fn hurry(&mut self, name: EffectName, facts: EffectFacts) {
        if self.hurried.len() < HURRIED_MAX {
            self.ready(&facts.kind, &name);
            self.hurried.insert(name, facts);
        }
    }

    /// The effects of a run that an operator does not let wait for their time.
    pub(super) fn hurried_of(&self, run: &RunId) -> impl Iterator<Item = EffectId> {
        let of_run = self.hurried.keys().filter(move |name| name.run == *run);
        of_run.map(|name| name.effect)
    }

    /// Limits have room that had none.
    pub(super) fn rouse(&mut self) {
        for sort in self.sorts.values_mut() {
            sort.is_hungry = true;
        }
    }

    /// Time has passed: anything may be ready that was not.
    pub(super) fn look_again(&mut self, now: Timestamp) {
        self.shunned.retain(|_, until| *until > now);
        self.rouse();
    }

    /// What is to be asked for claims that there may be something for.
    pub(super) fn questions(&mut self) -> Vec<ReadyFilter> {
        let hungry = self.sorts.iter_mut().filter(|(_, sort)| sort.is_hungry);
        let asked = hungry.take(SORTS_AT_ONCE).map(|(filter, sort)| {
            sort.is_hungry = false;
            filter.clone()
        });
        asked.collect()
    }

    /// The kinds that are waited for.
    pub(super) fn kinds(&self) -> BTreeSet<String> {
        self.sorts.keys().map(|filter| filter.kind.clone()).collect()
    }

    /// Deals out what could be started: to whoever waits longest, what comes first.
    pub(super) fn deal(
        &mut self,
        found: HashMap<ReadyFilter, Candidates>,
        is_held: impl Fn(&EffectName) -> bool,
        mut reserve: impl FnMut(&Ready) -> bool,
        now: Timestamp,
    ) -> Vec<(u64, EffectName)> {
        let mut waiting = BTreeSet::new();
        let mut pools = HashMap::new();
        for (filter, Candidates { mut ready, has_more }) in found {
            let Some(sort) = self.sorts.get_mut(&filter) else { continue };
            sort.has_more = has_more;
            let hurried = self.hurried.iter().filter_map(|(name, facts)| {
                let its = facts.ready.as_ref()?;
                let is_new = !ready.iter().any(|r| name_of(r) == *name);
                let is_wanted = is_new && filter.fits(&name.run, &facts.kind, its);
                let its = ReadyFacts { at: its.at.min(now), ..its.clone() };
                is_wanted.then(|| facts.as_ready(&name.run, &its))
            });
            let hurried: Vec<Ready> = hurried.collect();
            ready.extend(hurried);
            waiting.extend(sort.claims.iter().copied());
            for id in &sort.claims {
                if let Some(claim) = self.claims.get_mut(id).filter(|c| !c.unasked.is_empty()) {
                    claim.unasked.remove(&filter);
                }
            }
            ready.retain(|ready| {
                let name = name_of(ready);
                self.shunned.get(&name).is_none_or(|until| *until <= now) && !is_held(&name)
            });
            pools.insert(filter, ready);
        }
        let mut dealt = Vec::new();
        for id in waiting {
            if pools.values().all(Vec::is_empty) {
                break;
            }
            while self.claims.get(&id).is_some_and(Waiting::takes_more)
                && let Some(ready) = self.first_for(id, &mut pools, now)
            {
                let name = name_of(&ready);
                if !reserve(&ready) {
                    // Its limit is used up: those behind it may want others.
                    continue;
                }
                self.promise(id, name.clone());
                self.rounds.serve(&name.run);
                dealt.push((id, name));
            }
        }
        dealt
    }

    /// Takes out what comes first among what fits a claim.
    fn first_for(
        &self,
        id: u64,
        found: &mut HashMap<ReadyFilter, Vec<Ready>>,
        now: Timestamp,
    ) -> Option<Ready> {
        let mut best: Option<(&ReadyFilter, usize)> = None;
        for filter in &self.claims.get(&id)?.filters {
            let Some(pool) = found.get_mut(filter) else { continue };
            pool.retain(|ready| !self.promised.contains_key(&name_of(ready)));
            let first = (0..pool.len()).min_by(|a, b| self.rounds.order(&pool[*a], &pool[*b], now));
            let Some(at) = first else { continue };
            let beats = |(other, place): (&ReadyFilter, usize)| {
                self.rounds.order(&found[filter][at], &found[other][place], now).is_lt()
            };
            if best.is_none_or(beats) {
                best = Some((filter, at));
            }
        }
        let (filter, at) = best?;
        found.get_mut(filter).map(|pool| pool.swap_remove(at))
    }

    /// Nobody else is given an effect while it is being started for a claim.
    fn promise(&mut self, id: u64, name: EffectName) {
        if let Some(waiting) = self.claims.get_mut(&id) {
            waiting.under_way += 1;
            waiting.order.push(name.clone());
            self.promised.insert(name, id);
        }
    }

    /// That came to an end.
    pub(super) fn settle(&mut self, id: u64, name: &EffectName) -> Option<&mut Waiting> {
        if self.promised.get(name) == Some(&id) {
            self.promised.remove(name);
        }
        self.hurried.remove(name);
        for sort in self.sorts.values_mut() {
            sort.is_hungry |= sort.has_more;
        }
        let waiting = self.claims.get_mut(&id)?;
        waiting.under_way -= 1;
        Some(waiting)
    }

    /// An effect is not given to anybody until then, unless the index hears of it.
    pub(super) fn shun(&mut self, name: EffectName, until: Timestamp) {
        self.shunned.insert(name, until);
    }

    /// A claim did not get what it was promised: there may be something else.
    pub(super) fn disappoint(&mut self, id: u64) {
        let Some(waiting) = self.claims.get(&id) else { return };
        for filter in &waiting.filters {
            if let Some(sort) = self.sorts.get_mut(filter) {
                sort.is_hungry = true;
            }
        }
    }
}

fn name_of(ready: &Ready) -> EffectName {
    EffectName::of(&ready.run_id, ready.effect_id)
}
