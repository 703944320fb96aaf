//! Schedules: what is decided about each time, through crashes, clocks that are set, and a daemon.

use crate::cli::Cli;
use crate::served::{Served, runs};
use crate::yard::Ahead;
use dormouse::codecs::outline::Notation;
use dormouse::ground::clock::{Clock, ManualClock, Timestamp};
use dormouse::ground::id::RunId;
use dormouse::machines::schedule::Name;
use dormouse::machines::schedule::state::{Decision, State};
use dormouse::machines::workflow::cron;
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::services::runs::create::NewRun;
use dormouse::services::runs::trouble::Trouble;
use dormouse::services::runs::{Error, Result, Runs};
use dormouse::services::schedules::book::Document;
use dormouse::services::schedules::hands::{Hands, Standing};
use dormouse::services::schedules::keeper::Keeper;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

const MINUTE_MS: u64 = 60_000;

/// A schedule whose runs wait for a person, with more members of its spec.
fn document(more: &str) -> String {
    format!(
        "apiVersion: aether/v1\nkind: CronWorkflow\nmetadata: {{name: tick}}\nspec:\n  \
         schedule: '* * * * *'\n{more}  workflowSpec:\n    entrypoint: ask\n    timeout: 0s\n    \
         templates:\n      - task: {{name: ask, executor: {{type: breakpoint, config: \
         {{title: 'at {{{{cron.scheduledAt}}}}'}}}}}}\n"
    )
}

fn name() -> Name {
    "tick".parse().unwrap()
}

/// The runs of a root that is no more than a list: it outlives every crash.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    runs: BTreeMap<RunId, Standing>,
    asked: usize,
    /// After so many deeds the answer to one is lost.
    silent_at: usize,
}

impl Hands for World {
    fn create(&mut self, run: NewRun, _: &str) -> Result<()> {
        let mut known = self.0.lock().unwrap();
        known.runs.entry(run.run_id.unwrap()).or_insert(Standing::Open);
        known.asked += 1;
        if known.asked == known.silent_at {
            let trouble = Trouble::new("unknown_outcome", "nobody knows");
            return Err(Error::Storage { trouble, unknown: true });
        }
        Ok(())
    }

    fn cancel(&mut self, run: &RunId, _: &str) -> Result<()> {
        self.0.lock().unwrap().runs.insert(run.clone(), Standing::Failed);
        Ok(())
    }

    fn standing(&mut self, run: &RunId) -> Result<Standing> {
        Ok(self.0.lock().unwrap().runs.get(run).copied().unwrap_or(Standing::Gone))
    }
}

/// A root on a disk that can die, and a clock of the test's.
struct Site {
    disk: MemoryDisk,
    clock: Arc<ManualClock>,
    world: World,
}

impl Site {
    /// Half a minute before noon.
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new(seed);
        disk.create_dirs(Path::new("/runs/.dormouse")).unwrap();
        disk.power_cut();
        let start: Timestamp = "2026-11-20T11:59:30.000000Z".parse().unwrap();
        Self { disk, clock: Arc::new(ManualClock::at(start)), world: World::default() }
    }

    fn open(&self) -> Result<Keeper> {
        let runs = Runs {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as _,
            ..runs("/runs".into())
        };
        Keeper::open(&runs, Box::new(self.world.clone()))
    }

    fn pass_ms(&self, millis: u64) {
        self.clock.sleep_millis(millis);
    }

    /// What was decided, time by time.
    fn decisions(&self) -> Vec<&'static str> {
        let state = self.open().unwrap().show(&name()).unwrap().state;
        let each = |told: &dormouse::machines::schedule::state::Decided| {
            std::iter::repeat_n(told.decision.word(), usize::try_from(told.count).unwrap())
        };
        state.recent.iter().flat_map(each).collect()
    }

    fn runs(&self) -> Vec<String> {
        let known = self.world.0.lock().unwrap();
        known.runs.keys().map(|run| run.as_str().rsplit('-').next().unwrap().to_owned()).collect()
    }
}

fn apply(keeper: &mut Keeper, more: &str) -> Result<()> {
    let (document, _) = Document::read(&document(more), Notation::Yaml)?;
    keeper.apply(&document, "client:test").map(drop)
}

