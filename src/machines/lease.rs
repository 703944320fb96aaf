//! Leases: timed rights to execute, and when they lapse.
//!
//! May not read a clock, nor know what a lapse means for a run. Invariant: a lease lives in memory
//! only; losing it, or the daemon's own sleep, makes it longer, never shorter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ground::id::{EffectName, Epoch};
use crate::ground::limits::LEASE_GRACE_MS_MAX;

/// What a lease is granted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The start.
    pub epoch: Epoch,
    /// Its holder.
    pub worker: String,
    /// How long its silence is taken for life.
    pub ttl_ms: u64,
    /// When the time of the attempt is over.
    pub attempt_deadline_ms: Option<u64>,
}

/// How far a holder says that it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    /// In a few words.
    pub label: Option<String>,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.percent, &self.label) {
            (Some(percent), Some(label)) => write!(f, "{percent} %, {label}"),
            (Some(percent), None) => write!(f, "{percent} %"),
            (None, Some(label)) => f.write_str(label),
            (None, None) => f.write_str("it goes on"),
        }
    }
}

/// A timed right to execute. Times are milliseconds of a clock that nobody sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The start.
    pub epoch: Epoch,
    /// Its holder.
    pub worker: String,
    /// How long its silence is taken for life.
    pub ttl_ms: u64,
    /// When its holder must have been heard.
    pub deadline_ms: u64,
    /// When the time of the attempt is over.
    pub attempt_deadline_ms: Option<u64>,
    /// When its holder was heard last.
    pub renewed_ms: u64,
    /// How far its holder said that it is.
    pub progress: Option<Progress>,
}

/// Why a lease has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// Nothing was heard of its holder.
    Silence,
    /// The time of the attempt is over, and its holder was told.
    Timeout,
}

impl Lease {
    /// Whether the time of the attempt is over: its holder is to stop.
    #[must_use]
    pub fn is_overdue(&self, now_ms: u64) -> bool {
        self.attempt_deadline_ms.is_some_and(|at| at <= now_ms)
    }

    /// When it lapses, unless its holder is heard, and why.
    fn lapses(&self) -> (u64, Lapse) {
        let grace = (self.ttl_ms / 2).min(LEASE_GRACE_MS_MAX);
        let silence = (self.deadline_ms.saturating_add(grace), Lapse::Silence);
        let timeout = self.attempt_deadline_ms.map(|at| (at.saturating_add(grace), Lapse::Timeout));
        timeout.filter(|timeout| timeout.0 < silence.0).unwrap_or(silence)
    }
}

/// All leases that a daemon watches over.
#[derive(Debug, Default)]
pub struct Leases {
    by_key: HashMap<EffectName, Lease>,
    by_time: BTreeSet<(u64, EffectName)>,
    by_worker: BTreeMap<String, BTreeSet<EffectName>>,
    /// How many leases have each ttl: the smallest says which sleep of the daemon matters.
    ttls: BTreeMap<u64, usize>,
}

impl Leases {
    /// Grants a lease, in place of any other of that effect.
    pub fn grant(&mut self, key: EffectName, grant: Grant, now_ms: u64) {
        self.remove(&key);
        let lease = Lease {
            epoch: grant.epoch,
            worker: grant.worker,
            ttl_ms: grant.ttl_ms,
            deadline_ms: now_ms.saturating_add(grant.ttl_ms),
            attempt_deadline_ms: grant.attempt_deadline_ms,
            renewed_ms: now_ms,
            progress: None,
        };
        self.put(key, lease);
    }

    /// Its holder says how far it is.
    pub fn note(&mut self, key: &EffectName, progress: Progress) {
        if let Some(lease) = self.by_key.get_mut(key) {
            lease.progress = Some(progress);
        }
    }

    /// Its holder was heard. Nothing when it holds no lease of that epoch.
    pub fn renew(
        &mut self,
        key: &EffectName,
        epoch: Epoch,
        now_ms: u64,
        ttl_ms: Option<u64>,
    ) -> Option<&Lease> {
        self.by_key.get(key).filter(|lease| lease.epoch == epoch)?;
        let before = self.remove(key)?;
        let ttl_ms = ttl_ms.unwrap_or(before.ttl_ms);
        // A shorter silence from now on does not take back what was promised.
        let deadline_ms = before.deadline_ms.max(now_ms.saturating_add(ttl_ms));
        self.put(key.clone(), Lease { ttl_ms, deadline_ms, renewed_ms: now_ms, ..before });
        self.by_key.get(key)
    }

