//! The quick form of the reliability suite, through the program as people run it, and its controls.

use crate::cli::Cli;
use dormouse::services::torture::scorecard::ROWS;

/// Plays scenarios and gives the report.
fn tortured(words: &str) -> serde_json::Value {
    let cli = Cli::new();
    let ran = cli.run(&format!("torture {words} --json"));
    let report = ran.json();
    println!("{report}");
    assert_eq!(ran.code, 0, "{report:#}");
    report
}

#[test]
fn s02_s14_nothing_is_done_twice_and_nothing_is_forgotten_in_a_storm() {
    tortured("storm");
}

#[test]
fn s01_a_daemon_that_dies_at_any_operation_keeps_its_promises() {
    tortured("crash");
}

#[test]
fn s09_s16_epochs_of_the_past_and_second_owners_are_turned_away() {
    tortured("leases locks");
}

#[test]
fn s03_what_was_promised_survives_a_power_cut_or_the_report_says_that_none_was_tried() {
    let report = tortured("cut");
    let cut = &report["scenarios"][0];
    assert!(cut["skipped"].is_string() || cut["hits"].as_u64() > Some(0), "{cut}");
}

#[test]
fn every_removed_guard_is_noticed() {
    let report = tortured("--controls");
    let controls = report["controls"].as_array().unwrap();
    let is_noticed = |seen: &serde_json::Value| {
        seen["found"].is_string() || (seen["scenario"] == "cut" && seen["skipped"].is_string())
    };
    assert!(!controls.is_empty() && controls.iter().all(is_noticed), "{report:#}");
}

#[test]
fn every_row_of_the_scorecard_has_somebody_who_proves_it() {
    for (n, row) in ROWS.iter().enumerate() {
        assert_eq!(row.id, format!("S{}", n + 1));
        assert!(!row.scenarios.is_empty() || !row.tests.is_empty(), "{}: nobody", row.id);
        for test in row.tests {
            let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(test);
            let text = std::fs::read_to_string(&place).unwrap_or_default();
            assert!(text.contains("#[test]"), "{}: {test} has no test", row.id);
        }
    }
}
