//! The index: what is told bit by bit is what would be told at once; files that are of no use are
//! made anew; lists are what their filters say, page by page, while rows come and go.

use crate::index_journals::{Chance, Life};
use crate::support::at;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::id::{EffectId, EffectName, RunId, Seq};
use dormouse::machines::effect::Wait;
use dormouse::machines::effect::life::EffectStatus;
use dormouse::machines::ready::rank;
use dormouse::machines::replay::automatic::automatic;
use dormouse::machines::replay::facts::{
    EffectFacts, Reason, Reasons, RunFacts, Update, touched, wake_at,
};
use dormouse::machines::replay::state::RunState;
use dormouse::ports::disk::std::StdDisk;
use dormouse::shells::store::{
    Batch, Change, Condition, Counts, EffectFilter, EffectRow, Index, LogSpan, Order, ReadyFilter,
    RunFilter, RunPlace, Timer, Verdict, Why, judge,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Does something bad to a file.
type Harm<'a> = &'a dyn Fn(&Path);
/// Whether a run belongs into a list.
type Fits = Box<dyn Fn(&RunFacts) -> bool>;
/// Whether an effect of a run belongs into a list.
type Admits = Box<dyn Fn(&RunId, &EffectFacts) -> bool>;

pub(crate) fn open(dir: &Path) -> (Index, Condition) {
    Index::open(&StdDisk, dir).unwrap()
}

pub(crate) fn put(update: Update) -> Change {
    Change::Put(Box::new(update))
}

fn run_id(n: usize) -> RunId {
    format!("run-{n:03}").parse().unwrap()
}

pub(crate) fn lives(seed: u64, count: usize, steps: usize) -> Vec<Life> {
    let chance = &mut Chance::new(seed);
    (0..count).map(|n| Life::at_random(&run_id(n), chance, steps)).collect()
}

/// What changed in a life between two places.
fn since(life: &Life, base: usize, now: usize, resting: bool) -> Update {
    let state = &life.states[now - 1];
    Update::since(state, resting, Seq(base as u64), &touched(state, &life.records[base..now]))
}

/// Lives told bit by bit, in turns, with how they rest at the end.
fn told(lives: &[Life], chance: &mut Chance) -> (Vec<Batch>, Vec<bool>) {
    let mut at = vec![0; lives.len()];
    let mut resting = vec![false; lives.len()];
    let mut batches = Vec::new();
    while lives.iter().zip(&at).any(|(life, at)| *at < life.records.len()) {
        let mut changes = Vec::new();
        for (n, life) in lives.iter().enumerate() {
            let more = usize::try_from(chance.below(4)).unwrap();
            let next = (at[n] + more).min(life.records.len());
            if next > 0 && (next > at[n] || chance.one_in(4)) {
                resting[n] = chance.one_in(2);
                changes.push(put(since(life, at[n], next, resting[n])));
                at[n] = next;
            }
        }
        batches.push(Batch { frame: batches.len() as u64 + 1, changes });
    }
    (batches, resting)
}

/// Everything that an index tells.
#[derive(Debug, PartialEq)]
struct Dump {
    runs: Vec<Update>,
    counts: Counts,
    timers: Vec<Timer>,
    runnable: Vec<RunId>,
    newest: Vec<RunFacts>,
    tagged: Vec<RunFacts>,
    effects: Vec<EffectRow>,
}

fn dump(index: &Index) -> Dump {
    let all = index.runs_after(None, true, 1000).unwrap();
    let tagged = RunFilter { tags: vec!["red".into()], ..RunFilter::default() };
    let newest = RunFilter::default();
    Dump {
        runs: all.iter().map(|run| index.whole(&run.run_id).unwrap().unwrap()).collect(),
        counts: index.counts().clone(),
        timers: index.timers(None, None, 1000).unwrap(),
        runnable: index.runnable(None, 1000).unwrap(),
        newest: index.runs(&newest, Order::Newest, 1000, None).unwrap().rows,
        tagged: index.runs(&tagged, Order::Oldest, 1000, None).unwrap().rows,
        effects: index.effects(&EffectFilter::default(), 1000, None).unwrap().rows,
    }
}

fn told_at_once(lives: &[Life], resting: &[bool]) -> Dump {
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    let whole = |(life, resting): (&Life, &bool)| put(Update::whole(life.last(), *resting));
    let changes = lives.iter().zip(resting).map(whole).collect();
    index.apply(&Batch { frame: 9, changes }).unwrap();
    dump(&index)
}

#[test]
fn g6_an_open_run_always_has_a_true_reason_to_wake() {
    let mut seen = BTreeSet::new();
    let states = (0..40).flat_map(|seed| lives(seed, 10, 60)).flat_map(|life| life.states);
    for state in states {
        for resting in [true, false] {
            let reasons = Reasons::of(&state, resting);
            check_reasons(&state, resting, reasons);
            seen.extend(reasons.names());
        }
    }
    assert_eq!(seen.len(), Reason::ALL.len(), "{seen:?}");
}

fn check_reasons(state: &RunState, resting: bool, reasons: Reasons) {
    let has = |reason| reasons.has(reason);
    assert_eq!(reasons.is_empty(), !state.is_open(), "{state:#?}");
    assert_eq!(Reasons::from_bits(reasons.bits()), reasons);
    let stopped = state.held.is_some() || state.process.is_none();
    if !state.is_open() || stopped {
        assert_eq!(wake_at(state), None);
        return;
    }
    let due_at_once = automatic(state, Timestamp::from_micros(i64::MIN)).is_some();
    assert!(!due_at_once || has(Reason::Runnable));
    assert!(state.paused.is_none() || has(Reason::Operator));
    assert!(resting || state.paused.is_some() || has(Reason::Runnable));
    assert!(state.timers.is_empty() || has(Reason::Timer));
    for effect in state.open_effects() {
        let wanted = match (&effect.wait, effect.status) {
            (_, EffectStatus::Uncertain) => Reason::Operator,
            (Wait::Breakpoint(_), _) => Reason::Person,
            (Wait::Signal(_), _) => Reason::Signal,
            (Wait::Run(_), _) => Reason::Child,
            (Wait::Outside, _) => Reason::Outside,
            (Wait::Hook(_) | Wait::Echo(_), _) => Reason::Runnable,
            (Wait::Sleep { .. }, _) => Reason::Timer,
        };
        assert!(has(wanted), "{effect:#?}");
    }
    if let Some(at) = wake_at(state) {
        let nothing = automatic(state, at.plus_millis(-1)).is_none();
        // An attempt that may be made then is for somebody else to make.
        let attempt = state.delayed.iter().any(|(when, _)| *when == at);
        let later = automatic(state, at).is_some() || state.cancel.is_some() || attempt;
        assert!(later && (nothing || due_at_once), "{at} {state:#?}");
    }
}

#[test]
fn what_is_told_bit_by_bit_is_what_is_told_at_once() {
    for seed in 0..25 {
        let lives = lives(seed, 8, 70);
        let mut chance = Chance::new(seed ^ 0x0bad);
        let (batches, resting) = told(&lives, &mut chance);
        let dir = tempfile::tempdir().unwrap();
        let (mut index, _) = open(dir.path());
        for batch in &batches {
            index.apply(batch).unwrap();
            // X3: frames may come twice.
            if chance.one_in(5) {
                index.apply(batch).unwrap();
            }
        }
        let right = told_at_once(&lives, &resting);
        assert_eq!(dump(&index), right, "seed {seed}");
        assert_eq!((index.applied(), index.has_missed()), (batches.len() as u64, false));
        index.set_complete(true).unwrap();
        index.close().unwrap();
        let (index, condition) = open(dir.path());
        assert_eq!(condition, Condition::Usable { applied: batches.len() as u64 });
        assert_eq!(dump(&index), right, "seed {seed}, opened again");
        for life in &lives {
            assert_eq!(index.whole(&life.run).unwrap().unwrap().run.head, life.last().head);
        }
    }
}

#[test]
fn a_change_that_was_lost_is_noticed_and_read_again() {
    let mut noticed = 0;
    for seed in 0..25 {
        let lives = lives(seed, 5, 40);
        let mut chance = Chance::new(seed);
        let (mut batches, _) = told(&lives, &mut chance);
        for batch in &mut batches {
            batch.changes.retain(|_| !chance.one_in(9));
        }
        let dir = tempfile::tempdir().unwrap();
        let (mut index, _) = open(dir.path());
        index.apply_all(&batches).unwrap();
        let missed = index.rereads(100).unwrap();
        assert_eq!(index.has_missed(), !missed.is_empty());
        noticed += missed.len();
        let of = |run: &RunId| lives.iter().find(|life| life.run == *run).unwrap();
        let stale = missed.iter().map(|(run, upto)| {
            // A reading that came too early does not count.
            let early = usize::try_from(upto.0).unwrap() - 1;
            put(Update::whole(&of(run).states[early.max(1) - 1], true))
        });
        index.apply(&Batch { frame: 0, changes: stale.collect() }).unwrap();
        assert_eq!(index.rereads(100).unwrap(), missed);
        let read = |(run, _): &(RunId, Seq)| put(Update::whole(of(run).last(), true));
        index.apply(&Batch { frame: 0, changes: missed.iter().map(read).collect() }).unwrap();
        assert_eq!(index.rereads(100).unwrap(), []);
        for (run, _) in &missed {
            let right = Update::whole(of(run).last(), true);
            assert_eq!(index.whole(run).unwrap(), Some(right), "seed {seed}");
        }
    }
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn a_copy_of_the_file_at_any_moment_is_caught_up_or_made_anew() {
    let lives = lives(3, 12, 120);
    let (batches, resting) = told(&lives, &mut Chance::new(5));
    let right = told_at_once(&lives, &resting);
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    index.set_complete(true).unwrap();
    let mut verdicts = BTreeMap::new();
    for (n, batch) in batches.iter().enumerate() {
        index.apply(batch).unwrap();
        if n % 7 == 3 {
            index.checkpoint_full().unwrap();
        }
        for kept in [u64::MAX, 0, 8_000, 30_000] {
            let copy = copy_of(dir.path(), kept);
            let (mut index, condition) = open(copy.path());
            let applied = index.applied();
            let Condition::Usable { applied: stated } = condition else {
                assert_eq!((condition, applied), (Condition::Rebuild(Why::Unreadable), 0));
                continue;
            };
            assert!(stated == applied && applied <= batch.frame);
            let whole = kept == u64::MAX;
            assert!(!whole || applied == batch.frame, "a killed process loses nothing");
            let last = batches.len() as u64;
            let released = batch.frame.saturating_sub(1).max(1);
            let verdict = judge(applied, LogSpan { first: Some(released), last });
            *verdicts
                .entry(format!("{verdict:?}").split('(').next().unwrap().to_owned())
                .or_insert(0) += 1;
            if let Verdict::Behind(from) = verdict {
                let rest = &batches[usize::try_from(from).unwrap() - 1..];
                index.apply_all(rest).unwrap();
                assert_eq!(dump(&index), right, "batch {n}, kept {kept}");
            }
            let log = LogSpan { first: None, last: applied.saturating_sub(1) };
            assert!(applied == 0 || judge(applied, log) == Verdict::Witness);
        }
    }
    assert!(verdicts["Behind"] > 20 && verdicts.contains_key("Rebuild"), "{verdicts:?}");
}

/// The files as they are, the write-ahead part up to `kept` bytes.
fn copy_of(dir: &Path, kept: u64) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["index.db", "index.db-wal"] {
        if dir.join(name).exists() {
            fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    let wal = copy.path().join("index.db-wal");
    if wal.exists() {
        let file = fs::OpenOptions::new().write(true).open(&wal).unwrap();
        file.set_len(file.metadata().unwrap().len().min(kept)).unwrap();
    }
    copy
}

#[test]
fn a_file_that_is_of_no_use_is_made_anew() {
    let sql = |path: &Path, text: &str| {
        rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
    };
    let damage: &[(&str, Why, Harm)] = &[
        ("text", Why::Unreadable, &|path| fs::write(path, "no database at all").unwrap()),
        ("head", Why::Unreadable, &|path| overwrite(path, 0, 16)),
        ("schema", Why::Unreadable, &|path| overwrite(path, 100, 900)),
        ("cut", Why::Unreadable, &|path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("pages", Why::Unreadable, &|path| {
            sql(path, "UPDATE meta SET value = 0 WHERE name = 'clean'");
            overwrite(path, 4096 * 3, 4096 * 20);
        }),
        ("foreign", Why::Foreign, &|path| sql(path, "PRAGMA application_id = 7")),
        ("newer", Why::OtherVersion, &|path| sql(path, "PRAGMA user_version = 99")),
        ("tables", Why::Unreadable, &|path| sql(path, "DROP TABLE effects")),
        ("figures", Why::Unreadable, &|path| sql(path, "DELETE FROM meta")),
        ("part", Why::Incomplete, &|path| {
            sql(path, "UPDATE meta SET value = 0 WHERE name = 'complete'");
        }),
    ];
    let lives = lives(1, 60, 40);
    let whole = || lives.iter().map(|life| put(Update::whole(life.last(), true))).collect();
    for (what, why, harm) in damage {
        let dir = tempfile::tempdir().unwrap();
        let (mut index, condition) = open(dir.path());
        assert_eq!(condition, Condition::Fresh);
        index.apply(&Batch { frame: 5, changes: whole() }).unwrap();
        index.set_complete(true).unwrap();
        index.close().unwrap();
        harm(&dir.path().join("index.db"));
        let (mut index, condition) = open(dir.path());
        assert_eq!(condition, Condition::Rebuild(*why), "{what}");
        assert!(!index.is_complete() && index.applied() == 0, "{what}");
        assert_eq!(index.runs_after(None, true, 9).unwrap(), [], "{what}");
        index.apply(&Batch { frame: 6, changes: whole() }).unwrap();
        assert_eq!(index.runs_after(None, true, 100).unwrap().len(), 60, "{what}");
    }
}

fn overwrite(path: &Path, from: usize, to: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[from..to].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_file_is_its_owners_alone_and_has_no_shared_memory() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    index.apply(&Batch { frame: 1, changes: Vec::new() }).unwrap();
    assert!(!dir.path().join("index.db-shm").exists());
    for name in ["index.db", "index.db-wal"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// All pages of a list, with something done between them.
fn pages(
    index: &mut Index,
    filter: &RunFilter,
    order: Order,
    between: &mut dyn FnMut(&mut Index),
) -> Vec<RunId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = index.runs(filter, order, 7, after.as_ref()).unwrap();
        assert!(page.rows.len() <= 7);
        found.extend(page.rows.into_iter().map(|run| run.run_id));
        let Some(next) = page.next else { return found };
        after = Some(RunPlace::parse(&next.to_string(), order).unwrap());
        between(index);
    }
}

#[test]
fn pages_stay_apart_while_rows_come_and_change() {
    for order in [Order::Newest, Order::Oldest] {
        let lives = lives(11, 100, 30);
        let dir = tempfile::tempdir().unwrap();
        let (mut index, _) = open(dir.path());
        let early = lives[..50].iter().map(|life| put(Update::whole(&life.states[0], true)));
        index.apply(&Batch { frame: 1, changes: early.collect() }).unwrap();
        let (mut newer, mut frame) = (lives[50..].iter(), 1);
        let found = pages(&mut index, &RunFilter::default(), order, &mut |index| {
            let fresh = newer.next().map(|life| put(Update::whole(life.last(), true)));
            let nth = usize::try_from(frame).unwrap();
            let known = lives.get(nth).map(|life| put(Update::whole(life.last(), true)));
            frame += 1;
            let changes = fresh.into_iter().chain(known).collect();
            index.apply(&Batch { frame, changes }).unwrap();
        });
        let once: BTreeSet<&RunId> = found.iter().collect();
        assert_eq!(once.len(), found.len(), "none twice");
        assert!(lives[..50].iter().all(|life| once.contains(&life.run)), "none left out");
        assert!(newer.len() < 45, "pages were turned");
    }
}

#[test]
fn lists_are_what_their_filters_say() {
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    let lives = lives(21, 120, 35);
    let all: Vec<Update> = lives.iter().map(|life| Update::whole(life.last(), true)).collect();
    let changes = all.iter().cloned().map(put).collect();
    index.apply(&Batch { frame: 1, changes }).unwrap();
    let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let any = RunFilter::default();
    let filters: Vec<(RunFilter, Fits)> = vec![
        (
            RunFilter { states: text(&["waiting"]), ..any.clone() },
            Box::new(|r| r.state == "waiting"),
        ),
        (
            RunFilter { states: text(&["waiting", "held"]), ..any.clone() },
            Box::new(|r| matches!(r.state, "waiting" | "held")),
        ),
        (
            RunFilter { states: text(&["completed", "held"]), ..any.clone() },
            Box::new(|r| matches!(r.state, "completed" | "held")),
        ),
        (
            RunFilter { process: Some("build".into()), ..any.clone() },
            Box::new(|r| r.process_id.as_deref() == Some("build")),
        ),
        (
            RunFilter { tags: text(&["red", "blue"]), ..any.clone() },
            Box::new(|r| ["red", "blue"].iter().all(|t| r.tags.iter().any(|tag| tag == t))),
        ),
        (
            RunFilter { parent: Some("the-parent".parse().unwrap()), ..any.clone() },
            Box::new(|r| r.parent.is_some()),
        ),
        (
            RunFilter { updated_from: Some(at(90)), updated_until: Some(at(150)), ..any.clone() },
            Box::new(|r| r.last_at >= at(90) && r.last_at < at(150)),
        ),
        (
            RunFilter { text: Some("RUN-01".into()), ..any.clone() },
            Box::new(|r| r.run_id.as_str().starts_with("run-01")),
        ),
        (RunFilter { created_from: Some(at(7)), ..any.clone() }, Box::new(|_| true)),
        (RunFilter { created_from: Some(at(8)), ..any.clone() }, Box::new(|_| false)),
        (RunFilter { created_until: Some(at(7)), ..any.clone() }, Box::new(|_| false)),
        (RunFilter { created_until: Some(at(8)), ..any }, Box::new(|_| true)),
    ];
    for (filter, admits) in filters {
        let mut right: Vec<RunId> =
            all.iter().filter(|u| admits(&u.run)).map(|u| u.run.run_id.clone()).collect();
        let oldest = pages(&mut index, &filter, Order::Oldest, &mut |_| ());
        assert_eq!(oldest, right, "{filter:?}");
        right.reverse();
        assert_eq!(pages(&mut index, &filter, Order::Newest, &mut |_| ()), right, "{filter:?}");
    }
    check_effect_lists(&index, &all);
    check_lookups(&index, &lives, &all);
}

fn check_effect_lists(index: &Index, all: &[Update]) {
    let any = EffectFilter::default();
    let filters: Vec<(EffectFilter, Admits)> = vec![
        (any.clone(), Box::new(|_, _| true)),
        (
            EffectFilter { run: Some(run_id(4)), ..any.clone() },
            Box::new(|run, _| *run == run_id(4)),
        ),
        (
            EffectFilter { kind: Some("agent".into()), ..any.clone() },
            Box::new(|_, e| e.kind == "agent"),
        ),
        (
            EffectFilter { status: Some(EffectStatus::Uncertain), ..any.clone() },
            Box::new(|_, e| e.status == EffectStatus::Uncertain),
        ),
        (
            EffectFilter {
                kind: Some("shell".into()),
                status: Some(EffectStatus::Started),
                ..any.clone()
            },
            Box::new(|_, e| e.kind == "shell" && e.status == EffectStatus::Started),
        ),
        (
            EffectFilter { worker: Some("ann".into()), ..any.clone() },
            Box::new(|_, e| e.worker.as_deref() == Some("ann")),
        ),
        (
            EffectFilter { requested_until: Some(at(70)), ..any.clone() },
            Box::new(|_, e| e.requested_at < at(70)),
        ),
        (
            EffectFilter { due_until: Some(at(90)), ..any.clone() },
            Box::new(|_, e| e.due_at.is_some_and(|due| due < at(90))),
        ),
        (EffectFilter { key: Some("ask#2".into()), ..any }, Box::new(|_, e| e.key == "ask#2")),
    ];
    for (filter, admits) in filters {
        let of = |u: &Update| {
            let run = u.run.run_id.clone();
            let open = u.open.clone().into_iter();
            open.map(move |facts| EffectRow { run_id: run.clone(), facts }).collect::<Vec<_>>()
        };
        let mut right: Vec<EffectRow> =
            all.iter().flat_map(of).filter(|row| admits(&row.run_id, &row.facts)).collect();
        right.sort_by_key(|row| (row.facts.since(), row.run_id.clone(), row.facts.effect_id));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = index.effects(&filter, 3, after.as_ref()).unwrap();
            found.extend(page.rows);
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(found, right, "{filter:?}");
        assert!(filter.run.is_some() || !found.is_empty(), "{filter:?} finds something");
    }
}

/// What could be started, and what is.
fn check_ready(index: &Index, all: &[Update]) {
    let open = || all.iter().flat_map(|u| u.open.iter().map(move |e| (&u.run.run_id, e)));
    let base = ReadyFilter {
        kind: "agent".into(),
        run: None,
        offers: vec!["gpu".into()],
        agents: Vec::new(),
    };
    let filters = [
        base.clone(),
        ReadyFilter { kind: "shell".into(), ..base.clone() },
        ReadyFilter { offers: Vec::new(), ..base.clone() },
        ReadyFilter { agents: vec!["paid".into()], ..base.clone() },
        ReadyFilter { run: Some(run_id(3)), ..base.clone() },
    ];
    let mut sizes = BTreeSet::new();
    for now in [at(60), at(400), at(9_999)] {
        for filter in &filters {
            let fits = |(run, e): &(&RunId, &EffectFacts)| {
                let Some(ready) = &e.ready else { return false };
                ready.is_due(now)
                    && e.kind == filter.kind
                    && filter.run.as_ref().is_none_or(|r| r == *run)
                    && ready.requires.iter().all(|name| filter.offers.contains(name))
                    && (filter.agents.is_empty() || ready.agent.as_deref() == Some("paid"))
            };
            let mut right: Vec<_> = open().filter(fits).collect();
            right.sort_by_key(|(run, e)| {
                let ready = e.ready.as_ref().unwrap();
                (rank(ready.at, ready.priority), (*run).clone(), e.effect_id)
            });
            let right: Vec<_> =
                right.iter().map(|(run, e)| ((*run).clone(), e.effect_id)).collect();
            let found = index.ready(filter, None, now, 1000, &|_| true).unwrap();
            assert!(!found.has_more);
            let found: Vec<_> = found.ready.into_iter().map(|r| (r.run_id, r.effect_id)).collect();
            assert_eq!(found, right, "{filter:?} {now}");
            sizes.insert(found.len());
        }
        let later = open().filter(|(_, e)| e.kind == "agent").filter_map(|(_, e)| e.ready.as_ref());
        let next = later.filter_map(|ready| ready.not_before).filter(|at| *at > now).min();
        assert_eq!(index.next_ready("agent", now).unwrap(), next);
    }
    assert!(sizes.len() > 4, "{sizes:?}");
    let started = index.started(None, 1000).unwrap();
    let right = open().filter(|(_, e)| e.status == EffectStatus::Started).count();
    assert!(started.len() == right && right > 1);
    let first = &started[0];
    let after = EffectName::of(&first.run_id, first.facts.effect_id);
    assert_eq!(index.started(Some(&after), 1000).unwrap(), started[1..]);
}

fn check_lookups(index: &Index, lives: &[Life], all: &[Update]) {
    for name in ["paid", "left", "gone"] {
        for key in [None, Some("order-0"), Some("order-2"), Some("order-9")] {
            let waits = |e: &EffectFacts| {
                let wait = e.signal.as_ref().filter(|wait| wait.name == name);
                wait.is_some_and(|w| {
                    w.correlation_key.is_none() || w.correlation_key.as_deref() == key
                })
            };
            let right: BTreeSet<(RunId, EffectId)> = (all.iter())
                .flat_map(|u| u.open.iter().map(move |e| (u, e)))
                .filter(|(_, e)| waits(e))
                .map(|(u, e)| (u.run.run_id.clone(), e.effect_id))
                .collect();
            let found = index.waiters(Some(name), key, 1000).unwrap();
            assert!(found.is_sorted());
            let found: BTreeSet<_> = found.into_iter().map(|w| (w.run_id, w.effect_id)).collect();
            assert_eq!(found, right, "{name} {key:?}");
            assert!(name == "gone" || !right.is_empty());
        }
    }
    check_ready(index, all);
    let by_key = index.waiters(None, Some("order-1"), 1000).unwrap();
    assert!(!by_key.is_empty() && index.waiters(None, None, 9).unwrap().is_empty());
    for life in lives {
        let key = life.last().idempotency.as_ref().map(|i| i.key.clone());
        if let Some(key) = key {
            assert_eq!(index.created_under(&key).unwrap().unwrap().run_id, life.run);
        }
    }
    assert_eq!(index.created_under("nobody's").unwrap(), None);
    let held = index.effects_under("k3", 1000).unwrap();
    let right = all.iter().flat_map(|u| &u.keys).filter(|key| key.key == "k3").count();
    assert!(held.len() == right && right > 0);
    assert!(held.iter().any(|(_, key)| !key.status.is_open()), "keys outlive their effects");
    let due: Vec<Timer> = index.timers(None, Some(at(120)), 1000).unwrap();
    let soon = |u: &&Update| u.run.wake_at.is_some_and(|at_| at_ <= at(120));
    assert!(!due.is_empty() && due.is_sorted() && due.len() == all.iter().filter(soon).count());
    let rest = index.timers(due.last(), None, 1000).unwrap();
    let timed = all.iter().filter(|u| u.run.wake_at.is_some()).count();
    assert_eq!(due.len() + rest.len(), timed);
}
