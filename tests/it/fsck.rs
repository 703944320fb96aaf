//! The check of everything names every defect that is planted, writes nothing, and finds none where
//! none is.
//!
//! Invariant under test: one planted defect, one label; what the check prints mends what it says it
//! mends.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::Value;

use crate::cli::Cli;

/// A run that has taken in one outcome and waits for the next, in a root with an index.
fn under_way() -> Cli {
    let cli = Cli::waiting();
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    cli.run("run iterate r").ok();
    cli.run("index rebuild").ok();
    cli
}

/// How a defect is planted; the first path is the run's directory, the second the root's own.
type Plant = fn(&Path, &Path);

/// What helps.
enum Cure {
    /// Nothing has to be done.
    None,
    /// The first command that the check prints.
    Printed,
    /// The same, and it says that records go: they are accepted.
    Loss,
    /// Somebody puts something back by hand.
    Hand,
}

fn journal(run: &Path) -> std::path::PathBuf {
    run.join("journal/0000000001.jsonl")
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    // A new file, as an editor makes it: pinned code is shared by link and must not change.
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Nobody vouches for records any more.
fn unwitnessed(run: &Path) {
    fs::remove_file(run.join("run.lock")).unwrap();
    fs::remove_dir_all(run.join("state")).unwrap();
}

fn lines(run: &Path, change: impl FnOnce(&mut Vec<String>)) {
    edit(&journal(run), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut all: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut all);
        *bytes = all.concat().into_bytes();
    });
}

