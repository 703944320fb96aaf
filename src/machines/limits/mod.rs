//! Limits: how many effects of a kind or under a key may be at work, and how many may start in a
//! span of time.
//!
//! May not know who executes, nor where limits are configured. Invariant: a start takes all its
//! slots and tokens or none; what is at work is counted whether or not a limit is set.

mod queue;
mod rate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::ground::limits::{LIMIT_COUNT_MAX, LIMIT_NAME_BYTES_MAX};

use queue::Queue;
pub use rate::Rate;
use rate::Tokens;

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All effects of a kind.
    Kind,
    /// All effects that name a key.
    Key,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kind, Self::Key];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Key => "key",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// What is counted together: a kind, a key, or, where a limit is set, the pattern of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// What it is about.
    pub scope: Scope,
    /// The kind, the key, or the pattern.
    pub name: String,
}

impl Bucket {
    /// The place of a limit.
    ///
    /// # Errors
    /// A sentence that says what a name may be.
    pub fn limited(scope: Scope, name: &str) -> Result<Self, String> {
        let before_star = match scope {
            Scope::Key => name.strip_suffix(":*").unwrap_or(name),
            Scope::Kind => name,
        };
        let is_name = !before_star.is_empty()
            && name.len() <= LIMIT_NAME_BYTES_MAX
            && !before_star.contains('*')
            && !name.chars().any(char::is_control);
        if is_name {
            return Ok(Self { scope, name: name.to_owned() });
        }
        let what = match scope {
            Scope::Kind => "a kind",
            Scope::Key => "a key, or NAME:* for every key that begins with NAME:",
        };
        Err(format!("{name:?} is no limit's name: it is {what}, of 1 to {LIMIT_NAME_BYTES_MAX} B"))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope.name(), self.name)
    }
}

/// A limit. What is absent does not limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// How many may be at work; 0: nothing starts.
    pub concurrency: Option<u64>,
    /// How many may start in a span of time.
    pub rate: Option<Rate>,
    /// How many may start at once after a pause; unless given, as many as the rate names.
    pub burst: Option<u64>,
    /// Whether an effect keeps its slot while nobody knows whether it was executed; unless given,
    /// under keys and not under kinds.
    pub hold_uncertain: Option<bool>,
}

impl Limit {
    /// Whether its numbers make sense.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn check(&self) -> Result<(), String> {
        if self.concurrency.is_some_and(|n| n > LIMIT_COUNT_MAX) {
            return Err(format!("concurrency is a whole number from 0 to {LIMIT_COUNT_MAX}"));
        }
        if self.burst.is_some_and(|n| !(1..=LIMIT_COUNT_MAX).contains(&n)) {
            return Err(format!("burst is a whole number from 1 to {LIMIT_COUNT_MAX}"));
        }
        Ok(())
    }

    /// This limit, and where it says nothing, the other.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            concurrency: self.concurrency.or(other.concurrency),
            rate: self.rate.or(other.rate),
            burst: self.burst.or(other.burst),
            hold_uncertain: self.hold_uncertain.or(other.hold_uncertain),
        }
    }

    fn burst(&self, rate: Rate) -> u64 {
        self.burst.unwrap_or(rate.count())
    }
}

/// When and how an effect wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The number of its last start.
    pub after: Epoch,
    /// Since when it could.
    pub since: Timestamp,
    /// The same on the clock that never jumps.
    pub since_ms: u64,
    /// 0 to 1000; higher first.
    pub priority: u32,
}

/// What the start of an effect takes a place under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Demand {
    kind: String,
    keys: BTreeSet<String>,
}

impl Demand {
    /// Of an effect of this kind that names these keys.
    #[must_use]
    pub fn new(kind: &str, keys: &[String]) -> Self {
        Self { kind: kind.to_owned(), keys: keys.iter().cloned().collect() }
    }

