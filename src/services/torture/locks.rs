//! Two owners of one root: whoever comes second, by whatever way, is told so; whoever is alone
//! gets it, whatever the lock's text says.
//!
//! May not know how locks are held. Invariant: each case begins with a root of its own.

use rustix::process::Signal;

use super::yard::{START_MS_MAX, Yard};
use super::{Broken, Options, Outcome, Scenario, Size};
use crate::ports::disk::{Atomic, write_atomic};
use crate::shells::trial::Trial;

/// Exit code of whoever is told that the root has an owner.
const OWNED: i32 = 4;
/// Daemons that are started at the same moment.
const RIVALS: usize = 4;

/// A case: what is tried, and what is wrong then.
type Case = (&'static str, fn(&Yard) -> Result<Vec<String>, Broken>);

const CASES: &[Case] = &[
    ("a second daemon", second),
    ("a second daemon by another way", by_link),
    ("a command without the daemon", offline),
    ("several daemons at once", rivals),
    ("an owner that is stopped", stopped),
    ("an owner that was killed", killed),
    ("an empty lock", |yard| alone(yard, "")),
    ("a lock full of garbage", |yard| alone(yard, "\u{1}\u{2}garbage{{{")),
    ("the lock of somebody who lives", |yard| alone(yard, &note(std::process::id(), ""))),
    ("the lock of the first process", |yard| alone(yard, &note(1, ""))),
    ("the lock of another start of the machine", |yard| {
        alone(yard, &note(std::process::id(), "00000000-0000-4000-8000-000000000000"))
    }),
    ("the lock of a newer version", |yard| alone(yard, "{\"v\":9,\"pid\":1}\n")),
];

/// Tries every case.
pub(super) fn run(options: &Options) -> Result<Outcome, Broken> {
    let rounds = if options.size == Size::Full { 20 } else { 1 };
    let mut outcome = Outcome::of(Scenario::Locks, options);
    for _ in 0..rounds {
        for (what, case) in CASES {
            let mut yard = Yard::new(&options.ground)?;
            let found = case(&yard)?.into_iter().map(|found| format!("{what}: {found}")).collect();
            outcome.found(&mut yard, found);
            outcome.hits += 1;
        }
    }
    outcome.did("cases", CASES.len() * rounds);
    outcome.wanted = outcome.hits;
    Ok(outcome)
}

/// The text that a process leaves in its lock.
fn note(pid: u32, boot: &str) -> String {
    let note = serde_json::json!({
        "v": 1, "pid": pid, "boot_id": boot, "started": "2026-11-21T12:00:00.000000Z",
        "exe": "x", "cmd": "x", "host": "x", "state": "open", "head_seq": 0, "head_sum": null,
        "failures": 0,
    });
    format!("{note}\n")
}

fn owner(yard: &Yard) -> Result<Trial, Broken> {
    yard.serve()?.map_err(|said| Broken(format!("no daemon comes up: {said}")))
}

/// What is wrong with an attempt that has to be turned away.
fn turned_away(yard: &Yard, args: &[&str]) -> Result<Vec<String>, Broken> {
    let mut args = args.to_vec();
    args.extend(["--lock-timeout", "100ms"]);
    let mut rival = yard.program().start(&args, super::yard::READY)?;
    if rival.is_ready(START_MS_MAX) {
        return Ok(vec!["there are two owners".to_owned()]);
    }
    let code = std::iter::repeat_with(|| rival.ended()).flatten().next();
    Ok(match code {
        Some(OWNED) => Vec::new(),
        other => vec![format!("it ends with {other:?}: {}", rival.said())],
    })
}

/// What is wrong with an owner that somebody else has tried to replace.
fn unharmed(owner: Trial) -> Option<String> {
    let code = owner.stop();
    (code != 0).then(|| format!("the owner ended with {code}"))
}

fn second(yard: &Yard) -> Result<Vec<String>, Broken> {
    let owner = owner(yard)?;
    let mut found = turned_away(yard, &["serve"])?;
    found.extend(unharmed(owner));
    Ok(found)
}

fn by_link(yard: &Yard) -> Result<Vec<String>, Broken> {
    let owner = owner(yard)?;
    let link = yard.top.join("other").display().to_string();
    let linked = yard.tool("ln").run(&["-s", &yard.root().display().to_string(), &link])?;
    if linked.code != 0 {
        return Err(Broken(linked.err));
    }
    let mut found = turned_away(yard, &["--runs-root", &link, "serve"])?;
    found.extend(unharmed(owner));
    Ok(found)
}

fn offline(yard: &Yard) -> Result<Vec<String>, Broken> {
    let owner = owner(yard)?;
    let args = ["--offline", "run", "create", "--run-id", "r"];
    let mut found = turned_away(yard, &args)?;
    found.extend(unharmed(owner));
    Ok(found)
}

fn rivals(yard: &Yard) -> Result<Vec<String>, Broken> {
    owner(yard)?.kill();
    let args = ["serve", "--lock-timeout", "100ms"];
    let start = |_| yard.program().start(&args, super::yard::READY);
    let all: Vec<Trial> = (0..RIVALS).map(start).collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    // Whoever has it keeps it until all have tried.
    let (owners, others): (Vec<Trial>, Vec<Trial>) =
        all.into_iter().partition(|rival| rival.is_ready(START_MS_MAX));
    for mut rival in others {
        if let Some(code) = rival.ended().filter(|code| *code != OWNED) {
            found.push(format!("a rival ended with {code}: {}", rival.said()));
        }
    }
    let owners = owners.len();
    if owners != 1 {
        found.push(format!("{owners} of {RIVALS} own the root"));
    }
    Ok(found)
}

fn stopped(yard: &Yard) -> Result<Vec<String>, Broken> {
    let owner = owner(yard)?;
    owner.signal(Signal::STOP);
    let mut found = turned_away(yard, &["serve"])?;
    owner.signal(Signal::CONT);
    found.extend(unharmed(owner));
    Ok(found)
}

fn killed(yard: &Yard) -> Result<Vec<String>, Broken> {
    owner(yard)?.kill();
    Ok(unharmed(owner(yard)?).into_iter().collect())
}

/// Nobody holds the root, whatever stands in its lock.
fn alone(yard: &Yard, text: &str) -> Result<Vec<String>, Broken> {
    owner(yard)?.kill();
    let dir = yard.disk().open_dir(&yard.root().join(".dormouse"))?;
    write_atomic(&*dir, "root.lock", text.as_bytes(), Atomic::DERIVED)?;
    Ok(match yard.serve()? {
        Ok(daemon) => unharmed(daemon).into_iter().collect(),
        Err(said) => vec![format!("nobody has it, and nobody gets it: {said}")],
    })
}