/// The run of 12:00 has not ended; then nobody looks until 12:03:30. Three times have come: 12:01,
/// 12:02 and 12:03.
#[test]
fn each_policy_decides_in_its_own_way() {
    const ALLOW: &str = "  concurrencyPolicy: Allow\n";
    const FORBID: &str = "  concurrencyPolicy: Forbid\n";
    const REPLACE: &str = "  concurrencyPolicy: Replace\n";
    const LATEST: &str = "";
    const ALL: &str = "  x-dormouse: {catchUp: all}\n";
    const TWO: &str = "  x-dormouse: {catchUp: all, maxCatchUp: 2}\n";
    const NONE: &str = "  x-dormouse: {catchUp: none}\n";
    const BRIEF: &str = "  x-dormouse: {catchUp: all}\n  startingDeadlineSeconds: 60\n";
    for (overlap, catch_up, decided, cancelled) in [
        (ALLOW, LATEST, ["missed", "missed", "started"], 0),
        (ALLOW, ALL, ["started", "started", "started"], 0),
        (ALLOW, TWO, ["dropped", "started", "started"], 0),
        (ALLOW, NONE, ["missed", "missed", "missed"], 0),
        (ALLOW, BRIEF, ["skipped-deadline", "skipped-deadline", "started"], 0),
        (FORBID, LATEST, ["missed", "missed", "skipped-forbid"], 0),
        (FORBID, ALL, ["skipped-forbid", "skipped-forbid", "skipped-forbid"], 0),
        (FORBID, TWO, ["dropped", "skipped-forbid", "skipped-forbid"], 0),
        (FORBID, NONE, ["missed", "missed", "missed"], 0),
        (FORBID, BRIEF, ["skipped-deadline", "skipped-deadline", "skipped-forbid"], 0),
        (REPLACE, LATEST, ["missed", "missed", "started"], 1),
        (REPLACE, ALL, ["started", "started", "started"], 3),
        (REPLACE, TWO, ["dropped", "started", "started"], 2),
        (REPLACE, NONE, ["missed", "missed", "missed"], 0),
        (REPLACE, BRIEF, ["skipped-deadline", "skipped-deadline", "started"], 1),
    ] {
        let (site, what) = (Site::new(1), format!("{overlap}{catch_up}"));
        let mut keeper = site.open().unwrap();
        apply(&mut keeper, &format!("{overlap}{catch_up}")).unwrap();
        site.pass_ms(30_000);
        keeper.pass();
        drop(keeper);
        assert_eq!(site.decisions(), ["started"], "{what}");
        site.pass_ms(210_000);
        site.open().unwrap().pass();
        assert_eq!(site.decisions()[1..], decided, "{what}");
        let known = site.world.0.lock().unwrap();
        let open = known.runs.values().filter(|run| **run == Standing::Open).count();
        let started = decided.iter().filter(|word| **word == "started").count();
        assert_eq!(open, 1 + started - cancelled, "{what}");
    }
}

/// Applies, then passes through five minutes with a look at each. Nothing as soon as the disk dies.
fn scenario(site: &Site, more: &str, has_applied: &mut bool) -> Option<()> {
    let mut keeper = site.open().ok()?;
    apply(&mut keeper, more).ok()?;
    *has_applied = true;
    for _ in 0..5 {
        site.pass_ms(MINUTE_MS);
        keeper.pass();
        if site.disk.is_dead() {
            return None;
        }
    }
    Some(())
}

/// Dies at the `nth` step, begins again and goes on. Whether it came through without dying.
fn crashes_at(nth: u64, power: bool, more: &str, (seed, silent_at): (u64, usize)) -> bool {
    let site = Site::new(seed * 1_000 + nth);
    site.world.0.lock().unwrap().silent_at = silent_at;
    let (mut has_applied, what) = (false, format!("{power} {more} {seed}: crash at {nth}"));
    site.disk.fail_at(nth, Fault::Die);
    let through = scenario(&site, more, &mut has_applied).is_some();
    if power {
        site.disk.power_cut();
    } else {
        site.disk.kill();
    }
    let mut keeper = site.open().unwrap();
    if keeper.show(&name()).is_err() {
        assert!(!has_applied, "{what}: the schedule is gone");
        apply(&mut keeper, more).unwrap();
    }
    let begin = keeper.show(&name()).unwrap().card.applied_at;
    // Whatever was to be tried again is.
    for _ in 0..4 {
        site.pass_ms(MINUTE_MS);
        keeper.pass();
    }
    let state = keeper.show(&name()).unwrap().state;
    let passed = site.clock.now().millis() / 60_000 - begin.millis() / 60_000;
    let passed = u64::try_from(passed).unwrap();
    assert_eq!(state.counts.values().sum::<u64>(), passed, "{what}: {:?}", state.counts);
    let started = state.counts[&Decision::Started];
    assert_eq!(site.runs().len() as u64, started, "{what}: {:?}", site.runs());
    assert!(more.is_empty() || started == passed, "{what}: {:?}", state.counts);
    assert!(state.wanted.is_empty(), "{what}");
    through
}