    /// Everything that it is counted under.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let kind = Bucket { scope: Scope::Kind, name: self.kind.clone() };
        let key = |name: &String| Bucket { scope: Scope::Key, name: name.clone() };
        std::iter::once(kind).chain(self.keys.iter().map(key))
    }
}

/// What keeps an effect from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The limit, by the name under which it is set.
    pub limit: Bucket,
    /// The kind or key that is full.
    pub bucket: Bucket,
    /// When time alone will let it go.
    pub until_ms: Option<u64>,
    /// Of those who have slots, who has one for longest.
    pub holder: Option<EffectName>,
}

/// How much of a limit is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The limit's place.
    pub limit: Bucket,
    /// The limit.
    pub set: Limit,
    /// How many are at work.
    pub in_use: usize,
    /// Kinds and keys under it that start nothing at the moment.
    pub full: Vec<Held>,
    /// Some who have slots, longest first.
    pub holders: Vec<EffectName>,
}

/// A limit, and since when its rate counts.
#[derive(Debug, Clone, Copy)]
struct Set {
    limit: Limit,
    since_ms: u64,
}

/// What is at work under a kind or key.
#[derive(Debug, Default)]
struct Used {
    /// By the order in which they began.
    holders: BTreeMap<u64, EffectName>,
    /// Absent: nothing was started since the rate counts.
    tokens: Option<Tokens>,
    /// Until when nothing could start.
    full_until_ms: u64,
}

/// The slots of an effect.
#[derive(Debug)]
struct Taken {
    number: u64,
    /// The start before the one that they are for.
    after: Epoch,
    demand: Arc<Demand>,
    buckets: Vec<Bucket>,
    /// What sort of limit kept it from starting before, and since when.
    waited: Option<(Scope, Timestamp)>,
    /// Nobody knows what became of the start.
    is_unsure: bool,
}

/// Everything about limits.
#[derive(Debug, Default)]
pub struct Limits {
    set: BTreeMap<Bucket, Set>,
    used: HashMap<Bucket, Used>,
    taken: HashMap<EffectName, Taken>,
    queue: Queue,
    /// Who waits here, or has slots for a start that is not made yet.
    unstarted: BTreeSet<EffectName>,
    /// What may have room that had none.
    freed: BTreeSet<Bucket>,
    /// What time will give room.
    alarms: BTreeSet<(u64, Bucket)>,
    count: u64,
    /// How many buckets there may be before idle ones are looked for.
    sweep_at: usize,
}

/// Buckets among which idle ones are not looked for.
const SWEEP_MIN: usize = 1_024;

impl Limits {
    /// Sets a limit; one that says nothing is none.
    pub fn set(&mut self, place: Bucket, limit: Limit, now_ms: u64) {
        let before = self.set.get(&place).copied();
        let since_ms = match before {
            Some(set) if set.limit.rate.is_some() => set.since_ms,
            _ => now_ms,
        };
        if limit == Limit::default() {
            self.set.remove(&place);
        } else {
            self.set.insert(place.clone(), Set { limit, since_ms });
        }
        let all = self.used.keys().chain(self.queue.buckets());
        let touched: Vec<Bucket> = all.filter(|bucket| covers(&place, bucket)).cloned().collect();
        for bucket in touched {
            // What was taken from another rate long ago says nothing about this one.
            if before.is_none_or(|set| set.limit.rate.is_none())
                && let Some(used) = self.used.get_mut(&bucket)
            {
                used.tokens = None;
            }
            self.freed.insert(bucket);
        }
        // Somebody elsewhere may wait for a key that nothing is at work under.
        self.freed.insert(place);
        self.look_again_at_unsure(now_ms);
    }

