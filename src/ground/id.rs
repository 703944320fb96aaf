//! Names of things: runs, effects, places in a journal, fencing numbers.
//!
//! May not know where any of them is stored. Invariant: a value of these types is well-formed; the
//! only way in is [`str::parse`] or a constructor that cannot fail.

use std::fmt;
use std::str::FromStr;

/// Longest run id in bytes (`limits.md`, id length): it is a directory name.
pub const RUN_ID_BYTES_MAX: usize = 64;

/// Why a text is not a name of the wanted type. Shown to people as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A run id outside `[A-Za-z0-9._-]{1,64}` or with a leading dot.
    #[error("run id {0:?} is not valid: 1 to 64 of A-Z a-z 0-9 . _ - and no leading dot")]
    RunId(String),
    /// An effect id that is not `e` and at least four digits.
    #[error("effect id {0:?} is not valid: it looks like e0001")]
    EffectId(String),
}

/// The name of a run: also its directory's name. `[A-Za-z0-9._-]{1,64}`, no leading dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = (1..=RUN_ID_BYTES_MAX).contains(&text.len());
        let plain =
            text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits && plain && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::RunId(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an effect inside its run: `e0001`, `e0002`… in order of request; four digits,
/// widening after `e9999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId(u32);

impl EffectId {
    /// The `ordinal`-th effect of a run, counted from 1.
    #[must_use]
    pub const fn new(ordinal: u32) -> Self {
        Self(ordinal)
    }

    /// The number in the id, counted from 1.
    #[must_use]
    pub const fn ordinal(self) -> u32 {
        self.0
    }
}

impl FromStr for EffectId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::EffectId(text.chars().take(80).collect());
        let digits = text.strip_prefix('e').ok_or_else(wrong)?;
        let canonical = digits.len() == 4 || (digits.len() > 4 && !digits.starts_with('0'));
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        digits.parse().ok().filter(|n| *n > 0).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{:04}", self.0)
    }
}

/// A place in a journal: the first record is 1.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing number of one start of one effect: 0 = never started, first start 1.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The next start's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serde through the text form, for names that are strings on disk.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                // A visitor sees the text where it stands; every other way copies it first.
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                d.deserialize_str(Text)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(RunId);
serde_as_text!(EffectId);

/// An effect of whatever run: what leases, slots, keys and lists of many runs are about. Text form:
/// `<run>/<effect>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectName {
    /// Its run.
    pub run: RunId,
    /// The effect.
    pub effect: EffectId,
}

impl EffectName {
    /// The name of an effect of a run.
    #[must_use]
    pub fn of(run: &RunId, effect: EffectId) -> Self {
        Self { run: run.clone(), effect }
    }
}

impl fmt::Display for EffectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.effect)
    }
}

/// Longest name of a secret.
const SECRET_NAME_BYTES_MAX: usize = 64;

/// Whether this may be the name of a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=SECRET_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_that_would_leave_the_root_are_refused() {
        for bad in ["", ".", "..", ".hidden", "../x", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad:?}");
        }
        for good in ["a", "01J", "a.b-c_d", &"x".repeat(64)] {
            assert!(good.parse::<RunId>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn effect_ids_have_one_spelling() {
        for n in [1, 42, 9_999, 10_000, 123_456] {
            assert_eq!(EffectId::new(n).to_string().parse(), Ok(EffectId::new(n)));
        }
        for bad in ["e1", "e0000", "e00001", "E0001", "0001", "e-001", "e99999999999"] {
            assert!(bad.parse::<EffectId>().is_err(), "{bad:?}");
        }
    }
}
