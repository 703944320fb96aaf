//! Guards that a test takes away to see that it would notice.
//!
//! A test that never fails proves nothing. Every guard that the reliability suite relies on can be
//! removed by its name, in builds with debug assertions only: in a release build [`is_removed`] is
//! a constant, and a program that is told to remove one refuses to start. May not know what a guard
//! protects. Invariant: a build without debug assertions keeps every guard.

use std::sync::OnceLock;

/// Names the guards to remove, separated by commas.
pub const VARIABLE: &str = "DORMOUSE_SABOTAGE";

/// Declares the guards, each with the name that removes it.
macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $guard:ident = $name:literal,)+) => {
        /// A guard that can be removed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Guard {
            $($(#[doc = $doc])+ $guard,)+
        }

        impl Guard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$guard,)+];

            /// What removes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$guard => $name,)+
                }
            }
        }
    };
}

guards! {
    /// An answer waits until the frame that holds its record is durable.
    AckEarly = "ack_early",
    /// An executor begins after the record of its start is durable.
    NoIntent = "no_intent",
    /// A record is synced before it is called durable, with and without the log.
    NoSync = "no_sync",
    /// Names in a directory are synced.
    NoDirsync = "no_dirsync",
    /// A journal is synced before it counts as settled.
    SettleNoSync = "settle_no_sync",
    /// A segment of the log goes after every run that needs it is settled.
    ReleaseEarly = "release_early",
    /// A line reaches its journal after its frame is durable.
    JournalFirst = "journal_first",
    /// After a failed write nothing is written any more.
    AppendAfterError = "append_after_error",
    /// A sync that failed is believed to have failed, whatever the next one says.
    RetryFsync = "retry_fsync",
    /// What decides about a recovery is read from the device.
    NoDrop = "no_drop",
    /// Without room no new work is taken.
    FullIsOk = "full_is_ok",
    /// Every line of a journal is covered by the sum of the line before.
    NoChain = "no_chain",
    /// The first line of a journal is covered by the name of its run.
    NoSeed = "no_seed",
    /// A post under an epoch that is not the present one is refused.
    NoFence = "no_fence",
    /// The epoch of a start is higher than every one before.
    VolatileEpoch = "volatile_epoch",
    /// A start whose outcome nobody knows is not followed by another by itself.
    RegrantStarted = "regrant_started",
    /// Leases are measured on a clock that nobody sets.
    WallLeases = "wall_leases",
    /// The kernel's lock says who owns a root, its text does not.
    PidLock = "pid_lock",
}

impl Guard {
    /// The guard that this name removes.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|guard| guard.name() == name)
    }
}

/// Why a program that was told to remove guards does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing has this name.
    #[error("{VARIABLE}: no guard is called {0:?}")]
    Unknown(String),
    /// A release build.
    #[error("{VARIABLE} is set, and this build keeps its guards")]
    Kept,
}

/// Looks at what the environment wants to be removed; to be asked before anything else is done.
///
/// # Errors
/// It cannot be removed: to go on as if it had been would be a test that proves nothing.
pub fn check() -> Result<(), Refused> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    wanted_of(&wanted, cfg!(debug_assertions)).map(drop)
}

/// Whether a guard is removed. Its line in the product asks this and nothing else.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_removed(guard: Guard) -> bool {
    static REMOVED: OnceLock<Vec<Guard>> = OnceLock::new();
    let read = || wanted_of(&std::env::var(VARIABLE).unwrap_or_default(), true);
    REMOVED.get_or_init(|| read().unwrap_or_default()).contains(&guard)
}

/// Whether a guard is removed: not in this build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_removed(_: Guard) -> bool {
    false
}

/// The guards that a list names.
fn wanted_of(list: &str, may_remove: bool) -> Result<Vec<Guard>, Refused> {
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if !names.is_empty() && !may_remove {
        return Err(Refused::Kept);
    }
    let guard = |name: &&str| Guard::named(name).ok_or_else(|| Refused::Unknown((*name).into()));
    names.iter().map(guard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_guards_go_and_none_where_they_are_kept() {
        assert_eq!(wanted_of("", false), Ok(vec![]));
        assert_eq!(
            wanted_of("no_fence, ack_early", true),
            Ok(vec![Guard::NoFence, Guard::AckEarly])
        );
        assert_eq!(wanted_of("no_fnce", true), Err(Refused::Unknown("no_fnce".into())));
        assert_eq!(wanted_of("no_fence", false), Err(Refused::Kept));
    }

    #[test]
    fn a_name_removes_one_guard() {
        for guard in Guard::ALL {
            assert_eq!(Guard::named(guard.name()), Some(*guard));
            assert!(!is_removed(*guard), "these tests run with all guards");
        }
    }
}