fn mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// A sealed or checksummed file is flipped where its content stands.
fn flip(file: &Path) {
    edit(file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

const DEFECTS: &[(&str, &str, Cure, Plant)] = &[
    ("J02", "damage", Cure::Hand, |run, _| fs::remove_dir_all(run.join("journal")).unwrap()),
    ("J03", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("journal/0000000005.jsonl"), "").unwrap();
        unwitnessed(run);
    }),
    ("J10", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| {
            bytes.pop();
        });
        unwitnessed(run);
    }),
    ("J11", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| bytes.truncate(bytes.len() - 30));
        unwitnessed(run);
    }),
    ("J12", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| {
            let at = bytes.len() - 60;
            bytes[at] ^= 1;
        });
        unwitnessed(run);
    }),
    ("J13", "mendable", Cure::Printed, |run, _| {
        edit(&journal(run), |bytes| bytes.extend([0; 100]));
    }),
    ("J14", "damage", Cure::Loss, |run, _| {
        edit(&journal(run), |bytes| bytes.extend(b"one\ntwo\nthree\n"));
        unwitnessed(run);
    }),
    ("J15", "damage", Cure::Loss, |run, _| {
        edit(&journal(run), |bytes| bytes.truncate(bytes.len() - 30));
    }),
    ("J20", "damage", Cure::Loss, |run, _| {
        edit(&journal(run), |bytes| {
            let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 100;
            bytes[second] ^= 1;
        });
    }),
    ("J21", "damage", Cure::Loss, |run, _| {
        lines(run, |lines| {
            lines.remove(2);
        });
    }),
    ("J31", "damage", Cure::Hand, |run, _| {
        fs::rename(journal(run), run.join("journal/0000000002.jsonl")).unwrap();
    }),
    ("J34", "note", Cure::None, |run, _| {
        fs::write(run.join("journal/.0000000001.jsonl.tmp-1-1"), "x").unwrap();
    }),
    ("J52", "damage", Cure::Hand, |run, _| {
        edit(&run.join("process/process.js"), |bytes| bytes.extend(b"\n// other"));
    }),
    ("J61", "damage", Cure::Hand, |run, _| {
        fs::rename(run.join("run.json"), run.join("state/elsewhere.json")).unwrap();
        symlink("state/elsewhere.json", run.join("run.json")).unwrap();
    }),
    ("J62", "damage", Cure::Hand, |run, _| {
        edit(&run.join("run.json"), |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("\"formatVersion\": 1", "\"formatVersion\": 2").into_bytes();
        });
    }),
    ("D01", "mendable", Cure::Printed, |run, _| fs::remove_file(run.join("run.json")).unwrap()),
    ("D02", "mendable", Cure::Printed, |run, _| {
        edit(&run.join("run.json"), |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("false", "true").into_bytes();
        });
    }),
    ("D03", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("inputs.json"), "{\"other\":1}\n").unwrap();
    }),
    ("D04", "mendable", Cure::Printed, |run, _| {
        fs::remove_file(run.join("tasks/e0002/task.json")).unwrap();
    }),
    ("D05", "mendable", Cure::Printed, |run, _| flip(&run.join("state/cache.mpk"))),
    ("D07", "mendable", Cure::Printed, |run, _| {
        fs::write(run.join("state/state.json"), "{").unwrap();
    }),
    ("D09", "note", Cure::None, |run, _| fs::create_dir(run.join("tasks/e0099")).unwrap()),
    ("D10", "note", Cure::None, |run, _| {
        fs::create_dir_all(run.join("blobs")).unwrap();
        fs::write(run.join("blobs").join("0".repeat(64)), "x").unwrap();
    }),
    ("D11", "note", Cure::None, |run, _| {
        fs::create_dir_all(run.join("blobs")).unwrap();
        fs::write(run.join("blobs/notes.txt"), "x").unwrap();
    }),
    ("D12", "note", Cure::None, |run, _| fs::write(run.join("notes.txt"), "x").unwrap()),
    ("D13", "note", Cure::None, |run, _| {
        fs::create_dir(run.parent().unwrap().join("elsewhere")).unwrap();
    }),
    ("D14", "note", Cure::None, |run, _| fs::write(run.join(".run.json.tmp-1-1"), "x").unwrap()),
    ("D15", "note", Cure::None, |run, _| {
        edit(&run.join("run.lock"), |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("\"closed\"", "\"open\"").into_bytes();
        });
    }),
    ("D17", "mendable", Cure::Printed, |run, _| {
        mode(&run.join("tasks/e0002/task.json"), 0o666);
    }),
    ("D18", "note", Cure::None, |run, _| {
        fs::create_dir(run.join("process-0123456789abcdef")).unwrap();
    }),
    ("D19", "mendable", Cure::Hand, |_, meta| {
        fs::create_dir_all(meta.join("code").join("a".repeat(64))).unwrap();
    }),
    ("D20", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("touched")).unwrap();
        fs::write(meta.join("touched/r"), "").unwrap();
    }),
    ("D21", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("staging/x-01234567-89")).unwrap();
    }),
    ("D22", "mendable", Cure::Printed, |_, meta| {
        fs::write(meta.join("tokens.json"), "{}").unwrap();
        mode(&meta.join("tokens.json"), 0o644);
    }),
    ("D24", "mendable", Cure::Hand, |_, meta| {
        fs::write(meta.join("limits.json"), "{").unwrap();
    }),
    ("D25", "damage", Cure::Hand, |_, meta| {
        fs::create_dir_all(meta.join("archive")).unwrap();
        fs::write(meta.join("archive/x.dormouse"), "dormouse-export/1\n").unwrap();
    }),
    ("D26", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("removed")).unwrap();
        fs::write(meta.join("removed/r"), "").unwrap();
    }),
    ("D27", "note", Cure::None, |_, meta| {
        fs::create_dir_all(meta.join("removed")).unwrap();
        fs::write(meta.join("removed/x"), "").unwrap();
    }),
    ("R1", "damage", Cure::Hand, |_, meta| flip(&meta.join("root.json"))),
    ("R3", "damage", Cure::Hand, |_, meta| {
        fs::remove_file(meta.join("root.lock")).unwrap();
        fs::create_dir(meta.join("root.lock")).unwrap();
    }),
    ("R5", "damage", Cure::Hand, |run, _| mode(run.parent().unwrap(), 0o777)),
    ("X4", "mendable", Cure::Printed, |_, meta| fs::write(meta.join("index.db"), "junk").unwrap()),
    ("X6", "mendable", Cure::Printed, |run, _| copy(run, &run.with_file_name("s"))),
    ("X7", "mendable", Cure::Printed, |run, _| fs::remove_dir_all(run).unwrap()),
];

/// A run that nobody told the index about: its id stands in its records, so it is made elsewhere.
fn copy(run: &Path, to: &Path) {
    let other = Cli::waiting();
    other.run("run create --run-id s").ok();
    let from = other.root().join("s");
    let done = std::process::Command::new("cp").arg("-r").arg(&from).arg(to).status().unwrap();
    assert!(done.success() && run.exists());
}

