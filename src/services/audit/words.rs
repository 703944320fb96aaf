//! Values of the index and of journals, as people read them.
//!
//! May not judge. Invariant: values that differ have different words, but for what is cut from
//! digests and sums.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::codecs::event::{Head, IdempotencyRef, ParentRef};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::Epoch;
use crate::machines::effect::life::EffectStatus;
use crate::machines::replay::facts::{EffectFacts, KeyFacts, Reasons, SignalWait};

/// Characters that are kept of a digest or a sum.
const DIGEST_CHARS: usize = 12;

/// A value that people can read.
pub(super) trait Words {
    /// Its words.
    fn words(&self) -> String;
}

impl<T: Words> Words for Option<T> {
    fn words(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Words::words)
    }
}

impl<T: Words> Words for Vec<T> {
    fn words(&self) -> String {
        listed(self.iter().map(Words::words))
    }
}

impl Words for &str {
    fn words(&self) -> String {
        (*self).to_owned()
    }
}

impl Words for String {
    fn words(&self) -> String {
        // Whoever wrote it may have put anything into it.
        format!("{self:?}")
    }
}

impl Words for Timestamp {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Words for Epoch {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Words for EffectStatus {
    fn words(&self) -> String {
        self.name().to_owned()
    }
}

impl Words for Digest {
    fn words(&self) -> String {
        cut(self)
    }
}

impl Words for Head {
    fn words(&self) -> String {
        format!("record {} with sum {}", self.seq, cut(&self.sum))
    }
}

impl Words for Reasons {
    fn words(&self) -> String {
        listed(self.names().map(str::to_owned))
    }
}

impl Words for ParentRef {
    fn words(&self) -> String {
        format!("{} of run {} at depth {}", self.effect_id, self.run_id, self.depth)
    }
}

impl Words for IdempotencyRef {
    fn words(&self) -> String {
        format!("key {:?} for {}", self.key, cut(&self.digest))
    }
}

impl Words for BTreeMap<String, u32> {
    fn words(&self) -> String {
        listed(self.iter().map(|(kind, count)| format!("{count} {kind}")))
    }
}

impl Words for KeyFacts {
    fn words(&self) -> String {
        let Self { key, effect_id, status, digest, row, .. } = self;
        let (status, work) = (status.name(), cut(digest));
        let row = row.as_ref().map(|row| {
            let whose = if row.is_decided { ", decided" } else { "" };
            format!("{}{whose}, ended {}", row.state.name(), row.ended_at.words())
        });
        format!("{key:?} ({effect_id}, {status}, for {work}, holds {})", row.words())
    }
}

impl Words for SignalWait {
    fn words(&self) -> String {
        format!("{:?} with key {}", self.name, self.correlation_key.words())
    }
}

/// What two views of one effect say differently, in the words of each.
pub(super) fn apart(one: &EffectFacts, other: &EffectFacts) -> (String, String) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    macro_rules! differ {
        ($($field:ident),*) => {$(
            if one.$field != other.$field {
                ones.push(format!("{} {}", stringify!($field), one.$field.words()));
                others.push(format!("{} {}", stringify!($field), other.$field.words()));
            }
        )*};
    }
    differ!(kind, status, key, title, task_id, requested_at, epoch, worker, due_at, signal);
    let named = |fields: Vec<String>| format!("{} with {}", one.effect_id, fields.join(", "));
    (named(ones), named(others))
}

fn listed(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn cut(digest: &impl Display) -> String {
    let text = digest.to_string();
    format!("{}…", text.get(..DIGEST_CHARS).unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::digest::Sum;
    use crate::ground::id::Seq;

    #[test]
    fn values_are_readable() {
        let head = Head { seq: Seq(6), sum: Sum::from_bytes([94; 16]) };
        assert_eq!(head.words(), "record 6 with sum 5e5e5e5e5e5e…");
        assert_eq!(Reasons::from_bits(0).words(), "none");
        let all: Vec<_> = Reasons::from_bits(0x7f).names().collect();
        assert_eq!(Reasons::from_bits(0x7f).words(), all.join(", "));
        let noon = Timestamp::from_micros(1_795_176_000_000_000);
        assert_eq!(Some(noon).words(), noon.to_string());
        assert!(noon.to_string().ends_with('Z') && None::<Timestamp>.words() == "none");
        let pending = BTreeMap::from([("agent".to_owned(), 2), ("shell".to_owned(), 1)]);
        assert_eq!(pending.words(), "2 agent, 1 shell");
    }
}
