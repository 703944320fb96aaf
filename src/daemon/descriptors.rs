//! How the file descriptors of a daemon are shared out: journals, connections, runs in memory.
//!
//! May not open anything. Invariant: the shares together leave a quarter or more of what there is
//! for everything else: hosts, the index, the log itself, jobs under way.

use crate::ground::limits::{
    DESCRIPTORS_KEPT, DESCRIPTORS_MIN, FD_CACHE_MAX, HTTP_CONNECTIONS_MAX, RUN_DESCRIPTORS,
    SSE_FOLLOWERS_MAX,
};
use crate::ports::process;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

/// Listeners of the HTTP door: the Unix socket, and TCP.
const LISTENERS: u64 = 2;

/// What may be open of each sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Journal files.
    pub journals: usize,
    /// Connections of one listener.
    pub connections: usize,
    /// Clients that follow runs.
    pub followers: usize,
    /// Runs in memory.
    pub runs: usize,
}

impl Shares {
    /// Shares out what this process may have open.
    pub fn of_process() -> Result<Self> {
        Self::of(process::descriptors_max())
    }

    /// Shares out `all` descriptors; refuses when they are too few for a daemon.
    pub fn of(all: u64) -> Result<Self> {
        if all < DESCRIPTORS_MIN {
            let what = format!(
                "`ulimit -n` allows {all} open files, a daemon needs {DESCRIPTORS_MIN} or more"
            );
            let trouble = Trouble::new("too_few_descriptors", what);
            return Err(Error::Invalid(trouble.next("raise `ulimit -n`, then start it again")));
        }
        let at_most = |share: u64, max: usize| usize::try_from(share).unwrap_or(max).min(max);
        let connections = at_most(all / 8 / LISTENERS, HTTP_CONNECTIONS_MAX);
        let kept = DESCRIPTORS_KEPT.min(all / 4 * 3);
        Ok(Self {
            journals: at_most(all / 4, FD_CACHE_MAX),
            connections,
            followers: SSE_FOLLOWERS_MAX.min(connections / 2),
            runs: at_most((all - kept) / RUN_DESCRIPTORS, usize::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_descriptors_everything_shrinks_and_something_is_left() {
        let rich = Shares::of(1 << 20).unwrap();
        assert_eq!((rich.journals, rich.connections), (FD_CACHE_MAX, HTTP_CONNECTIONS_MAX));
        assert_eq!(rich.followers, SSE_FOLLOWERS_MAX);
        for all in [DESCRIPTORS_MIN, 300, 1_024, 2_048, 4_096, 8_192] {
            let shares = Shares::of(all).unwrap();
            assert!(shares.journals as u64 <= all / 4, "{all}: {shares:?}");
            assert!(shares.followers < shares.connections && shares.runs > 0, "{all}: {shares:?}");
            let taken = shares.journals as u64
                + LISTENERS * shares.connections as u64
                + RUN_DESCRIPTORS * shares.runs as u64;
            assert!(all - taken >= all / 8 * 3 || all - taken >= 512, "{all}: {shares:?}");
        }
    }

    #[test]
    fn too_few_are_refused_with_the_value_and_the_minimum() {
        let Err(Error::Invalid(trouble)) = Shares::of(DESCRIPTORS_MIN - 1) else {
            panic!("a daemon began")
        };
        for word in ["ulimit -n", "255", "256"] {
            assert!(trouble.what.contains(word), "{}", trouble.what);
        }
    }
}
