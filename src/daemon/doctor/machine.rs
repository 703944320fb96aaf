//! The machine: program, clocks, descriptors, ports, process hosts.
//!
//! May not touch the root. Invariant: a port is bound for a moment only while nobody serves.

use std::net::TcpListener;

use super::Sign;
use crate::codecs::event::Profile;
use crate::codecs::turn::{FromHost, Module, Start, ToHost};
use crate::daemon::config::Config;
use crate::daemon::descriptors::Shares;
use crate::ground::clock::{Timestamp, monotonic_micros};
use crate::ground::limits::RUNS_LOADED_MAX;
use crate::ports::process;
use crate::services::runs::Runs;

/// No clock that is set shows a time before this version was made, nor a century after.
const YEARS: std::ops::Range<i64> = 2026..2126;
const YEAR_MILLIS: i64 = 31_556_952_000;

/// Looks at the machine.
pub(super) fn examine(runs: &Runs, config: &Config, is_served: bool) -> Vec<Sign> {
    let mut signs = vec![program(runs), clock(runs), descriptors(), hosts(runs)];
    if let Some(address) = config.http.listen.filter(|_| !is_served) {
        signs.push(match TcpListener::bind(address) {
            Ok(_) => Sign::well("port", format!("{address} is free")),
            Err(e) => {
                let next = "choose another http.listen, or stop who has it";
                Sign::ill("port", format!("{address}: {e}"), next)
            }
        });
    }
    signs
}

fn program(runs: &Runs) -> Sign {
    let system = rustix::system::uname();
    let seen = format!(
        "dormouse {} at {}, {} {} on {}",
        env!("CARGO_PKG_VERSION"),
        runs.hosts.program().display(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
    );
    if rustix::process::geteuid().is_root() {
        return Sign::weak("program", format!("{seen}, as root"), "give it a user of its own");
    }
    Sign::well("program", seen)
}

fn clock(runs: &Runs) -> Sign {
    let now: Timestamp = runs.clock.now();
    let year = 1970 + now.millis() / YEAR_MILLIS;
    let (before, ticked) = (monotonic_micros(), runs.clock.passed_millis());
    runs.clock.sleep_millis(2);
    let moves = monotonic_micros() > before && runs.clock.passed_millis() > ticked;
    if !moves {
        return Sign::ill("clock", "the monotonic clock stands still", "look at the machine");
    }
    if !YEARS.contains(&year) {
        let next = "set the clock: timers and deadlines go by it";
        return Sign::ill("clock", format!("it says {now}"), next);
    }
    Sign::well("clock", format!("{now}, and time passes"))
}

fn descriptors() -> Sign {
    let all = process::descriptors_max();
    match Shares::of(all) {
        Err(e) => Sign::ill("descriptors", e.to_string(), "raise `ulimit -n`"),
        Ok(shares) if (shares.runs as u64) < RUNS_LOADED_MAX => {
            let seen = format!("`ulimit -n` is {all}: {} runs in memory at a time", shares.runs);
            Sign::weak("descriptors", seen, "raise `ulimit -n` for more runs at a time")
        }
        Ok(shares) => {
            let runs = shares.runs;
            Sign::well("descriptors", format!("{all}: {runs} runs in memory at a time"))
        }
    }
}

/// What a host is asked to load.
const PROCESS: &str = "export async function process() { return 1; }";

/// Starts a process host and lets it load the smallest process there is.
fn hosts(runs: &Runs) -> Sign {
    let next = "processes would not be executed: try another kernel or container";
    let said = runs.hosts.spawn().and_then(|mut host| {
        let start = ToHost::Start(Box::new(smallest(runs)));
        host.call(&start, runs.limits.load_cpu_max_ms, runs.turn_wall_max_ms)
    });
    match said {
        Ok(FromHost::Started { .. }) => {
            Sign::well("hosts", "a process host starts and loads a process")
        }
        Ok(other) => Sign::ill("hosts", format!("it answers {other:?}"), next),
        Err(e) => Sign::ill("hosts", format!("{e:?}"), next),
    }
}

fn smallest(runs: &Runs) -> Start {
    let module = Module { path: "main.js".into(), source: PROCESS.into(), imports: [].into() };
    Start {
        run_id: "doctor".into(),
        seed_run_id: "doctor".into(),
        generation: 1,
        run_dir: "/".into(),
        cwd: None,
        process_id: "main".into(),
        profile: Profile::Dormouse,
        entry: "main.js".into(),
        export_name: None,
        modules: vec![module],
        inputs: None,
        carried: None,
        scheduled_at: None,
        clock_micros: 0,
        next_ordinal: 1,
        is_shown: false,
        system: None,
        known: Vec::new(),
        known_marks: Vec::new(),
        limits: runs.limits.clone(),
    }
}