fn labels(report: &Value) -> BTreeSet<String> {
    report["counts"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_sound_root_has_no_defect_and_nothing_is_written() {
    let cli = under_way();
    let before = cli.tree();
    let report = cli.run("fsck --json").ok().json();
    assert_eq!(report["defects"], Value::Array(vec![]), "{report:#}");
    assert_eq!((report["runs"].as_u64(), report["worst"].is_null()), (Some(1), true));
    cli.run("fsck").ok();
    cli.run("fsck r").ok();
    assert_eq!(cli.tree(), before);
}

#[test]
fn every_planted_defect_is_named_and_what_is_printed_mends_it() {
    let judged =
        DEFECTS.iter().map(|defect| (defect.0, std::panic::catch_unwind(|| try_one(defect))));
    let missed: Vec<&str> =
        judged.filter(|(_, done)| done.is_err()).map(|(label, _)| label).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

fn try_one((label, severity, cure, plant): &(&str, &str, Cure, Plant)) {
    let cli = under_way();
    plant(&cli.root().join("r"), &cli.root().join(".dormouse"));
    let before = cli.tree();
    let planted = picture(&cli);
    let exit = match *severity {
        "note" => 0,
        "mendable" => 1,
        _ => 5,
    };
    let report = cli.run("fsck --json").exits(exit).json();
    assert_eq!(cli.tree(), before, "{label}: looking changes nothing");
    let defects = report["defects"].as_array().unwrap();
    let found = defects.iter().find(|defect| defect["label"] == *label);
    let found = found.unwrap_or_else(|| panic!("{label}: {report:#}"));
    assert_eq!(found["severity"], *severity, "{label}");
    cli.run(&format!("explain {label}")).ok();
    let next = found["next"][0].as_str().unwrap_or_default();
    match cure {
        Cure::None => return,
        Cure::Hand => return assert!(!next.is_empty(), "{label}: {found:#}"),
        Cure::Printed if next.starts_with("chmod") => {
            let done = std::process::Command::new("sh").args(["-c", next]).status();
            assert!(done.unwrap().success());
        }
        Cure::Printed if next == "dormouse audit" => drop(cli.run("audit").exits(1)),
        Cure::Printed => drop(cli.run(&cured(next, "")).ok()),
        Cure::Loss => drop(cli.run(&cured(next, " --accept-loss unknown")).ok()),
    }
    let after = cli.run("fsck --json").exits(0).json();
    assert!(!labels(&after).contains(*label), "{label}: {after:#}");
    if next.contains("repair-journal") {
        cli.run("repair undo r").ok();
        let differs: Vec<_> = planted.iter().filter(|file| !picture(&cli).contains(file)).collect();
        assert!(differs.is_empty(), "{label}: {differs:#?}");
        let more = picture(&cli).into_iter().filter(|file| !planted.contains(file));
        // Whoever locks a run makes the file for it.
        let more: Vec<_> = more.filter(|(path, _)| !path.ends_with("run.lock")).collect();
        assert!(more.is_empty(), "{label}: {more:#?}");
    }
}

/// The files of the run, byte for byte, without what was set aside. An editor's copy has another
/// mode, which nobody restores.
fn picture(cli: &Cli) -> Vec<(String, String)> {
    let files = cli.tree().into_iter().filter_map(|(path, what)| {
        let (mode, bytes) = what.split_once(' ')?;
        let is_ours = path.contains("/r/") && !path.contains("quarantine") && mode != "directory";
        is_ours.then(|| (path, bytes.to_owned()))
    });
    files.collect()
}

/// The command that was printed, with what it asks for when it is run to do it.
fn cured(next: &str, loss: &str) -> String {
    let command = next.strip_prefix("dormouse ").unwrap_or_else(|| panic!("no command: {next}"));
    if command.starts_with("run repair-journal") {
        return format!("{command} --yes{loss}");
    }
    command.to_owned()
}

#[test]
fn a_run_is_checked_by_itself_wherever_it_stands() {
    let cli = under_way();
    let away = tempfile::tempdir().unwrap();
    let there = away.path().join("r");
    let from = cli.root().join("r");
    let done = std::process::Command::new("cp").arg("-r").arg(&from).arg(&there).status().unwrap();
    assert!(done.success());
    cli.run(&format!("fsck {}", there.display())).ok();
    flip(&journal(&there));
    let report = cli.run(&format!("fsck {} --json", there.display())).exits(5).json();
    assert_eq!(report["worst"], "damage");
    cli.run("fsck nobody").exits(3);
    cli.run(&format!("fsck {}", cli.root().display())).ok();
}

#[test]
fn one_damaged_run_hides_no_other() {
    let cli = under_way();
    cli.run("run create --run-id s").ok();
    flip(&journal(&cli.root().join("r")));
    fs::remove_file(cli.root().join("s/run.json")).unwrap();
    let report = cli.run("fsck --json").exits(5).json();
    let of = |run: &str| report["defects"].as_array().unwrap().iter().any(|d| d["runId"] == run);
    assert!(of("r") && of("s"), "{report:#}");
    assert_eq!(report["runs"], 2);
    let quiet = cli.run("fsck --quiet --json").exits(5).json();
    assert!(quiet["defects"].as_array().unwrap().iter().all(|d| d["severity"] != "note"));
}