/// Wherever a daemon dies, each time has one decision in the end, and a run if it was started. The
/// answer to one creation is lost besides.
#[test]
fn no_crash_loses_a_time_or_makes_a_second_run_of_it() {
    for power in [false, true] {
        for more in ["", "  x-dormouse: {catchUp: all}\n"] {
            for how in [(0, 0), (1, 1), (2, 3)] {
                let steps = (1..).take_while(|nth| !crashes_at(*nth, power, more, how)).count();
                assert!(steps > 40, "the scenario has only {steps} steps");
            }
        }
    }
}

#[test]
fn a_clock_that_is_set_back_decides_nothing_again() {
    let site = Site::new(1);
    let mut keeper = site.open().unwrap();
    apply(&mut keeper, "").unwrap();
    site.pass_ms(3 * MINUTE_MS);
    keeper.pass();
    drop(keeper);
    let before = site.decisions();
    assert_eq!(before, ["missed", "missed", "started"]);
    let back = Site {
        disk: site.disk.clone(),
        clock: Arc::new(ManualClock::at(site.clock.now().earlier_by(2 * MINUTE_MS))),
        world: site.world.clone(),
    };
    let mut keeper = back.open().unwrap();
    keeper.pass();
    assert!(keeper.show(&name()).unwrap().remark().unwrap().contains("clock was set back"));
    back.pass_ms(2 * MINUTE_MS);
    keeper.pass();
    assert_eq!(back.decisions(), before);
    back.pass_ms(MINUTE_MS);
    keeper.pass();
    assert_eq!(back.decisions().len(), before.len() + 1);
    assert_eq!(back.runs(), ["20261120T1202Z", "20261120T1203Z"]);
}

#[test]
fn a_paused_schedule_passes_times_over_and_a_trigger_does_not_mind() {
    let site = Site::new(1);
    let mut keeper = site.open().unwrap();
    apply(&mut keeper, "  concurrencyPolicy: Forbid\n").unwrap();
    site.pass_ms(MINUTE_MS);
    assert_eq!(keeper.suspend(&name(), true).unwrap().word(), "suspended");
    site.pass_ms(2 * MINUTE_MS);
    assert_eq!(keeper.trigger(&name()).unwrap_err().trouble().code, "schedule_busy");
    site.world.0.lock().unwrap().runs.values_mut().for_each(|run| *run = Standing::Succeeded);
    let besides = keeper.trigger(&name()).unwrap();
    assert!(besides.as_str().ends_with("-20261120T1202Z-1"), "{besides}");
    assert_eq!(keeper.suspend(&name(), false).unwrap().word(), "active");
    let expected = ["started", "skipped-suspended", "skipped-suspended", "started"];
    assert_eq!(site.decisions(), expected);
    let state = keeper.show(&name()).unwrap().state;
    assert_eq!((state.open.len(), state.succeeded.len()), (1, 1));
}

/// Times that were missed get their runs, one after the other where runs may not overlap.
#[test]
fn what_was_missed_can_be_asked_for_once() {
    let site = Site::new(1);
    let mut keeper = site.open().unwrap();
    apply(&mut keeper, "  concurrencyPolicy: Forbid\n").unwrap();
    site.pass_ms(4 * MINUTE_MS);
    keeper.pass();
    let (from, until) = ("2026-11-20T12:00:00.000000Z", "2026-11-20T13:00:00.000000Z");
    let ask = |keeper: &mut Keeper| {
        keeper.backfill(&name(), from.parse().unwrap(), until.parse().unwrap()).unwrap().len()
    };
    assert_eq!(ask(&mut keeper), 3);
    assert_eq!(site.runs(), ["20261120T1203Z"]);
    drop(keeper);
    let mut keeper = site.open().unwrap();
    for expected in 2..=4 {
        site.world.0.lock().unwrap().runs.values_mut().for_each(|run| *run = Standing::Succeeded);
        site.pass_ms(6_000);
        keeper.pass();
        assert_eq!(site.runs().len(), expected);
    }
    assert_eq!(ask(&mut keeper), 0);
}

