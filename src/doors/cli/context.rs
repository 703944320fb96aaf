//! What every verb gets: the runs service, wired to the real disk and clock, and how to print.
//!
//! May not know verbs. Invariant: flag beats environment beats file beats default.

use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::config::{Config, Given, Settings};
use crate::ground::clock::SystemClock;
use crate::ground::limits::LOCK_WAIT_MS_DEFAULT;
use crate::ports::disk::fault::{FaultDisk, Plan};
use crate::ports::disk::std::StdDisk;
use crate::services::runs::Runs;
use crate::services::runs::create::host_limits;
use crate::services::runs::hosts::ChildHosts;
use crate::services::runs::kinds::KnownKinds;
use crate::services::telemetry::Telemetry;

use super::failure::Failure;
use super::{input, variables};

/// Options of every command.
#[derive(Debug, Default, clap::Args)]
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
    /// CPU time that one turn of a process may take, such as 5s [default: 2s]
    #[arg(long, global = true, env = "DORMOUSE_TURN_CPU_MAX", value_name = "DURATION")]
    pub(super) turn_cpu_max: Option<humantime::Duration>,
    /// Memory that one process may use, in MiB [default: 256]
    #[arg(long, global = true, env = "DORMOUSE_HEAP_MAX", value_name = "MIB")]
    #[arg(value_parser = clap::value_parser!(u64).range(8..=65_536))]
    pub(super) heap_max: Option<u64>,
    /// Who acts, as it will stand in the journal
    #[arg(long, global = true, env = "DORMOUSE_OPERATOR", value_name = "NAME")]
    pub(super) operator: Option<String>,
    /// Configuration file [default: ~/.config/dormouse/config.toml, if it is there]
    #[arg(long, global = true, env = "DORMOUSE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Use no daemon: work on the files, and fail if a daemon owns them
    #[arg(long, global = true, env = "DORMOUSE_OFFLINE")]
    #[arg(value_parser = variables::switch)]
    pub(super) offline: bool,
}

/// The wiring of one command.
#[derive(Clone)]
pub(crate) struct Context {
    /// The runs.
    pub(super) runs: Runs,
    /// Print JSON.
    pub(super) json: bool,
    /// The configuration.
    pub(super) config: Config,
    /// Where each value of it comes from.
    pub(super) settings: Settings,
    /// Use no daemon.
    pub(super) offline: bool,
}

/// What a verb adds to the options of every command: key, value, name of the option.
pub(super) type Extra = Vec<(&'static str, String, &'static str)>;

/// Longest wall-clock time of one turn: a host that neither computes nor answers is stuck.
const TURN_WALL_MAX_MS: u64 = 60_000;

impl Context {
    /// Reads the configuration and wires the services.
    pub(super) fn new(global: &Global, extra: Extra) -> Result<Self, Failure> {
        let file = global.config.as_deref().map(input::absolute).transpose()?;
        let mut options = options(global);
        options.extend(extra);
        let given = Given { file, variable: &|name| std::env::var(name).ok(), options };
        let (config, settings) = Config::load(&StdDisk, &given)?;
        variables::warn();
        Self::wired(global, config, settings)
    }

    /// For verbs that need no configuration: a broken one must not keep anybody from reading about
    /// it.
    pub(super) fn unconfigured(global: &Global) -> Result<Self, Failure> {
        Self::wired(global, Config::default(), Settings::default())
    }

    fn wired(global: &Global, config: Config, settings: Settings) -> Result<Self, Failure> {
        let root = match (&global.runs_root, &config.runs_root, std::env::var_os("HOME")) {
            (Some(root), _, _) | (None, Some(root), _) => input::absolute(root)?,
            (None, None, Some(home)) => PathBuf::from(home).join(".dormouse/runs"),
            (None, None, None) => {
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
        let mut limits = host_limits();
        limits.turn_cpu_max_ms = config.hosts.turn_cpu_max_ms;
        limits.load_cpu_max_ms = limits.load_cpu_max_ms.max(limits.turn_cpu_max_ms);
        limits.heap_bytes_max = config.hosts.heap_bytes_max;
        // A turn that computes without waiting takes as long as its CPU time; give it room.
        let wall = limits.load_cpu_max_ms.saturating_mul(4).max(TURN_WALL_MAX_MS);
        let named = config.executors.signatures.as_ref();
        let kinds = named.map(|path| KnownKinds::of_file(&StdDisk, path)).transpose()?;
        let kinds = kinds.unwrap_or_default();
        Ok(Self {
            runs: Runs {
                disk: Arc::new(StdDisk),
                clock: Arc::new(SystemClock),
                hosts: Arc::new(ChildHosts { exe }),
                root,
                lock_wait_ms: wait
                    .map_or(LOCK_WAIT_MS_DEFAULT, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
                allow_fs: global.allow_fs.clone(),
                limits,
                turn_wall_max_ms: wall,
                kinds,
                by: format!("operator:{}", name.filter(|n| !n.is_empty()).unwrap_or("cli".into())),
                telemetry: Telemetry::default(),
            },
            json: global.json,
            config,
            settings,
            offline: global.offline,
        })
    }

    /// The same on a disk that fails by a plan.
    pub(super) fn on_faulty_disk(&self, plan: Plan) -> Self {
        let disk = Arc::new(FaultDisk::new(Arc::clone(&self.runs.disk), plan));
        Self { runs: Runs { disk, ..self.runs.clone() }, ..self.clone() }
    }

    /// The name of who acts, alone.
    pub(super) fn operator(&self) -> &str {
        self.runs.by.trim_start_matches("operator:")
    }
}

/// The options of every command that are keys of the configuration as well.
fn options(global: &Global) -> Extra {
    let root = global.runs_root.as_ref().and_then(|root| input::absolute(root).ok());
    let root =
        root.map(|root| ("runs_root", root.display().to_string(), "--runs-root or its variable"));
    let cpu = global.turn_cpu_max.map(|cpu| {
        let millis = cpu.as_millis().max(1);
        ("hosts.turn_cpu_max", format!("{millis}ms"), "--turn-cpu-max or its variable")
    });
    let heap = global
        .heap_max
        .map(|mib| ("hosts.heap_bytes_max", format!("{mib}MiB"), "--heap-max or its variable"));
    [root, cpu, heap].into_iter().flatten().collect()
}