    /// Whether an effect that wants this could start.
    ///
    /// # Errors
    /// What keeps it: a limit that only others can free, or the rate that lasts longest.
    pub fn ask(&self, demand: &Demand, now_ms: u64) -> Result<(), Held> {
        let mut worst: Option<Held> = None;
        for bucket in demand.buckets() {
            let Some(held) = self.held(&bucket, now_ms) else { continue };
            let lasts = |held: &Held| held.until_ms.unwrap_or(u64::MAX);
            if worst.as_ref().is_none_or(|worst| lasts(worst) < lasts(&held)) {
                worst = Some(held);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Takes all slots and tokens of a start, or none.
    ///
    /// # Errors
    /// What keeps it; nothing was taken.
    pub fn take(
        &mut self,
        holder: &EffectName,
        demand: &Arc<Demand>,
        want: Want,
        now_ms: u64,
    ) -> Result<(), Held> {
        let was_full = |bucket: &Bucket| self.full_until_ms(bucket) > want.since_ms;
        let waited = demand.buckets().find(was_full).map(|bucket| bucket.scope);
        self.take_after(holder, demand, (want, waited), now_ms)
    }

    fn take_after(
        &mut self,
        holder: &EffectName,
        demand: &Arc<Demand>,
        (want, waited): (Want, Option<Scope>),
        now_ms: u64,
    ) -> Result<(), Held> {
        if self.has_taken(holder, want.after, now_ms) {
            return Ok(());
        }
        self.ask(demand, now_ms)?;
        self.queue.leave(holder);
        self.queue.serve(&holder.run);
        for bucket in demand.buckets() {
            let Some((_, set)) = self.limit_of(&bucket) else { continue };
            let Some(rate) = set.limit.rate else { continue };
            let used = self.used.entry(bucket).or_default();
            let tokens = used.tokens.get_or_insert(Tokens::empty(set.since_ms));
            tokens.take(rate, set.limit.burst(rate), now_ms);
            used.full_until_ms = used.full_until_ms.max(tokens.next_ms(rate));
        }
        let waited = waited.map(|scope| (scope, want.since));
        self.count_in(holder, demand, demand.buckets().collect(), (want.after, waited));
        self.unstarted.insert(holder.clone());
        Ok(())
    }

    /// Whether an effect has the slots for its next start. Those of the last one, whose end is not
    /// durable yet, are let go.
    fn has_taken(&mut self, holder: &EffectName, after: Epoch, now_ms: u64) -> bool {
        match self.taken.get(holder) {
            Some(taken) if taken.after == after => return true,
            Some(_) => self.release(holder, now_ms),
            None => {}
        }
        false
    }

    /// Counts the start after `after`, which was made before anybody counted.
    pub fn count(&mut self, holder: &EffectName, demand: &Arc<Demand>, after: Epoch) {
        self.count_in(holder, demand, demand.buckets().collect(), (after, None));
    }

    /// The same for a start of which nobody knows the outcome.
    pub fn count_uncertain(&mut self, holder: &EffectName, demand: &Arc<Demand>, after: Epoch) {
        let kept = demand.buckets().filter(|bucket| self.keeps_uncertain(bucket)).collect();
        self.count_in(holder, demand, kept, (after, None));
        if let Some(taken) = self.taken.get_mut(holder) {
            taken.is_unsure = true;
        }
    }

    fn count_in(
        &mut self,
        holder: &EffectName,
        demand: &Arc<Demand>,
        buckets: Vec<Bucket>,
        (after, waited): (Epoch, Option<(Scope, Timestamp)>),
    ) {
        if self.taken.contains_key(holder) {
            return;
        }
        self.count += 1;
        let number = self.count;
        for bucket in &buckets {
            let used = self.used.entry(bucket.clone()).or_default();
            used.holders.insert(number, holder.clone());
        }
        let demand = Arc::clone(demand);
        let taken = Taken { number, after, demand, buckets, waited, is_unsure: false };
        self.taken.insert(holder.clone(), taken);
    }

    /// The start for which an effect has slots was made. Gives what sort of limit kept it from
    /// starting before, and since when.
    pub fn began(&mut self, holder: &EffectName) -> Option<(Scope, Timestamp)> {
        let is_news = self.unstarted.remove(holder);
        self.taken.get(holder)?.waited.filter(|_| is_news)
    }

    /// Whether an effect has slots.
    #[must_use]
    pub fn has_slots(&self, holder: &EffectName) -> bool {
        self.taken.contains_key(holder)
    }

    /// Whether an effect waits here.
    #[must_use]
    pub fn waits(&self, holder: &EffectName) -> bool {
        self.unstarted.contains(holder) && !self.taken.contains_key(holder)
    }

    /// The effects of a run that wait here, or have slots for a start that is not made yet.
    #[must_use]
    pub fn unstarted_of(&self, run: &RunId) -> Vec<EffectId> {
        let first = EffectName { run: run.clone(), effect: EffectId::new(0) };
        let of_run = self.unstarted.range(first..).take_while(|holder| holder.run == *run);
        of_run.map(|holder| holder.effect).collect()
    }

    /// The start of this number is over.
    pub fn settle(&mut self, holder: &EffectName, epoch: Epoch, now_ms: u64) {
        if self.taken.get(holder).is_some_and(|taken| taken.after < epoch) {
            self.release(holder, now_ms);
        }
    }

    /// An effect needs no slot any more.
    pub fn release(&mut self, holder: &EffectName, now_ms: u64) {
        self.queue.leave(holder);
        self.unstarted.remove(holder);
        if let Some(taken) = self.taken.remove(holder) {
            for bucket in &taken.buckets {
                self.free(bucket, taken.number, now_ms);
            }
        }
    }

    /// An effect waits here no longer; slots for a start that was not made are free, and its tokens
    /// are there again.
    pub fn give_back(&mut self, holder: &EffectName, now_ms: u64) {
        if !self.unstarted.contains(holder) {
            return;
        }
        if let Some(taken) = self.taken.get(holder) {
            for bucket in taken.demand.buckets() {
                let rate = self.limit_of(&bucket).and_then(|(_, set)| set.limit.rate);
                let tokens = self.used.get_mut(&bucket).and_then(|used| used.tokens.as_mut());
                if let (Some(rate), Some(tokens)) = (rate, tokens) {
                    tokens.give_back(rate);
                }
                self.freed.insert(bucket);
            }
        }
        self.release(holder, now_ms);
    }

    /// Nobody knows what became of the start of this number: some of its slots are for others now.
    pub fn unsure(&mut self, holder: &EffectName, epoch: Epoch, now_ms: u64) {
        let Some(taken) = self.taken.get(holder).filter(|taken| taken.after < epoch) else {
            return;
        };
        let (number, all) = (taken.number, taken.buckets.clone());
        let (kept, free): (Vec<Bucket>, Vec<Bucket>) =
            all.into_iter().partition(|bucket| self.keeps_uncertain(bucket));
        if let Some(taken) = self.taken.get_mut(holder) {
            (taken.buckets, taken.is_unsure) = (kept, true);
        }
        for bucket in &free {
            self.free(bucket, number, now_ms);
        }
    }

    /// A limit has changed: whoever keeps a slot by being uncertain may have to give it back.
    fn look_again_at_unsure(&mut self, now_ms: u64) {
        let unsure = self.taken.iter().filter(|(_, taken)| taken.is_unsure);
        let unsure: Vec<(EffectName, Epoch)> =
            unsure.map(|(holder, taken)| (holder.clone(), Epoch(taken.after.0 + 1))).collect();
        for (holder, epoch) in unsure {
            self.unsure(&holder, epoch, now_ms);
        }
    }

    fn free(&mut self, bucket: &Bucket, number: u64, now_ms: u64) {
        let was_full = self.held(bucket, now_ms).is_some();
        let Some(used) = self.used.get_mut(bucket) else { return };
        used.holders.remove(&number);
        if was_full {
            used.full_until_ms = used.full_until_ms.max(now_ms);
            self.freed.insert(bucket.clone());
        }
        if self.used.len() > self.sweep_at {
            self.sweep(now_ms);
        }
    }

    /// Forgets what says nothing that a new bucket would not say.
    fn sweep(&mut self, now_ms: u64) {
        let mut all = std::mem::take(&mut self.used);
        all.retain(|bucket, used| {
            let limit = self.limit_of(bucket).map(|(_, set)| set.limit).unwrap_or_default();
            let counts = |tokens: Tokens| {
                limit.rate.is_some_and(|rate| !tokens.is_full(rate, limit.burst(rate), now_ms))
            };
            !used.holders.is_empty() || used.tokens.is_some_and(counts)
        });
        self.used = all;
        self.sweep_at = self.used.len() * 2 + SWEEP_MIN;
    }

    /// Takes all slots and tokens of a start at once, or lets the effect wait for its turn.
    ///
    /// # Errors
    /// What keeps it; nothing was taken, and [`Limits::call`] will name it.
    pub fn take_or_wait(
        &mut self,
        holder: &EffectName,
        demand: &Arc<Demand>,
        want: Want,
        now_ms: u64,
    ) -> Result<(), Option<Held>> {
        if self.has_taken(holder, want.after, now_ms) {
            return Ok(());
        }
        // Whoever waits already comes first, also when there is room just now.
        let contested = demand.buckets().find(|bucket| self.queue.has_line(bucket));
        let (behind, held) = match (contested, self.ask(demand, now_ms)) {
            (_, Err(held)) => {
                self.remember(&held);
                (held.bucket.clone(), Some(held))
            }
            (Some(bucket), Ok(())) => {
                self.freed.insert(bucket.clone());
                (bucket, None)
            }
            (None, Ok(())) => {
                return self.take_after(holder, demand, (want, None), now_ms).map_err(Some);
            }
        };
        self.queue.enter(holder.clone(), demand, want, behind);
        self.unstarted.insert(holder.clone());
        Err(held)
    }

    /// Gives what is free to those whose turn it is. They have their slots; whoever asks without
    /// waiting may ask again if there is room anywhere that was not there.
    pub fn call(&mut self, now_ms: u64) -> Called {
        let mut called = Called::default();
        while let Some((at, _)) = self.alarms.first()
            && *at <= now_ms
            && let Some((_, bucket)) = self.alarms.pop_first()
        {
            self.freed.insert(bucket);
        }
        while let Some(bucket) = self.freed.pop_first() {
            called.has_room = true;
            self.call_behind(&bucket, now_ms, &mut called.holders);
        }
        called
    }

    fn call_behind(&mut self, bucket: &Bucket, now_ms: u64, called: &mut Vec<EffectName>) {
        while let Some((holder, demand, want)) = self.queue.first(bucket) {
            match self.take_after(&holder, &demand, (want, Some(bucket.scope)), now_ms) {
                Ok(()) => called.push(holder),
                Err(held) => {
                    self.remember(&held);
                    if held.bucket == *bucket {
                        return;
                    }
                    self.queue.move_behind(&demand, held.bucket);
                }
            }
        }
    }

    /// When time alone gives room to somebody who waits here.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether an effect of somebody who waits elsewhere could start. If a rate keeps it,
    /// [`Limits::call`] says when there is room.
    pub fn admits(&mut self, demand: &Demand, now_ms: u64) -> bool {
        let Err(held) = self.ask(demand, now_ms) else { return true };
        self.remember(&held);
        false
    }

    fn remember(&mut self, held: &Held) {
        self.alarms.extend(held.until_ms.map(|at| (at, held.bucket.clone())));
    }

    /// The limits under which a start takes a place, by their names.
    #[must_use]
    pub fn names(&self, demand: &Demand) -> Vec<String> {
        let limited = demand.buckets().filter(|bucket| self.limit_of(bucket).is_some());
        limited.map(|bucket| bucket.to_string()).collect()
    }

    /// How much of each limit is used, with at most so many names in each list.
    #[must_use]
    pub fn levels(&self, names_max: usize, now_ms: u64) -> Vec<Level> {
        let mut levels: BTreeMap<&Bucket, Level> = BTreeMap::new();
        for (place, set) in &self.set {
            let limit = place.clone();
            let unseen = self.held(place, now_ms).filter(|_| !self.used.contains_key(place));
            let level = Level {
                limit,
                set: set.limit,
                in_use: 0,
                full: unseen.into_iter().collect(),
                holders: Vec::new(),
            };
            levels.insert(place, level);
        }
        let mut all: Vec<(&Bucket, &Used)> = self.used.iter().collect();
        all.sort_by_key(|(_, used)| used.holders.keys().next().copied());
        for (bucket, used) in all {
            let Some(level) = self.limit_of(bucket).and_then(|(place, _)| levels.get_mut(place))
            else {
                continue;
            };
            level.in_use += used.holders.len();
            let room = names_max.saturating_sub(level.holders.len());
            level.holders.extend(used.holders.values().take(room).cloned());
            let full = self.held(bucket, now_ms).filter(|_| level.full.len() < names_max);
            level.full.extend(full);
        }
        levels.into_values().collect()
    }

    /// The limit that counts for a kind or key: the one of its own name, or of the longest pattern.
    fn limit_of(&self, bucket: &Bucket) -> Option<(&Bucket, Set)> {
        if self.set.is_empty() {
            return None;
        }
        let found =
            |bucket: &Bucket| self.set.get_key_value(bucket).map(|(name, set)| (name, *set));
        if let Some(own) = found(bucket) {
            return Some(own);
        }
        if bucket.scope == Scope::Kind {
            return None;
        }
        let colons = bucket.name.rmatch_indices(':').map(|(at, _)| &bucket.name[..=at]);
        let patterns = colons.map(|begin| Bucket { scope: Scope::Key, name: format!("{begin}*") });
        patterns.into_iter().find_map(|pattern| found(&pattern))
    }

    /// Until when nothing could start, as far as that is over.
    fn full_until_ms(&self, bucket: &Bucket) -> u64 {
        let used = self.used.get(bucket);
        let set = self.limit_of(bucket).map(|(_, set)| set);
        let first = set.and_then(|set| Some(Tokens::empty(set.since_ms).next_ms(set.limit.rate?)));
        let is_first = used.is_none_or(|used| used.tokens.is_none());
        let first = first.filter(|_| is_first).unwrap_or(0);
        used.map_or(first, |used| used.full_until_ms.max(first))
    }

    fn keeps_uncertain(&self, bucket: &Bucket) -> bool {
        let said = self.limit_of(bucket).and_then(|(_, set)| set.limit.hold_uncertain);
        said.unwrap_or(bucket.scope == Scope::Key)
    }

    fn held(&self, bucket: &Bucket, now_ms: u64) -> Option<Held> {
        let (name, set) = self.limit_of(bucket)?;
        let used = self.used.get(bucket);
        let count = used.map_or(0, |used| used.holders.len() as u64);
        let held = |until_ms| Held {
            limit: name.clone(),
            bucket: bucket.clone(),
            until_ms,
            holder: used.and_then(|used| used.holders.values().next().cloned()),
        };
        if set.limit.concurrency.is_some_and(|most| count >= most) {
            return Some(held(None));
        }
        let tokens = used.and_then(|used| used.tokens);
        let next = tokens.unwrap_or(Tokens::empty(set.since_ms)).next_ms(set.limit.rate?);
        (next > now_ms).then(|| held(Some(next)))
    }
}

/// Whose turn it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// They have their slots.
    pub holders: Vec<EffectName>,
    /// Something has room that had none.
    pub has_room: bool,
}

/// Whether a limit is about a kind or key.
fn covers(place: &Bucket, bucket: &Bucket) -> bool {
    let begins = || {
        let begin = place.name.strip_suffix('*').filter(|begin| begin.ends_with(':'));
        begin.is_some_and(|begin| bucket.name.starts_with(begin))
    };
    place.scope == bucket.scope
        && (place.name == bucket.name || place.scope == Scope::Key && begins())
}

#[cfg(test)]
mod tests;
