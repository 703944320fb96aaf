//! Schedules: when runs are to begin by themselves, and what is decided about each of these times.
//!
//! Values in, values out: a plan, what was decided so far and the time give what is due. May not
//! read a clock, create a run or know documents. Invariant: every time of a schedule gets one
//! decision, and none a second one, whatever the clock does.

mod decide;
pub mod expression;
pub mod state;
pub mod timetable;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codecs::event::ScheduleRef;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use timetable::Timetable;

pub use decide::Busy;

/// Characters of a schedule's name that stand in the ids of its runs.
const NAME_IN_ID_MAX: usize = 24;
/// Hexadecimal digits of the digest of a name in the ids of its runs.
const DIGEST_IN_ID: usize = 8;
/// The namespace of a schedule that names none.
pub const NAMESPACE_DEFAULT: &str = "default";
/// Longest name, and longest namespace.
const NAME_BYTES_MAX: usize = 63;

/// What happens at a due time while an earlier run has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Both go on.
    Allow,
    /// The time is passed over.
    Forbid,
    /// The earlier run is cancelled.
    Replace,
}

/// What happens to times that passed while nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The newest of them is made up for.
    Latest,
    /// All of them are, oldest first.
    All,
    /// None is.
    None,
}

/// What a schedule says.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When.
    pub timetable: Timetable,
    /// What happens while an earlier run has not ended.
    pub overlap: Overlap,
    /// What happens to times that passed while nobody looked.
    pub catch_up: CatchUp,
    /// How many of them are made up for at once.
    pub catch_up_max: usize,
    /// How late a run may begin.
    pub deadline_s: Option<u64>,
    /// How many runs that ended well are listed.
    pub keep_succeeded: usize,
    /// How many others are.
    pub keep_failed: usize,
    /// As many as may be are listed.
    pub keeps_all: bool,
    /// It begins suspended.
    pub is_suspended: bool,
}

/// What a schedule is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Name {
    /// Where its name belongs.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Name {
    /// The id of the run of a time: the same time has the same run.
    #[must_use]
    pub fn run_at(&self, at: Timestamp) -> Option<RunId> {
        self.id(&minute(at)).parse().ok()
    }

    /// The id of the n-th run that somebody asked for besides.
    #[must_use]
    pub fn run_besides(&self, at: Timestamp, n: u32) -> Option<RunId> {
        self.id(&format!("{}-{n}", minute(at))).parse().ok()
    }

    fn id(&self, time: &str) -> String {
        let shown: String = self.name.chars().take(NAME_IN_ID_MAX).collect();
        let digest = Digest::of(format!("{}\0{}", self.namespace, self.name).as_bytes()).hex();
        format!("cron-{shown}-{}-{time}", &digest[..DIGEST_IN_ID])
    }

    /// What a run of this schedule says of where it comes from.
    #[must_use]
    pub fn origin(&self, at: Timestamp) -> ScheduleRef {
        let Self { namespace, name } = self.clone();
        ScheduleRef { namespace, name, scheduled_at: at }
    }
}

/// `20261120T1200Z`.
fn minute(at: Timestamp) -> String {
    let text: String = at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{}Z", &text[..13])
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text that names no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a schedule: NAME or NAMESPACE/NAME, of a-z, 0-9 and hyphens")]
pub struct NotAName(String);

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (namespace, name) = text.split_once('/').unwrap_or((NAMESPACE_DEFAULT, text));
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_name = |text: &str| {
            (1..=NAME_BYTES_MAX).contains(&text.len())
                && text.bytes().all(inner)
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        if !is_name(namespace) || !is_name(name) {
            return Err(NotAName(text.chars().take(80).collect()));
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_run_tells_its_schedule_and_its_time() {
        let at: Timestamp = "2026-11-20T12:34:00.000000Z".parse().unwrap();
        let name: Name = "nightly".parse().unwrap();
        let id = name.run_at(at).unwrap();
        let (before, time) = id.as_str().rsplit_once('-').unwrap();
        assert_eq!(time, "20261120T1234Z");
        assert!(before.starts_with("cron-nightly-") && before.len() == 13 + DIGEST_IN_ID);
        let long: Name = format!("team/{}", "x".repeat(63)).parse().unwrap();
        assert_eq!(long.run_besides(at, u32::MAX).unwrap().as_str().len(), 64);
        let other: Name = format!("team/{}y", "x".repeat(62)).parse().unwrap();
        assert_ne!(long.run_at(at), other.run_at(at));
        assert_ne!(name.run_at(at), "team/nightly".parse::<Name>().unwrap().run_at(at));
    }

    #[test]
    fn names_have_a_namespace() {
        assert_eq!("a".parse::<Name>().unwrap().to_string(), "default/a");
        assert_eq!("n/a".parse::<Name>().unwrap().to_string(), "n/a");
        for bad in ["", "/", "a/", "/a", "a/b/c", "A", "-a", "a-", "a.b", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