#[test]
fn another_document_needs_another_name_and_damage_stays_with_its_schedule() {
    let site = Site::new(1);
    let mut keeper = site.open().unwrap();
    apply(&mut keeper, "").unwrap();
    apply(&mut keeper, "").unwrap();
    let refused = apply(&mut keeper, "  suspend: true\n").unwrap_err();
    assert_eq!(refused.trouble().code, "schedule_exists");
    drop(keeper);
    let state = Path::new("/runs/.dormouse/schedules/default.tick/state.json");
    site.disk.tamper(state, |bytes| bytes[20] ^= 1);
    let mut keeper = site.open().unwrap();
    let listed = keeper.list();
    assert_eq!((listed.schedules.len(), listed.damaged[0].1.code), (0, "schedule_damaged"));
    assert_eq!(apply(&mut keeper, "").unwrap_err().trouble().code, "schedule_damaged");
    keeper.delete(&name()).unwrap();
    assert_eq!(keeper.delete(&name()).unwrap_err().trouble().code, "schedule_not_found");
    apply(&mut keeper, "  suspend: true\n").unwrap();
}

/// A year of minutes is made up for in a few looks; a year of days and hours, look by look, on
/// clocks that are changed. Each time has one decision.
#[test]
fn a_year_passes_without_a_time_that_nobody_decided_about() {
    let start: Timestamp = "2026-01-01T00:00:30.000000Z".parse().unwrap();
    let plan = |schedule: &str, zone: &str| {
        let text = document("").replace("* * * * *", schedule);
        let text = text.replace("spec:\n  s", &format!("spec:\n  timezone: {zone}\n  s"));
        cron::read(&text, Notation::Yaml).schedule.unwrap().plan
    };
    let total = |state: &State| state.counts.values().sum::<u64>();
    let minutes = plan("* * * * *", "UTC");
    let mut state = State::new(start, false);
    let year = start.plus_millis(365 * 24 * 60 * 60 * 1000);
    while state.advance(&minutes, &name(), year).goes_on {}
    assert_eq!((total(&state), state.wanted.len()), (525_600, 1));
    for (schedule, expected) in [("30 2 * * *", 365), ("0 * * * *", 365 * 24)] {
        let plan = plan(schedule, "Europe/Berlin");
        let mut state = State::new(start, false);
        while let Some(next) = state.next(&plan).filter(|next| *next <= year) {
            state.advance(&plan, &name(), next);
            let fires: Vec<RunId> = state.wanted.iter().map(|fire| fire.run_id.clone()).collect();
            for run in fires {
                state.exists(&run);
                state.ended(&run, true);
            }
            for run in state.surplus(&plan) {
                state.removed(&run);
            }
        }
        assert_eq!(state.counts, BTreeMap::from([(Decision::Started, expected)]), "{schedule}");
    }
}

/// Through the door and the command line: a run begins in time, knows its time, and there is one of
/// it after a restart.
#[test]
fn a_daemon_makes_runs_in_time() {
    let clock = Arc::new(Ahead::default());
    let mut served = Served::at(Cli::new(), Arc::clone(&clock) as _, |_| {});
    let file = served.cli.file("tick.yaml", document("")).display().to_string();
    served.cli.args(&["schedule", "apply", &file]).exits(0);
    let shown = |served: &Served| served.get("/v1/schedules/default/tick").ok();
    let started = |served: &Served| shown(served)["counts"]["started"].as_u64().unwrap_or(0);
    let before = started(&served);
    clock.by_millis(i64::try_from(MINUTE_MS).unwrap());
    assert!(started(&served) > before);
    assert_eq!(served.get("/v1/status").ok()["schedules"], 1);
    let run = shown(&served)["open"][0].as_str().unwrap().to_owned();
    served.rests(&run);
    let of_run = served.get(&format!("/v1/runs/{run}")).ok();
    let scheduled = of_run["schedule"]["scheduledAt"].as_str().unwrap().replace(".000000Z", "Z");
    let title = of_run.to_string();
    assert!(title.contains(&format!("at {scheduled}")), "{title}");
    served.cli.args(&["schedule", "pause", "tick"]).exits(0);
    served.restart();
    let listed = served.get("/v1/runs?tag=schedule%3Adefault%2Ftick").ok();
    let count = listed["runs"].as_array().unwrap().len() as u64;
    assert_eq!(count, started(&served));
    let triggered = served.cli.args(&["schedule", "trigger", "tick"]).exits(0);
    served.cli.args(&["run", "show", triggered.out.trim()]).exits(0);
    served.stop();
    let listed: Value =
        serde_json::from_str(&served.cli.run("--json schedule list").exits(0).out).unwrap();
    assert_eq!(listed["schedules"][0]["state"], json!("suspended"));
    assert!(served.cli.run("schedule show tick").exits(0).out.contains("tick: suspended"));
    served.cli.run("schedule show tock").exits(3);
    assert!(!served.cli.run("fsck").out.contains("D24"));
    served.cli.file("runs/.dormouse/schedules/default.tick/state.json", "{}");
    served.cli.run("schedule list").exits(5);
    assert!(served.cli.run("fsck").out.contains("D24"));
}
