//! The doctor: whether this machine, this disk and this root can keep the promises.
//!
//! May not start anything that lasts. Invariant: what it writes is a scratch file of its own, and
//! gone afterwards; every answer names what was seen and, unless that is well, what to do.

mod disk;
mod machine;
mod root;

use serde::Serialize;

use crate::daemon::config::Config;
use crate::services::runs::Runs;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Well,
    /// It works, with less than was promised or hoped for.
    Weak,
    /// It does not work.
    Ill,
}

impl Health {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Weak => "weak",
            Self::Ill => "ill",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sign {
    /// What: a short name that does not change.
    pub name: &'static str,
    /// How it stands.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Sign {
    fn well(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, health: Health::Well, seen: seen.into(), next: None }
    }

    fn weak(name: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, health: Health::Weak, seen: seen.into(), next: Some(next.into()) }
    }

    fn ill(name: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, health: Health::Ill, seen: seen.into(), next: Some(next.into()) }
    }
}

/// Looks at everything. `is_served`: a daemon has the root, so that what it holds is not missed.
#[must_use]
pub fn examine(runs: &Runs, config: &Config, is_served: bool) -> Vec<Sign> {
    let mut signs = machine::examine(runs, config, is_served);
    signs.extend(root::examine(runs, is_served));
    signs.extend(disk::examine(runs));
    signs
}
