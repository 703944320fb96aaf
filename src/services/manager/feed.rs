//! The feed: which records became durable, over all runs, and what passes without a record.
//!
//! May not hold a record: it keeps their names, and whoever follows reads them where they stand.
//! Invariant: names stand in the order in which records became durable, each under a number that
//! no other record gets while this daemon lives; as many are kept as there is room for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use crate::ground::id::{EffectId, EffectName, Epoch, RunId, Seq};
use crate::ground::limits::{FEED_NOTES_MAX, FEED_RECORDS_MAX};
use crate::machines::lease::Progress;

/// Which record became durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The run.
    pub run: RunId,
    /// Its place there.
    pub seq: Seq,
    /// Its type.
    pub event: &'static str,
}

/// Something that no record says, and that is forgotten once it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// `note.progress`, `note.lease`, `note.worker`.
    pub event: &'static str,
    /// The run, if it is about one.
    pub run: Option<RunId>,
    /// What.
    pub data: Value,
}

impl Note {
    pub(super) fn progress(key: &EffectName, epoch: Epoch, progress: &Progress) -> Self {
        let (percent, label) = (progress.percent, &progress.label);
        let more = json!({ "percent": percent, "label": label });
        Self::of("note.progress", &key.run, key.effect, epoch, more)
    }

    pub(super) fn lease(key: &EffectName, epoch: Epoch, word: &str) -> Self {
        Self::of("note.lease", &key.run, key.effect, epoch, json!({ "lease": word }))
    }

    pub(super) fn worker(name: &str) -> Self {
        Self { event: "note.worker", run: None, data: json!({ "worker": name }) }
    }

    fn of(event: &'static str, run: &RunId, effect: EffectId, epoch: Epoch, more: Value) -> Self {
        let mut data = json!({ "runId": run, "effectId": effect, "epoch": epoch });
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Self { event, run: Some(run.clone()), data }
    }
}

/// What has become durable lately, for whoever follows all runs. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Inside>);

struct Inside {
    /// A name for this daemon's life.
    life: String,
    kept: Mutex<VecDeque<Told>>,
    /// How many were told in all.
    head: watch::Sender<u64>,
    notes: broadcast::Sender<Arc<Note>>,
}

/// What came after a place is not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// How many were told before the oldest that is still known.
    pub oldest: u64,
}

impl Feed {
    /// The feed of a daemon whose life has this name.
    pub(super) fn new(life: String) -> Self {
        let (head, _) = watch::channel(0);
        let (notes, _) = broadcast::channel(FEED_NOTES_MAX);
        Self(Arc::new(Inside { life, kept: Mutex::default(), head, notes }))
    }

    /// A name that no other daemon's life has: what is numbered here is not numbered there.
    #[must_use]
    pub fn life(&self) -> &str {
        &self.0.life
    }

    /// A record is durable.
    pub(super) fn tell(&self, run: &RunId, seq: Seq, event: &'static str) {
        let mut kept = self.kept();
        if kept.len() >= FEED_RECORDS_MAX {
            kept.pop_front();
        }
        kept.push_back(Told { run: run.clone(), seq, event });
        self.0.head.send_modify(|head| *head += 1);
    }

    /// Something passes; it is made only if somebody listens.
    pub(super) fn note(&self, make: impl FnOnce() -> Note) {
        if self.0.notes.receiver_count() > 0 {
            // Whoever has left meanwhile misses nothing.
            let _ = self.0.notes.send(Arc::new(make()));
        }
    }

    /// What was told after the first `place` of all, at most so many.
    pub fn after(&self, place: u64, most: usize) -> Result<Vec<Told>, Gone> {
        let kept = self.kept();
        let head = *self.0.head.borrow();
        let oldest = head - kept.len() as u64;
        if place < oldest || place > head {
            return Err(Gone { oldest });
        }
        let skip = usize::try_from(place - oldest).unwrap_or(usize::MAX);
        Ok(kept.iter().skip(skip).take(most).cloned().collect())
    }

    /// How many were told, from now on.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }

    /// What passes, from now on.
    #[must_use]
    pub fn notes(&self) -> broadcast::Receiver<Arc<Note>> {
        self.0.notes.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Told>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_names_are_kept_as_there_is_room_for() {
        let feed = Feed::new("a".to_owned());
        let run: RunId = "r".parse().unwrap();
        assert_eq!(feed.after(0, 9).unwrap(), []);
        assert_eq!(feed.after(1, 9), Err(Gone { oldest: 0 }));
        let count = FEED_RECORDS_MAX as u64 + 3;
        for seq in 1..=count {
            feed.tell(&run, Seq(seq), "OPERATOR_NOTE");
        }
        assert_eq!(*feed.head().borrow(), count);
        assert_eq!(feed.after(2, 9), Err(Gone { oldest: 3 }));
        let next: Vec<Seq> = feed.after(3, 2).unwrap().iter().map(|told| told.seq).collect();
        assert_eq!(next, [Seq(4), Seq(5)]);
        assert_eq!(feed.after(count, 9).unwrap(), []);
    }
}
