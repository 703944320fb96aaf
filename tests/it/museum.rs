//! The museum: every bug that was found has a test that finds it again, and guards that are taken
//! away are missed.
//!
//! Invariant: a row of `tests/museum.toml` names a test that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use dormouse::ground::sabotage::{Guard, VARIABLE};

/// Guards that tests in memory see missing, and which test does. The others need processes.
const CONTROLS: &[(Guard, &str)] = &[
    (Guard::NoSync, CRASHES),
    (Guard::NoDirsync, CRASHES),
    (Guard::SettleNoSync, DEATHS),
    (Guard::ReleaseEarly, DEATHS),
    (Guard::JournalFirst, DEATHS),
    (Guard::AppendAfterError, FAULTS),
    (Guard::RetryFsync, FAULTS),
    (
        Guard::NoDrop,
        "journal_crash::after_a_failed_sync_the_writer_is_done_and_the_next_one_copies",
    ),
    (Guard::NoChain, "journal_damage::every_flipped_bit_is_found_and_never_becomes_data"),
    (Guard::NoSeed, "journal_damage::each_case_of_the_table_is_found"),
    (Guard::NoFence, "effect_model::what_may_be_repeated_is_fenced_all_the_same"),
    (Guard::VolatileEpoch, EFFECTS),
    (Guard::RegrantStarted, EFFECTS),
];

const CRASHES: &str = "journal_crash::g1_nothing_acknowledged_is_lost_at_any_crash_point";
const DEATHS: &str = "commit_log_crash::\
    g1_nothing_acknowledged_is_lost_wherever_the_daemon_or_the_machine_dies";
const FAULTS: &str = "commit_log_crash::g1_nothing_acknowledged_is_lost_whatever_fails";
const EFFECTS: &str =
    "effect_model::nothing_is_executed_twice_without_a_decision_and_nothing_is_lost";

fn rows() -> Vec<toml::Table> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/museum.toml");
    let museum: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let rows = museum["bug"].as_array().unwrap().iter();
    rows.map(|row| row.as_table().unwrap().clone()).collect()
}

/// The file that a test stands in, by its name in the list of tests.
fn has_test(name: &str) -> bool {
    let (module, test) = name.rsplit_once("::").unwrap();
    let module = module.strip_suffix("::tests").unwrap_or(module).replace("::", "/");
    let places = ["src", "tests/it"].into_iter().flat_map(|top| {
        let suffixes = [".rs", "/mod.rs", "/tests.rs"];
        suffixes.map(|suffix| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{top}/{module}{suffix}"))
        })
    });
    let wanted = format!("#[test]\nfn {test}()");
    places.filter_map(|path| fs::read_to_string(path).ok()).any(|text| {
        let bare: Vec<&str> = text.lines().map(str::trim_start).collect();
        bare.join("\n").contains(&wanted)
    })
}

#[test]
fn s19_every_bug_has_a_test_that_exists() {
    let mut ids = BTreeSet::new();
    for row in rows() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        assert!(ids.insert(text("id")), "{} stands there twice", text("id"));
        assert!(!text("symptom").is_empty() && text("date").starts_with("20"), "{}", text("id"));
        assert!(has_test(&text("test")), "{}: there is no {}", text("id"), text("test"));
    }
    assert!(!has_test("rot::a_test_that_nobody_wrote"), "a name that is missed");
    assert!(CONTROLS.iter().all(|(_, test)| has_test(test)));
}

/// Runs one test of this program with a guard removed; true if it fails.
fn fails_without(guard: Guard, test: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env(VARIABLE, guard.name()).env("RUST_BACKTRACE", "0");
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("running 1 test"), "{said}");
    !ran.status.success() && said.contains("FAILED")
}

#[test]
fn s19_each_guard_that_is_removed_fails_its_test() {
    let next = Mutex::new(CONTROLS.iter());
    let take = || next.lock().unwrap().next();
    let work = || {
        let passes = |(guard, test): &&(Guard, &str)| !fails_without(*guard, test);
        std::iter::from_fn(take).filter(passes).collect::<Vec<_>>()
    };
    let kept: Vec<_> = std::thread::scope(|scope| {
        let two = [scope.spawn(work), scope.spawn(work)];
        two.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(kept.is_empty(), "these tests pass without the guard: {kept:?}");
}