    /// The lease of an effect.
    #[must_use]
    pub fn get(&self, key: &EffectName) -> Option<&Lease> {
        self.by_key.get(key)
    }

    /// Takes out the lease of an effect.
    pub fn remove(&mut self, key: &EffectName) -> Option<Lease> {
        let lease = self.by_key.remove(key)?;
        self.by_time.remove(&(lease.lapses().0, key.clone()));
        if let Some(keys) = self.by_worker.get_mut(&lease.worker) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_worker.remove(&lease.worker);
            }
        }
        if let Some(count) = self.ttls.get_mut(&lease.ttl_ms) {
            *count -= 1;
            if *count == 0 {
                self.ttls.remove(&lease.ttl_ms);
            }
        }
        Some(lease)
    }

    /// Takes out the lease that lapsed first, if one has.
    pub fn lapsed(&mut self, now_ms: u64) -> Option<(EffectName, Epoch, Lapse)> {
        let (_, key) = self.by_time.first().filter(|(at, _)| *at <= now_ms)?;
        let key = key.clone();
        let lease = self.remove(&key)?;
        Some((key, lease.epoch, lease.lapses().1))
    }

    /// Everybody who holds leases, and how many.
    pub fn workers(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_worker.iter().map(|(name, keys)| (name.as_str(), keys.len()))
    }

    /// When the next lease lapses, unless its holder is heard.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The daemon itself heard nobody for `gap_ms`: if that is longer than a holder may be silent,
    /// every holder gets its whole time anew.
    pub fn slept(&mut self, now_ms: u64, gap_ms: u64) {
        if self.ttls.first_key_value().is_none_or(|(smallest, _)| gap_ms <= *smallest) {
            return;
        }
        for (key, lease) in std::mem::take(self).by_key {
            let anew = now_ms.saturating_add(lease.ttl_ms);
            let deadline_ms = lease.deadline_ms.max(anew);
            let attempt_deadline_ms = lease.attempt_deadline_ms.map(|at| at.max(anew));
            self.put(key, Lease { deadline_ms, attempt_deadline_ms, ..lease });
        }
    }

    /// What a worker holds, by run and effect.
    pub fn of_worker(&self, worker: &str) -> impl Iterator<Item = (&EffectName, &Lease)> {
        let keys = self.by_worker.get(worker).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.by_key.get(key)?)))
    }

    /// All leases, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&EffectName, &Lease)> {
        self.by_key.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn put(&mut self, key: EffectName, lease: Lease) {
        self.by_time.insert((lease.lapses().0, key.clone()));
        self.by_worker.entry(lease.worker.clone()).or_default().insert(key.clone());
        *self.ttls.entry(lease.ttl_ms).or_default() += 1;
        self.by_key.insert(key, lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::id::EffectId;
    use proptest::prelude::*;

    fn key(n: u32) -> EffectName {
        EffectName { run: "r".parse().unwrap(), effect: EffectId::new(n) }
    }

    fn grant(epoch: u64, ttl_ms: u64) -> Grant {
        Grant { epoch: Epoch(epoch), worker: "w".into(), ttl_ms, attempt_deadline_ms: None }
    }

    fn granted(ttl_ms: u64, attempt_deadline_ms: Option<u64>) -> Leases {
        let mut leases = Leases::default();
        leases.grant(key(1), Grant { attempt_deadline_ms, ..grant(1, ttl_ms) }, 0);
        leases
    }

    #[test]
    fn silence_lapses_after_a_grace_of_half_but_at_most_thirty_seconds() {
        for (ttl, lapses) in [(10_000, 15_000), (60_000, 90_000), (3_600_000, 3_630_000)] {
            let mut leases = granted(ttl, None);
            assert_eq!(leases.next_ms(), Some(lapses));
            assert_eq!(leases.lapsed(lapses - 1), None);
            assert_eq!(leases.lapsed(lapses), Some((key(1), Epoch(1), Lapse::Silence)));
            assert!(leases.is_empty() && leases.next_ms().is_none());
        }
    }

    #[test]
    fn whoever_is_heard_keeps_its_lease() {
        let mut leases = granted(10_000, None);
        assert_eq!(leases.renew(&key(1), Epoch(1), 14_000, None).unwrap().deadline_ms, 24_000);
        assert_eq!(leases.lapsed(28_999), None);
        let longer = leases.renew(&key(1), Epoch(1), 15_000, Some(60_000)).unwrap();
        assert_eq!((longer.deadline_ms, longer.renewed_ms), (75_000, 15_000));
        let shorter = leases.renew(&key(1), Epoch(1), 16_000, Some(5_000)).unwrap();
        assert_eq!(shorter.deadline_ms, 75_000, "what was promised is kept");
    }

    #[test]
    fn another_epoch_renews_nothing() {
        let mut leases = granted(10_000, None);
        for epoch in [0, 2] {
            assert_eq!(leases.renew(&key(1), Epoch(epoch), 9_000, None), None);
        }
        assert_eq!(leases.renew(&key(2), Epoch(1), 9_000, None), None);
        assert_eq!(leases.next_ms(), Some(15_000));
        leases.grant(key(1), grant(2, 10_000), 9_000);
        assert_eq!(leases.lapsed(24_000), Some((key(1), Epoch(2), Lapse::Silence)));
    }

    #[test]
    fn an_attempt_has_its_time_however_often_its_holder_is_heard() {
        let mut leases = granted(10_000, Some(20_000));
        leases.renew(&key(1), Epoch(1), 19_000, None).unwrap();
        assert!(!leases.get(&key(1)).unwrap().is_overdue(19_999));
        assert!(leases.renew(&key(1), Epoch(1), 20_000, None).unwrap().is_overdue(20_000));
        assert_eq!(leases.lapsed(24_999), None);
        assert_eq!(leases.lapsed(25_000), Some((key(1), Epoch(1), Lapse::Timeout)));
    }

    #[test]
    fn a_daemon_that_slept_gives_everybody_their_whole_time() {
        let mut leases = granted(10_000, Some(50_000));
        leases.grant(key(2), grant(1, 600_000), 0);
        leases.slept(9_000, 10_000);
        assert_eq!(leases.next_ms(), Some(15_000), "no longer than the smallest ttl");
        leases.slept(100_000, 10_001);
        assert_eq!(leases.lapsed(114_999), None);
        assert_eq!(leases.get(&key(2)).unwrap().deadline_ms, 700_000);
        assert_eq!(leases.lapsed(115_000), Some((key(1), Epoch(1), Lapse::Silence)));
    }

    #[test]
    fn leases_are_found_by_their_worker() {
        let mut leases = granted(10_000, None);
        leases.grant(key(2), Grant { worker: "v".into(), ..grant(1, 10_000) }, 0);
        leases.grant(key(3), grant(1, 10_000), 0);
        let of = |leases: &Leases, name: &str| -> Vec<u32> {
            leases.of_worker(name).map(|(key, _)| key.effect.ordinal()).collect()
        };
        assert_eq!((of(&leases, "w"), of(&leases, "v")), (vec![1, 3], vec![2]));
        leases.remove(&key(3));
        leases.grant(key(1), Grant { worker: "v".into(), ..grant(2, 10_000) }, 0);
        assert_eq!((of(&leases, "w"), of(&leases, "v")), (vec![], vec![1, 2]));
    }

    proptest! {
        /// A book that looks at every lease each time says the same.
        #[test]
        fn leases_lapse_in_order_and_each_once(
            steps in prop::collection::vec((0_u32..4, 0_u8..3, 1_u64..90, 0_u64..30), 0..80),
        ) {
            let (mut leases, mut model) = (Leases::default(), BTreeMap::new());
            let (mut now, mut epoch) = (0, 0);
            for (n, deed, ttl, passed) in steps {
                now += passed;
                while let Some((gone, ..)) = leases.lapsed(now) {
                    let at: Option<u64> = model.remove(&gone.effect.ordinal());
                    prop_assert!(at.is_some_and(|at| at <= now), "{at:?} at {now}");
                }
                prop_assert!(model.values().all(|at| *at > now), "{model:?} at {now}");
                match deed {
                    0 => {
                        epoch += 1;
                        leases.grant(key(n), grant(epoch, ttl), now);
                        model.insert(n, now + ttl + ttl / 2);
                    }
                    1 => {
                        let held = leases.get(&key(n)).map(|lease| lease.epoch);
                        prop_assert_eq!(held.is_some(), model.contains_key(&n));
                        if let Some(held) = held {
                            let lease = leases.renew(&key(n), held, now, None).unwrap();
                            model.insert(n, now + lease.ttl_ms + lease.ttl_ms / 2);
                        }
                    }
                    _ => prop_assert_eq!(leases.remove(&key(n)).is_some(),
                        model.remove(&n).is_some()),
                }
                prop_assert_eq!(leases.next_ms(), model.values().min().copied());
                prop_assert_eq!(leases.len(), model.len());
            }
        }
    }
}
