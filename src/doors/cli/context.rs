//! What every verb gets: the runs service, wired to the real disk and clock, and how to print.
//!
//! May not know verbs. Invariant: flag beats environment beats default.

use std::path::PathBuf;
use std::rc::Rc;

use crate::ground::clock::SystemClock;
use crate::ground::limits::LOCK_WAIT_MS_DEFAULT;
use crate::ports::disk::std::StdDisk;
use crate::services::runs::Runs;
use crate::services::runs::hosts::ChildHosts;

use super::failure::Failure;
use super::input;

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory that holds the runs [default: ~/.dormouse/runs]
    #[arg(long, alias = "runs-dir", global = true, env = "DORMOUSE_RUNS_ROOT", value_name = "DIR")]
    pub(super) runs_root: Option<PathBuf>,
    /// Print JSON on standard output, errors as one JSON object on standard error
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// How long to wait for somebody else's lock, such as 500ms or 10s
    #[arg(long, global = true, env = "DORMOUSE_LOCK_TIMEOUT", value_name = "DURATION")]
    pub(super) lock_timeout: Option<humantime::Duration>,
    /// Accept a runs root on this filesystem type although its promises are unknown
    #[arg(long, global = true, value_name = "TYPE")]
    pub(super) allow_fs: Option<String>,
    /// Who acts, as it will stand in the journal
    #[arg(long, global = true, env = "DORMOUSE_OPERATOR", value_name = "NAME")]
    pub(super) operator: Option<String>,
}

/// The wiring of one command.
pub(crate) struct Context {
    /// The runs.
    pub(super) runs: Runs,
    /// Print JSON.
    pub(super) json: bool,
}

/// Longest wall-clock time of one turn: a host that neither computes nor answers is stuck.
const TURN_WALL_MAX_MS: u64 = 60_000;

impl Context {
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        let root = match (&global.runs_root, std::env::var_os("HOME")) {
            (Some(root), _) => input::absolute(root)?,
            (None, Some(home)) => PathBuf::from(home).join(".dormouse/runs"),
            (None, None) => {
                return Err(Failure::usage(
                    "no runs root: HOME is not set",
                    "give --runs-root DIR",
                ));
            }
        };
        let exe = std::env::current_exe()
            .map_err(|e| Failure::usage(&format!("this program cannot be found: {e}"), ""))?;
        let name = global.operator.clone().or_else(|| std::env::var("USER").ok());
        let wait = global.lock_timeout.map(|d| d.as_millis());
        Ok(Self {
            runs: Runs {
                disk: Rc::new(StdDisk),
                clock: Rc::new(SystemClock),
                hosts: Rc::new(ChildHosts { exe }),
                root,
                lock_wait_ms: wait
                    .map_or(LOCK_WAIT_MS_DEFAULT, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
                allow_fs: global.allow_fs.clone(),
                turn_wall_max_ms: TURN_WALL_MAX_MS,
                by: format!("operator:{}", name.filter(|n| !n.is_empty()).unwrap_or("cli".into())),
            },
            json: global.json,
        })
    }
}
