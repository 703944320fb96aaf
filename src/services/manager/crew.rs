//! Workers that asked for something lately.
//!
//! May not know what they were given. Invariant: as many are remembered as there is room for; who
//! was not seen for longest goes first.

use std::collections::{BTreeSet, HashMap};

use crate::ground::clock::Timestamp;
use crate::ground::limits::WORKERS_SEEN_MAX;

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// The kinds that it asked for last.
    pub kinds: Vec<String>,
    /// When it was last heard of; nothing: not since the daemon began.
    pub last_seen: Option<Timestamp>,
    /// Effects that it is at.
    pub leases: usize,
}

/// Everybody.
#[derive(Default)]
pub(super) struct Crew(HashMap<String, (BTreeSet<String>, Timestamp)>);

impl Crew {
    /// A worker asks for effects of some kinds.
    pub(super) fn saw(&mut self, name: &str, kinds: &[String], now: Timestamp) {
        if self.0.len() >= WORKERS_SEEN_MAX && !self.0.contains_key(name) {
            let oldest = self.0.iter().min_by_key(|(_, (_, seen))| *seen);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&oldest);
            }
        }
        let seen = self.0.entry(name.to_owned()).or_default();
        seen.1 = now;
        if !kinds.is_empty() {
            seen.0 = kinds.iter().cloned().collect();
        }
    }

    /// A worker says that it is alive.
    pub(super) fn heard(&mut self, name: &str, now: Timestamp) {
        self.saw(name, &[], now);
    }

    /// Everybody by name, with those who only have leases.
    pub(super) fn all(&self, mut leases: HashMap<String, usize>) -> Vec<Seen> {
        let mut all: Vec<Seen> = self
            .0
            .iter()
            .map(|(name, (kinds, seen))| Seen {
                name: name.clone(),
                kinds: kinds.iter().cloned().collect(),
                last_seen: Some(*seen),
                leases: leases.remove(name).unwrap_or(0),
            })
            .collect();
        all.extend(leases.into_iter().map(|(name, leases)| Seen {
            name,
            kinds: Vec::new(),
            last_seen: None,
            leases,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// How many were seen that asked for effects of this kind at or after a time.
    pub(super) fn looking_for(&self, kind: &str, since: Timestamp) -> usize {
        self.0.values().filter(|(kinds, seen)| *seen >= since && kinds.contains(kind)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_seen_for_longest_is_forgotten() {
        let mut crew = Crew::default();
        let at = |n: usize| Timestamp::from_micros(i64::try_from(n).unwrap());
        for n in 0..=WORKERS_SEEN_MAX {
            crew.saw(&format!("w{n}"), &["k".into()], at(n));
        }
        assert_eq!(crew.0.len(), WORKERS_SEEN_MAX);
        assert!(!crew.0.contains_key("w0") && crew.0.contains_key("w1"));
        assert_eq!(crew.looking_for("k", at(WORKERS_SEEN_MAX - 1)), 2);
        crew.heard("w1", at(1_000_000));
        assert_eq!(crew.looking_for("k", at(1_000_000)), 1);
    }
}
